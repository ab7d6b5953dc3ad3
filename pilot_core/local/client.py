"""What the console asks of a running local server."""

import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Client", "NoServer", "Unanswered", "find_url"]

TIMEOUT_S = 20.0


class Unanswered(Exception):
    """No server, or not the answer that was hoped for; the text is for the
    user.
    """


class NoServer(Unanswered):
    """Nobody listens there."""


class NotThere(Unanswered):
    """The server knows no such thing."""


def find_url(folder: Path) -> str:
    """URL of the server that runs on `folder`; it leaves it there when it
    starts.

    Raises
    ------
    NoServer
    """
    try:
        return (folder / "url").read_text().strip()
    except OSError:
        raise NoServer(
            f"no server runs on {folder}: start one with `pilot-local serve`, or give --url"
        ) from None


class Client:
    """Talks to one server.

    Parameters
    ----------
    ca
        PEM file with the CA of an HTTPS server; None for the system's.

    Raises
    ------
    Unanswered
        That file cannot be read.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._context: ssl.SSLContext | None = None
        if ca is not None:
            try:
                self._context = ssl.create_default_context(cafile=ca)
            except OSError as err:  # an SSLError is one
                raise Unanswered(f"{ca}: {err.strerror or err}") from None

    def submit(self, definition: Mapping[str, object]) -> int:
        """Submit a job; its PandaID."""
        return int(self._ask("/local/jobs", definition)["id"])

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs."""
        found: list[dict[str, Any]] = self._ask("/local/jobs")
        return found

    def job(self, panda_id: int) -> dict[str, Any]:
        """One job."""
        try:
            found: dict[str, Any] = self._ask(f"/local/jobs/{panda_id}")
        except NotThere:
            raise Unanswered(f"there is no job {panda_id}") from None
        return found

    def cancel(self, panda_id: int) -> bool:
        """Kill a job; False if there is none of that number that could be
        killed.
        """
        reply = self._ask("/api/v1/job/kill", {"job_ids": [panda_id]})
        return bool(reply["data"][0])

    def queues(self) -> list[str]:
        """Names of the queues."""
        return sorted(self._ask("/api/atlas/pandaqueue/query/?json"))

    def _ask(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        answer = self._open(urllib.request.Request(self.url + path, data=data, headers=headers))
        try:
            return json.loads(answer)
        except ValueError:
            raise Unanswered(f"{self.url} is no local PanDA: {answer[:80]!r}") from None

    def _open(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._context) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as err:
            with err:
                text = err.read().decode(errors="replace").strip()
            if err.code == 404:
                raise NotThere(f"{request.full_url}: not found") from None
            raise Unanswered(f"{request.full_url}: {text or err.reason}") from None
        except OSError as err:
            reason = getattr(err, "reason", err)
            kind = NoServer if isinstance(reason, ConnectionRefusedError) else Unanswered
            raise kind(f"{self.url} does not answer ({reason}): is `pilot-local serve` running?") from None
        except (http.client.HTTPException, ValueError) as err:
            raise Unanswered(f"{self.url} is no local PanDA: {type(err).__name__}: {err}") from None
