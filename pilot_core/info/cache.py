"""A copy on disk of what a source on the network answered, with its name and
time.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from pilot_core.base.files import write_atomic
from pilot_core.errors import SetupError
from pilot_core.model.codes import ErrorCode

__all__ = ["Cache"]

log = logging.getLogger(__name__)


class Cache:
    """The copy of one document.

    Its file has a name of its own, not one of those the wrapper writes: a bad
    answer must never pass for a file that somebody put there.
    """

    def __init__(self, folder: Path, word: str, name: str) -> None:
        self.path = folder / f"cached-{word}-{quote(name, safe='')}.json"

    def store(self, settings: Mapping[str, object], source: str, now: float) -> None:
        """Keep settings; where the folder is read-only, the next look asks
        again.
        """
        try:
            write_atomic(self.path, json.dumps({"source": source, "time": now, "settings": settings}))
        except OSError as err:
            log.warning("%s cannot be kept: %s", self.path, err)

    def load(self, now: float, lifetime_s: float) -> tuple[Mapping[str, object], str]:
        """Settings and their source, if the copy is younger than `lifetime_s`.

        Raises
        ------
        SetupError
            QUEUEDATA: there is none, it is too old, or it is no copy of ours.
        """
        try:
            data = json.loads(self.path.read_bytes())
            settings, source, time = data["settings"], str(data["source"]), float(data["time"])
        except FileNotFoundError as err:
            raise SetupError(f"{self.path}: not there", ErrorCode.QUEUEDATA) from err
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise SetupError(f"{self.path}: unusable ({err})", ErrorCode.QUEUEDATA) from err
        # A copy from the future comes from a clock that was set since.
        if not isinstance(settings, dict) or not 0 <= now - time < lifetime_s:
            raise SetupError(f"{self.path}: {now - time:.0f} s old", ErrorCode.QUEUEDATA)
        return settings, f"{source} ({now - time:.0f} s ago)"
