"""Fluentd or Fluent Bit by the forward protocol, with acknowledgements.

Each request carries the option `chunk`; the server says yes by sending the
same value back when it has the entries in its own buffer (forward protocol
v1). Without that answer nothing counts as stored.
"""

import base64
import hashlib
import struct
from collections.abc import Sequence

from pilot_core.logship import jsontext
from pilot_core.logship.contract import Entry, Outcome, OutcomeKind, SinkLimits
from pilot_core.logship.sinks.http import failed
from pilot_core.logship.sinks.line import Line
from pilot_core.logship.sinks.msgpack import event_time, pack, unpack
from pilot_core.logship.target import Target

__all__ = ["FluentSink"]

PORT = 24224
# What Fluentd's own out_forward sends: up to 8 MB a chunk.
LIMITS = SinkLimits(entry_bytes=1_000_000, batch_bytes=4_000_000, batch_entries=1000)
_MOST_ANSWER = 4096


class FluentSink:
    """Forwards to one server.

    Parameters
    ----------
    target
        `fluent;tcp://host:port` or `tls://`.
    logname
        The tag.
    """

    def __init__(self, target: Target, logname: str) -> None:
        self.name = f"Fluent {logname}"
        self.limits = LIMITS
        self._tag = logname
        self._line = Line(target.endpoint, port=PORT)

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:
        """Forward a batch; see `Sink.write`."""
        # The same entries have the same chunk, and an answer to others is no
        # answer.
        spoken = hashlib.blake2b("".join([e.insert_id for e in entries]).encode(), digest_size=16)
        chunk = base64.b64encode(spoken.digest()).decode()
        events = [[event_time(entry.timestamp), _record(entry)] for entry in entries]
        message = pack([self._tag, events, {"size": len(events), "chunk": chunk}])

        def forward(line: Line) -> object:
            line.send(message)
            return _answer(line)

        try:
            answer = self._line.talk(forward, timeout_s=timeout_s)
        # Values that nobody sends: a map with lists for keys, a thousand levels.
        except (OSError, ValueError, TypeError, RecursionError) as err:
            self._line.close()
            return failed(err)
        if not isinstance(answer, dict) or answer.get("ack") != chunk:
            self._line.close()
            return Outcome(OutcomeKind.RETRY, detail=f"an answer to something else: {answer!r:.100}")
        return Outcome(OutcomeKind.DELIVERED)

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        self._line.close()


def _record(entry: Entry) -> bytes:
    """The record's map, packed, with what a reader needs to tell repetitions."""
    fields = jsontext.exact(entry.payload)
    return pack({**fields, "severity": entry.severity, "insertId": entry.insert_id})


def _answer(line: Line) -> object:
    """The answer's value; ValueError if it is none.

    Raises
    ------
    OSError
        If there is no whole answer.
    """
    data = b""
    while len(data) < _MOST_ANSWER:
        data += line.receive()
        try:
            return unpack(data)[0]
        except (IndexError, struct.error):
            continue
    raise ValueError("the answer does not end")
