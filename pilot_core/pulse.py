"""A file that shows that the pilot's main loop turns: probes and watchdogs
look at it.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.base.files import write_atomic

__all__ = ["FILE_NAME", "Pulse"]

log = logging.getLogger(__name__)

#: pilot3's name and keys, which scripts at the sites read.
FILE_NAME = "pilot_heartbeat.json"

#: Written at most so often; a probe should allow a multiple of it.
PERIOD_S = 10.0

#: A line in the log at least so often, however quiet the payload is: the old
#: probe on GKE kills a pod whose worker log did not move for 10 minutes, and
#: ATLAS's wrapper a pilot whose log stands still for an hour.
SAY_S = 300.0


class Pulse:
    """Called by the main loop; a thread of its own would beat on when the loop
    hangs.

    Parameters
    ----------
    vitals
        Numbers to be written beside the beat (`vitals.py`).
    """

    def __init__(
        self, home: Path, clock: Clock, *, vitals: Callable[[], Mapping[str, float]] | None = None
    ) -> None:
        self._path = home / FILE_NAME
        self._clock = clock
        self._vitals = vitals
        self._born = clock.monotonic()
        self._last: float | None = None
        self._said = self._born
        self._longest = 0.0

    def beat(self) -> None:
        """The loop turned; writes the file if the last one is old enough."""
        # Not the time of day: after that was set back no beat would come for
        # as long.
        now = self._clock.monotonic()
        gap = 0.0 if self._last is None else now - self._last
        if self._last is not None and gap < PERIOD_S:
            return
        self._longest = max(self._longest, gap)
        self._last = now
        if now - self._said >= SAY_S:
            self._said = now
            log.info("the pilot is well, %.0f min old", (now - self._born) / 60)
        document: dict[str, object] = {
            "last_pilot_update": int(self._clock.time()),
            "time_since_detection": int(gap),
            "max_diff_time": int(self._longest),
        }
        if self._vitals is not None:
            document["vitals"] = self._vitals()
        try:
            write_atomic(self._path, json.dumps(document))
        except OSError as err:
            # A full disk must not end the pilot; the disk monitor will say so.
            log.warning("%s: %s", self._path, err)
