"""HTTP sessions that obey the budget of the transfer they serve."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import requests
from requests.adapters import HTTPAdapter

__all__ = ["make_session", "mount"]

_PIECE = 256 * 1024

# 400 is what OAuth refuses with (RFC 6749, 5.2).
_REFUSED = (400, 401, 403)


class BudgetAdapter(HTTPAdapter):
    """Cuts each request's timeout to what is left of the transfer's budget.

    A client library takes one timeout for an upload of many requests, which
    would let the last of them run on far beyond the end. Connecting, sending
    and waiting for the answer each may take the timeout: hence the third.

    Parameters
    ----------
    left
        Seconds left to the transfer in the calling thread; raises
        `BudgetSpent`.
    stall_s
        Longest silence of a healthy service.
    refused
        Hears the Date of each answer that refuses us: our clock may be why.
    """

    def __init__(self, left: Callable[[], float], stall_s: float, refused: Callable[[str], None]) -> None:
        self._left = left
        self._stall_s = stall_s
        self._refused = refused
        super().__init__(pool_connections=4, pool_maxsize=16)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Larger pieces than urllib3's 16 KiB: half the CPU time of a large
        file.
        """
        # urllib3 1.x knows no other.
        size = {} if version("urllib3").startswith("1.") else {"blocksize": _PIECE}
        super().init_poolmanager(connections, maxsize, block, **size, **options)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        each = min(self._stall_s, self._left() / 3)
        kwargs["timeout"] = (each, each)
        answer = super().send(request, *args, **kwargs)
        if answer.status_code in _REFUSED:
            self._refused(answer.headers.get("Date", ""))
        if answer.is_redirect:
            # The library would read all of its body, however long, before it
            # goes on.
            answer.close()
        return answer


def make_session(
    left: Callable[[], float], stall_s: float, refused: Callable[[str], None] = lambda _: None
) -> requests.Session:
    """A session whose requests end with the budget; see `BudgetAdapter`."""
    session = requests.Session()
    mount(session, left, stall_s, refused)
    return session


def mount(
    session: requests.Session, left: Callable[[], float], stall_s: float, refused: Callable[[str], None]
) -> None:
    """Make a session that somebody else built obey the budget."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, BudgetAdapter(left, stall_s, refused))
