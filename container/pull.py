"""Images: pulled only if they are not there, with progress and the daemon's
own words.

The SDK's `images.pull` throws the daemon's error lines away; the low-level
call hands out each line, an error being a line like any other under HTTP 200.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from container.docker_api import Daemon, Refused
from container.errors import Cancelled, EngineError, EngineUnavailable, ImageError, image_error
from container.spec import PullProgress
from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.inbox import Inbox
from pilot_core.base.scope import Scope

__all__ = ["Layers", "ensure_image"]

log = logging.getLogger(__name__)

# Seconds until a cancel or the end of the time is noticed.
_LOOK_S = 0.2

# A line of the daemon, or the exception that came instead of one.
_Line = Mapping[str, Any] | BaseException
_END: _Line = {"end": True}


class Layers:
    """Adds up progress lines; a line tells of one layer.

    `Downloading` lines carry bytes done and in all; layers that the node has
    already say `Already exists`.
    """

    _DONE = ("Pull complete", "Already exists")

    def __init__(self) -> None:
        self._status: dict[str, str] = {}
        self._bytes: dict[str, tuple[int, int]] = {}

    def feed(self, line: Mapping[str, Any]) -> PullProgress | None:
        """Take a line; where things stand now, or None if it is not about a
        layer.
        """
        layer, status = str(line.get("id", "")), str(line.get("status", ""))
        if not layer or status.startswith("Pulling from"):
            return None
        self._status[layer] = status
        detail = line.get("progressDetail") or {}
        if status == "Downloading" and "total" in detail:
            self._bytes[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif status in ("Download complete", "Pull complete") and layer in self._bytes:
            total = self._bytes[layer][1]
            self._bytes[layer] = (total, total)
        done = sum(text in self._DONE for text in self._status.values())
        sizes = self._bytes.values()
        return PullProgress(
            layers_done=done,
            layers=len(self._status),
            bytes_done=sum(now for now, _ in sizes),
            bytes=sum(total for _, total in sizes),
            text=f"{layer}: {status}",
        )


def ensure_image(
    daemon: Daemon,
    image: str,
    *,
    timeout_s: float,
    on_progress: Callable[[PullProgress], None],
    cancelled: threading.Event,
    clock: Clock,
) -> bool:
    """See `Engine.ensure_image`; True if it had to be pulled."""
    try:
        daemon.call(f"image {image}", lambda api: cast(Any, api).inspect_image(image))
        return False
    except Refused as err:
        if not err.missing:
            raise ImageError(str(err)) from err
    budget = Budget(clock, timeout_s, f"pull of {image}")
    pull = _Pull(daemon, image)
    with Scope("pull", join_s=2.0, on_death=lambda _name, err: pull.lines.put(err), clock=clock) as scope:
        scope.spawn("read", pull.read)
        try:
            _follow(pull.lines, image, budget, on_progress, cancelled)
        finally:
            pull.close()
    return True


def _follow(
    lines: Inbox[_Line],
    image: str,
    budget: Budget,
    on_progress: Callable[[PullProgress], None],
    cancelled: threading.Event,
) -> None:
    """Read until the pull is over, one way or another."""
    layers = Layers()
    last = "the daemon has said nothing yet"
    while True:
        if cancelled.is_set():
            raise Cancelled(f"pull of {image} was cancelled: {last}")
        if budget.spent:
            raise ImageError(f"{image}: not here after {budget.seconds:g} s: {last}")
        line = lines.get(min(_LOOK_S, budget.left))
        if line is None:
            continue
        if line is _END:
            return
        if isinstance(line, BaseException):
            raise _as_image_error(image, line) from line
        if "error" in line:
            raise _error(image, str(line["error"]))
        progress = layers.feed(line)
        if progress is not None:
            last = progress.text
            on_progress(progress)


def _as_image_error(image: str, error: BaseException) -> EngineError:
    if isinstance(error, Refused):
        return _error(image, str(error))
    if isinstance(error, EngineUnavailable):
        return error
    return ImageError(f"{image}: {type(error).__name__}: {error}")


def _error(image: str, words: str) -> ImageError:
    return image_error(words, f"{image}: {words}")


class _Pull:
    """The request, read by a thread because nothing else can be done while
    reading.
    """

    def __init__(self, daemon: Daemon, image: str) -> None:
        self.lines: Inbox[_Line] = Inbox()
        self._daemon = daemon
        self._image = image
        self._closed = threading.Event()
        self._answer: Any = None
        self._client: Any = None

    def read(self) -> None:
        """Pass each line on; returns at the end, at an error, or after
        `close`.
        """
        try:
            self._daemon.call(f"pull {self._image}", lambda _api: self._read())
        except EngineError as err:
            if not self._closed.is_set():
                self.lines.put(err)

    def _read(self) -> None:
        self._client = client = self._daemon.open(timeout_s=self._daemon.call_s)
        try:
            # The SDK hides the answer, which is what can be shut from outside.
            client.hooks["response"].append(self._keep)
            for line in client.pull(self._image, stream=True, decode=True):
                self.lines.put(line)
                if self._closed.is_set():
                    return
            self.lines.put(_END)
        finally:
            # Closing the client alone leaves a connection open that is in use.
            if self._answer is not None:
                self._answer.close()
            client.close()

    def _keep(self, answer: Any, **_kwargs: Any) -> None:
        self._answer = answer

    def close(self) -> None:
        """Close the connection: the daemon gives up a pull that nobody listens
        to.
        """
        self._closed.set()
        raw = getattr(self._answer, "raw", None)
        if raw is not None:
            # A reader that waits for data is woken by a shutdown, not by a
            # close; urllib3 refuses to shut what has been read to its end.
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                getattr(raw, "shutdown", raw.close)()
