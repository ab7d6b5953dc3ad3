"""Entries on a stream, one JSON line each: for a pod whose stdout is
collected.
"""

import sys
from collections.abc import Sequence
from typing import BinaryIO

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind, SinkLimits
from pilot_core.logship.sinks.jsonline import log_entry

__all__ = ["StdoutSink"]


class StdoutSink:
    """JSON lines in the shape of Cloud Logging's LogEntry.

    Parameters
    ----------
    stream
        Where to; the process's stdout if None. Not closed by `close`.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self.name = "stdout"
        self.limits = SinkLimits()
        self._stream = sys.stdout.buffer if stream is None else stream

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:  # noqa: ARG002 - a pipe has none
        """Write a batch; see `Sink.write`."""
        try:
            self._stream.write(b"".join([log_entry(entry) + b"\n" for entry in entries]))
            self._stream.flush()
        except (OSError, ValueError) as err:  # ValueError: the stream was closed
            return Outcome(OutcomeKind.DENIED, detail=f"stdout: {err}")
        return Outcome(OutcomeKind.DELIVERED)

    def close(self) -> None:
        """The stream belongs to the process: nothing to do."""
