"""Grafana Loki by its push API, as Rubin runs it at SLAC.

Loki knows few labels and a line: the labels name the stream, the line is the
record's JSON with its `insertId` at the end. Loki drops a line that it already
has with the same time in the same stream, so a repeated request shows nothing
twice; what is read again after a kill differs in `PilotTimeStamp` alone, and a
reader tells it by its `insertId`.
"""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pilot_core.logship.contract import Entry, Outcome, SinkLimits
from pilot_core.logship.jsontext import exact, joined
from pilot_core.logship.sinks.doubt import PROBE, Doubt
from pilot_core.logship.sinks.http import HttpPost, failed
from pilot_core.logship.target import LABEL_KEYS, LOKI_PUSH, Target

__all__ = ["LokiSink"]

# Loki's own defaults: 256 KiB a line (max_line_size), 4 MiB a message.
LIMITS = SinkLimits(entry_bytes=200_000, batch_bytes=3_000_000, batch_entries=1000)
# The labels that pilot3 sets, and that queries at SLAC select by.
_LABELS = {"namespace": "usdf-panda", "env": "production"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Loki's own defaults: refused beyond 10 min ahead (creation_grace_period) and
# 7 d ago (reject_old_samples_max_age).
_AHEAD_NS, _AGO_NS = 9 * 60 * 10**9, (7 * 24 - 1) * 3600 * 10**9


_Labels = tuple[tuple[str, str], ...]


class LokiSink:
    """Pushes to one Loki.

    Parameters
    ----------
    target
        Base URL; its options are labels (`loki;https://host:port;env=test`)
        and come before the usual ones; `label_keys=PandaJobID,TaskID` names
        fields of a record that are labels as well.
    logname
        Label `app`.
    """

    def __init__(self, target: Target, logname: str) -> None:
        self.name = f"Loki {logname}"
        self.limits = LIMITS
        labels = {**_LABELS, "app": logname, **target.options}
        self._keys = tuple(filter(None, labels.pop(LABEL_KEYS, "").split(",")))
        self._labels = labels
        self._http = HttpPost(target.endpoint)
        self._doubt = Doubt(self._probe)

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:
        """Push a batch; see `Sink.write`."""
        end = time.monotonic() + timeout_s
        try:
            return self._doubt.settle(self._push(self._streams(entries), timeout_s), entries, end)
        except (OSError, http.client.HTTPException) as err:
            return failed(err)

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        self._http.close()

    def _push(self, streams: Mapping[_Labels, Sequence[Sequence[str]]], timeout_s: float) -> Outcome:
        """Lines (time, text) by label: Loki selects by those, and there are
        few of them.
        """
        pushed = [{"stream": self._labels | dict(k), "values": v} for k, v in streams.items()]
        body = json.dumps({"streams": pushed}, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        return self._http.post(LOKI_PUSH, body, headers, timeout_s=timeout_s).outcome

    def _streams(self, entries: Sequence[Entry]) -> dict[_Labels, list[list[str]]]:
        streams: dict[_Labels, list[list[str]]] = {}
        now = time.time_ns()
        for entry in entries:
            # At the end: of a name that stands twice the last one counts.
            line = f'{joined(entry.payload).decode()}"insertId":"{entry.insert_id}"}}'
            moment = min(max(_nanoseconds(entry.timestamp), now - _AGO_NS), now + _AHEAD_NS)
            streams.setdefault(self._stream(entry), []).append([str(moment), line])
        return streams

    def _stream(self, entry: Entry) -> _Labels:
        """The labels that are the entry's own."""
        record = exact(entry.payload) if self._keys else {}
        kept = [(key, str(record[key])) for key in self._keys if record.get(key) not in (None, "", [], {})]
        return (*kept, ("level", entry.severity.lower()))

    def _probe(self, within_s: float) -> Outcome:
        line = json.dumps({"message": PROBE})
        return self._push({(("level", "debug"),): [[str(time.time_ns()), line]]}, within_s)


def _nanoseconds(timestamp: str) -> int:
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1) * 1000
