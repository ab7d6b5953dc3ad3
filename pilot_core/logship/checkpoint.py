"""How far each file has been delivered, on disk: where a restart goes on."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_core.logship.contract import Mark
from pilot_core.logship.disk import Disk

__all__ = ["Checkpoint", "Place", "fingerprint"]

log = logging.getLogger(__name__)

_VERSION = 1
# The year 2242.
_LATEST_S = 1 << 33


def fingerprint(data: bytes) -> str:
    """A few characters that stand for these bytes; the log is not copied here."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """A position in one file.

    Attributes
    ----------
    path
        The name it was found under; it may have another one by now.
    device, inode, generation
        Which file: a generation more for each replacement or truncation.
    since
        When it was seen first, epoch seconds.
    offset, part, state
        First byte not delivered; pieces delivered of an overlong line that is
        open there; what the record maker wants to know.
    seen_to, seen_print
        Fingerprint of the (up to 256) bytes before `seen_to`: is it still the
        same content?
    real
        Where the name led to, links resolved.
    over
        Nothing more was to come; kept in case it gets its name back.

    Raises
    ------
    ValueError
        If a value is none that a file can have.
    """

    path: str
    device: int
    inode: int
    generation: int = 0
    since: float = 0.0
    offset: int = 0
    part: int = 0
    state: str = ""
    seen_to: int = 0
    seen_print: str = fingerprint(b"")
    real: str = ""
    over: bool = False

    def __post_init__(self) -> None:
        words = (self.path, self.state, self.seen_print, self.real)
        numbers = (self.device, self.inode, self.generation, self.offset, self.part, self.seen_to)
        if not all(isinstance(word, str) for word in words):
            raise ValueError("text expected")
        if not all(type(number) is int and 0 <= number < 1 << 64 for number in numbers):
            raise ValueError("a number expected")
        if not isinstance(self.since, (int, float)) or not 0 <= self.since < _LATEST_S:
            raise ValueError("a time expected")
        if not self.offset <= self.seen_to < 1 << 62 or type(self.over) is not bool:
            raise ValueError("a position expected")

    @property
    def ident(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode

    def moved(self, mark: Mark, *, part: int, seen_to: int, seen_print: str) -> "Place":
        """The same file, further on."""
        return dataclasses.replace(
            self, offset=mark.offset, state=mark.state, part=part, seen_to=seen_to, seen_print=seen_print
        )


class Checkpoint:
    """The position file.

    Parameters
    ----------
    path
        None: nothing is remembered across a restart.
    disk
        Where it is.
    """

    def __init__(self, path: Path | None, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._written = ""
        self._said = False

    def load(self) -> list[Place]:
        """What an earlier life left; empty if there is nothing usable.

        Without it reading starts at the beginning again. A record with a time
        of its own has the same time and insert id then and is not seen twice,
        if the file had never been renamed or truncated; a line without a time
        gets that of the new start, and is.
        """
        if self._path is None:
            return []
        try:
            raw = json.loads(self._disk.load(self._path))
            if raw["version"] != _VERSION:
                raise ValueError(f"version {raw['version']}")
            return [Place(**item) for item in raw["places"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as err:
            log.warning("position file %s cannot be used (%s): reading from the start", self._path, err)
            return []

    def save(self, places: Sequence[Place]) -> None:
        """Remember these; nothing is written if nothing has changed.

        A disk that cannot take it does not stop the log: it is said once.
        """
        if self._path is None:
            return
        text = json.dumps({"version": _VERSION, "places": [dataclasses.asdict(p) for p in places]})
        if text == self._written:
            return
        try:
            self._disk.save(self._path, text)
            self._written = text
        except OSError as err:
            if not self._said:
                log.warning("position file %s cannot be written: %s", self._path, err)
            self._said = True
