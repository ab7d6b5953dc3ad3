"""A document over HTTP: verified TLS, bounded time, bounded size."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilot_core.base.attended import attended
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.httptime import retry_after
from pilot_core.errors import NotAuthorised, ServerBusy, ServerRefused, ServerUnreachable

if TYPE_CHECKING:
    import requests

__all__ = ["HttpFetch"]

# All queues of CRIC make about 8 MB.
MAX_BYTES = 64 * 1024 * 1024
_BLOCK = 64 * 1024


class HttpFetch:
    """Gets a URL; the `fetch` of `CricInformation`.

    Parameters
    ----------
    ca_file, ca_path
        CA bundle, or directory of hashed CA certificates; None for the
        bundle that comes with requests.
    """

    def __init__(self, *, clock: Clock, ca_file: Path | None = None, ca_path: Path | None = None) -> None:
        self._clock = clock
        chosen = ca_file or ca_path
        self._verify: bool | str = True if chosen is None else str(chosen)

    def __call__(self, url: str, timeout_s: float) -> bytes:
        """The body at `url`.

        Raises
        ------
        ServerUnreachable
            No answer, half of one, or a 5xx: may pass.
        ServerBusy
            429 or 503 with Retry-After.
        NotAuthorised, ServerRefused
            Any other status than 200, or more than `MAX_BYTES`.
        """
        budget = Budget(self._clock, timeout_s, f"answer of {urlsplit(url).netloc}")
        try:
            return attended(
                lambda: self._get(url, budget),
                name="info",
                budget=budget,
                clock=self._clock,
                stop=threading.Event(),
            )
        except BudgetSpent as err:
            raise ServerUnreachable(f"not done after {timeout_s:.0f} s") from err

    def _get(self, url: str, budget: Budget) -> bytes:
        import requests  # an idle pilot does without it

        try:
            with requests.get(url, timeout=budget.seconds / 2, verify=self._verify, stream=True) as answer:
                _check(answer)
                body = bytearray()
                for block in answer.iter_content(_BLOCK):
                    body += block
                    if len(body) > MAX_BYTES:
                        raise ServerRefused(f"answers with more than {MAX_BYTES} bytes")
                    budget.timeout(1.0)
                return bytes(body)
        except requests.exceptions.SSLError as err:
            raise ServerRefused(f"TLS: {_reason(err)}") from err
        except (requests.RequestException, OSError) as err:
            if isinstance(err, BudgetSpent):
                raise
            host = urlsplit(url).netloc
            raise ServerUnreachable(f"{host}: {type(err).__name__}: {_reason(err)}") from err


def _check(answer: "requests.Response") -> None:
    """Raise what a status other than 200 means."""
    status = answer.status_code
    if status == 200:
        return
    said = f"HTTP {status} {answer.reason}"
    asked_s = retry_after(answer.headers)
    if status in (429, 503) and asked_s is not None:
        raise ServerBusy(said, asked_s)
    if status in (408, 429) or status >= 500:
        raise ServerUnreachable(said)
    if status in (401, 403):
        raise NotAuthorised(said)
    raise ServerRefused(said)


def _reason(err: Exception) -> str:
    return " ".join(str(err).split())[:200]
