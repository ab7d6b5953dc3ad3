"""Is this machine about to go away? Cloud preemption and announced shutdowns.

A Spot node's pod only sees SIGTERM; the metadata server says why. Batch sites
announce a shutdown in a file of the HEPiX machine features.
"""

import http.client
import math
import threading
from pathlib import Path
from urllib.parse import urlsplit

from pilot_core.base.attended import attended
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock, SystemClock

__all__ = ["PREEMPTED_URL", "PreemptionNotice", "parse_preempted", "shutdown_time"]

#: The address and not the name: elsewhere than on GCE a resolver may take its
#: time.
PREEMPTED_URL = "http://169.254.169.254/computeMetadata/v1/instance/preempted"

_FLAVOR = "Metadata-Flavor"
_SHUTDOWN_FILES = ("shutdowntime", "shutdowntime_job")


def parse_preempted(body: bytes) -> bool | None:
    """The metadata server's `TRUE` or `FALSE`; None for anything else."""
    return {b"TRUE": True, b"FALSE": False}.get(body.strip().upper())


class PreemptionNotice:
    """Asks the metadata server whether this instance is being preempted.

    Parameters
    ----------
    url
        `http://` URL of the value.
    timeout_s
        For connecting and the answer together.
    """

    def __init__(
        self, url: str = PREEMPTED_URL, *, timeout_s: float = 1.0, clock: Clock | None = None
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._path = parts.path or "/"
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()

    def preempted(self) -> bool | None:
        """True or False as the server says; None where there is no such
        server.

        One attempt: whoever asks while a pod is ending has no time for two.
        `http.client` and not `requests`: no proxy of the environment may come
        between, and nothing is imported for it.
        """
        budget = Budget(self._clock, self._timeout_s, "notice of preemption")
        never = threading.Event()
        try:
            # The socket's own timeout starts again with each byte.
            return attended(self._ask, name="preemption", budget=budget, clock=self._clock, stop=never)
        except (OSError, http.client.HTTPException, BudgetSpent):
            return None

    def _ask(self) -> bool | None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request("GET", self._path, headers={_FLAVOR: "Google"})
            answer = connection.getresponse()
            # Some other server may answer on that address; only GCE's sends
            # this back.
            if answer.status != 200 or answer.getheader(_FLAVOR) != "Google":
                return None
            return parse_preempted(answer.read(16))
        finally:
            connection.close()


def shutdown_time(folder: Path | None) -> float | None:
    """Epoch second at which the machine or the job's slot goes away, if
    announced.

    Parameters
    ----------
    folder
        $MACHINEFEATURES or $JOBFEATURES (HSF-TN-2016-02): one file per key.
        None where the site does not have it.
    """
    if folder is None:
        return None
    times = []
    for name in _SHUTDOWN_FILES:
        try:
            times.append(float((folder / name).read_text(encoding="ascii", errors="replace")))
        except (OSError, ValueError):
            continue
    return min((time for time in times if math.isfinite(time) and time > 0), default=None)
