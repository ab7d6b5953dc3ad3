"""A copy on disk of what a source on the network answered, with its name and
time.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from pilot_core.base.files import write_atomic
from pilot_core.errors import SetupError
from pilot_core.model.codes import ErrorCode

__all__ = ["Cache"]

log = logging.getLogger(__name__)


# A file's name has 255 bytes at most, and one that is being written has a few
# more than ours.
_LONGEST = 120


class Cache:
    """The copy of one document.

    Its file has a name of its own, not one of those the wrapper writes: a bad
    answer must never pass for a file that somebody put there.
    """

    def __init__(self, folder: Path, word: str, name: str) -> None:
        file = quote(name, safe="", errors="surrogatepass")
        if len(file) > _LONGEST:
            file = f"{file[:_LONGEST]}-{hashlib.sha256(file.encode()).hexdigest()[:32]}"
        self.path = folder / f"cached-{word}-{file}.json"

    @property
    def there(self) -> bool:
        """True if there is a copy, of whatever age."""
        # `Path.exists` raises where it is not allowed to look.
        return os.path.exists(self.path)

    def store(self, settings: Mapping[str, object], source: str, now: float) -> None:
        """Keep settings; where the folder is read-only, the next look asks
        again.
        """
        try:
            write_atomic(self.path, json.dumps({"source": source, "time": now, "settings": settings}))
        except (OSError, RecursionError) as err:
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
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as err:
            raise SetupError(f"{self.path}: unusable ({err})", ErrorCode.QUEUEDATA) from err
        # A copy from the future comes from a clock that was set since.
        if not isinstance(settings, dict) or not 0 <= now - time < lifetime_s:
            raise SetupError(f"{self.path}: {now - time:.0f} s old", ErrorCode.QUEUEDATA)
        return settings, f"{source} ({now - time:.0f} s ago)"
