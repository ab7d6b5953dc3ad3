"""A document over HTTP: verified TLS, bounded time, bounded size."""

import threading
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.download import DownloadFailed, download
from pilot_core.errors import NotAuthorised, ServerBusy, ServerError, ServerRefused, ServerUnreachable

__all__ = ["HttpFetch"]

# All queues of CRIC make about 8 MB.
MAX_BYTES = 64 * 1024 * 1024


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
        self._ca = ca_file or ca_path

    def __call__(self, url: str, timeout_s: float) -> bytes:
        """The body at `url`.

        Raises
        ------
        ServerUnreachable
            No answer, half of one, 408, 429 or a 5xx: may pass.
        ServerBusy
            The same with Retry-After.
        NotAuthorised, ServerRefused
            Any other status than 200, or more than `MAX_BYTES`.
        """
        body = bytearray()
        budget = Budget(self._clock, timeout_s, "answer")
        try:
            download(
                url,
                body.extend,
                most_bytes=MAX_BYTES,
                budget=budget,
                stop=threading.Event(),
                ca=self._ca,
            )
        except DownloadFailed as err:
            raise _meaning(err) from err
        except BudgetSpent as err:
            raise ServerUnreachable(f"not done after {timeout_s:.0f} s") from err
        return bytes(body)


def _meaning(err: DownloadFailed) -> ServerError:
    if err.again_s:
        return ServerBusy(str(err), err.again_s)
    if err.again_s is not None:
        return ServerUnreachable(str(err))
    return (NotAuthorised if err.status in (401, 403) else ServerRefused)(str(err))
