"""The output of a container: Docker's frames taken apart, without losing a
byte.
"""

import select
from collections.abc import Iterable
from typing import Protocol

__all__ = ["STDERR", "STDOUT", "Demultiplexer", "Readable", "Sink", "ready"]

#: Stream numbers in the frame header (Docker Engine API, "Attach to a
#: container").
STDOUT, STDERR = 1, 2
_HEADER = 8


class Readable(Protocol):
    """The part of `socket.SocketIO` that is used here."""

    def fileno(self) -> int: ...
    def read(self, size: int) -> bytes | None: ...
    def close(self) -> None: ...


class Sink(Protocol):
    """Where the content goes."""

    def write(self, data: memoryview) -> object: ...


def ready(numbers: Iterable[int], timeout_s: float) -> set[int]:
    """Those file numbers that can be read without blocking (data, or the end),
    once there is one, at most after `timeout_s` seconds. Negative ones never
    are.
    """
    poll = select.poll()
    for number in numbers:
        if number >= 0:
            poll.register(number, select.POLLIN | select.POLLHUP | select.POLLERR)
    return {number for number, _ in poll.poll(timeout_s * 1000)}


class Demultiplexer:
    """Writes each frame's content to the file of its stream as it arrives.

    A frame is eight bytes, stream number, three zeros, length (big endian),
    and
    then so many bytes of content. Content is passed on in whatever pieces it
    comes: neither lines nor characters are waited for, so a line of any length
    and half a character cost nothing. Frames of other streams are skipped.
    """

    def __init__(self, stdout: Sink, stderr: Sink) -> None:
        self._sinks = {STDOUT: stdout, STDERR: stderr}
        self._header = bytearray()
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream."""
        view = memoryview(data)
        while view:
            if self._left == 0:
                view = self._feed_header(view)
                continue
            part, view = view[: self._left], view[self._left :]
            self._left -= len(part)
            sink = self._sinks.get(self._stream)
            if sink is not None:
                sink.write(part)

    @property
    def complete(self) -> bool:
        """True between two frames: nothing was cut off."""
        return self._left == 0 and not self._header

    def _feed_header(self, view: memoryview) -> memoryview:
        need = _HEADER - len(self._header)
        self._header += view[:need]
        if len(self._header) == _HEADER:
            self._stream = self._header[0]
            self._left = int.from_bytes(self._header[4:], "big")
            self._header.clear()
        return view[need:]
