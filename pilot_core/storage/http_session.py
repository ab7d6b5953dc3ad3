"""HTTP sessions that obey the budget of the transfer they serve."""

from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter

__all__ = ["make_session", "mount"]

_PIECE = 256 * 1024


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
    """

    def __init__(self, left: Callable[[], float], stall_s: float) -> None:
        self._left = left
        self._stall_s = stall_s
        super().__init__(pool_connections=4, pool_maxsize=16)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Larger pieces than urllib3's 16 KiB: half the CPU time of a large
        file.
        """
        super().init_poolmanager(connections, maxsize, block, blocksize=_PIECE, **options)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        each = min(self._stall_s, self._left() / 3)
        kwargs["timeout"] = (each, each)
        return super().send(request, *args, **kwargs)


def make_session(left: Callable[[], float], stall_s: float) -> requests.Session:
    """A session whose requests end with the budget; see `BudgetAdapter`."""
    session = requests.Session()
    mount(session, left, stall_s)
    return session


def mount(session: requests.Session, left: Callable[[], float], stall_s: float) -> None:
    """Make a session that somebody else built obey the budget."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, BudgetAdapter(left, stall_s))
