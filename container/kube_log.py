"""PURE: a container's log as the kubelet sends it, taken apart so that a
broken stream can be taken up again without losing or doubling a line.

With `timestamps=true` each line is `<RFC 3339 with nanoseconds> <content>`.
The stamp of a line never changes, and the lines come in the order of the
kubelet's file, so a place in the log is: the stamp of the last line, how many
lines had it, and how much of a line that was cut off is written already.

What cannot be told apart: stdout and stderr, which the kubelet keeps in one
file, and a last line without a line end, which gets one.
"""

import logging
import math
import re
from collections.abc import Callable
from datetime import datetime

__all__ = ["LogLines"]

log = logging.getLogger(__name__)

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
# A stamp has at most 35 bytes; what has no space by then has no stamp.
_STAMP_BYTES = 40
# Lines of stdout and stderr are stamped by two threads of the runtime and may
# stand in the file the wrong way round, by less than this.
_DISORDER_S = 1.0
# Seconds that are asked for again, in case the node's clock is not ours.
_OVERLAP_S = 10
_ALL = 1 << 62


class LogLines:
    """Writes the content of each line once, over any number of connections.

    Parameters
    ----------
    write
        Where the content goes.
    """

    def __init__(self, write: Callable[[memoryview], object]) -> None:
        self._write = write
        # The place: stamp of the last line begun, lines with it that are
        # complete, and bytes written of one that is not.
        self._stamp = b""
        self._whole = 0
        self._part = 0
        self._cut = False
        # The connection: looking for the place, lines with its stamp seen,
        # the head of a line before its content, bytes of content to drop.
        self._seeking = False
        self._seen = 0
        self._head = bytearray()
        self._in_line = False
        self._counts = False
        self._drop = 0

    @property
    def place(self) -> tuple[bytes, int, int]:
        """How far it has come; changes with everything that is written."""
        return self._stamp, self._whole, self._part

    def begin(self) -> None:
        """A new connection, which may send again what was written already."""
        self._seeking = bool(self._stamp)
        self._seen = 0
        self._head.clear()
        self._in_line = False

    def since_s(self, now: float) -> int | None:
        """Seconds back to ask for, at epoch second `now`; None for all."""
        if not self._stamp:
            return None
        return max(1, math.ceil(now - _seconds(self._stamp)) + _OVERLAP_S)

    def feed(self, data: bytes) -> None:
        """The next piece, cut wherever the network cut it."""
        out: list[bytes] = []
        at = 0
        while at < len(data):
            if not self._in_line:
                at = self._feed_head(data, at, out)
                continue
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            self._content(data[at:stop], out)
            if end >= 0:
                self._end_line()
            at = stop
        if out:
            self._write(memoryview(b"".join(out)))

    def _feed_head(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Collect what stands before the content; where to go on."""
        limit = at + _STAMP_BYTES - len(self._head)
        ends = [end for end in (data.find(b" ", at, limit), data.find(b"\n", at, limit)) if end >= 0]
        stop = min(ends, default=limit)
        self._head += data[at:stop]
        at = min(stop, len(data))
        if ends:
            at += data[at : at + 1] == b" "
        elif len(self._head) < _STAMP_BYTES:
            return at
        head = bytes(self._head)
        self._head.clear()
        self._in_line = True
        if _STAMP.fullmatch(head):
            self._begin_line(head, out)
        else:
            # The kubelet's own words, such as "unable to retrieve container
            # logs": nothing that the payload printed.
            log.warning("in place of a log line: %s", head.decode("utf-8", "replace"))
            self._counts, self._drop = False, _ALL
        return at

    def _begin_line(self, stamp: bytes, out: list[bytes]) -> None:
        self._counts, self._drop = True, 0
        if self._seeking and self._before(stamp):
            self._counts, self._drop = False, _ALL
            return
        if not self._seeking and self._cut:
            # The line that was cut off never came again: it ends here.
            out.append(b"\n" if self._part else b"")
            self._part, self._cut = 0, False
        if self._cut:
            self._drop = self._part
        self._seeking = False
        if stamp != self._stamp:
            self._stamp, self._whole = stamp, 0
        self._cut = True

    def _before(self, stamp: bytes) -> bool:
        """True if a line of this stamp was written by an earlier connection."""
        if stamp == self._stamp:
            self._seen += 1
            if self._seen <= self._whole:
                self._seeking = self._cut or self._seen < self._whole
                return True
            return False
        if _seconds(stamp) <= _seconds(self._stamp) + _DISORDER_S:
            return True
        log.warning("the log goes on at %s: lines before that may be lost", stamp.decode())
        self._seeking = False
        return False

    def _content(self, piece: bytes, out: list[bytes]) -> None:
        dropped = min(self._drop, len(piece))
        self._drop -= dropped
        if dropped < len(piece):
            out.append(piece[dropped:])
            self._part += len(piece) - dropped

    def _end_line(self) -> None:
        self._in_line = False
        if self._counts:
            self._whole += 1
            self._part, self._cut = 0, False


def _seconds(stamp: bytes) -> float:
    """Epoch seconds of a stamp, to the microsecond."""
    found = _STAMP.fullmatch(stamp)
    if found is None:
        return 0.0
    day, fraction, zone = found.groups()
    zone = b"+00:00" if zone == b"Z" else zone
    whole = datetime.fromisoformat((day + zone).decode()).timestamp()
    return whole + float(b"0." + (fraction or b"0"))
