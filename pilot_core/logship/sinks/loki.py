"""Grafana Loki by its push API, as Rubin runs it at SLAC.

Loki knows few labels and a line: the labels name the stream, the line is the
record's JSON with its `insertId` in front. Loki drops a line that it already
has with the same time in the same stream, so a repeated request shows nothing
twice; what is read again after a kill differs in `PilotTimeStamp` alone, and a
reader tells it by its `insertId`.
"""

import http.client
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pilot_core.logship.contract import Entry, Outcome, SinkLimits
from pilot_core.logship.sinks.http import HttpPost, failed
from pilot_core.logship.target import Target

__all__ = ["LokiSink"]

_PUSH = "/loki/api/v1/push"
# Loki's own defaults: 256 KiB a line (max_line_size), 4 MiB a message.
LIMITS = SinkLimits(entry_bytes=200_000, batch_bytes=3_000_000, batch_entries=1000)
# The labels that pilot3 sets, and that queries at SLAC select by.
_LABELS = {"namespace": "usdf-panda", "env": "production"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LokiSink:
    """Pushes to one Loki.

    Parameters
    ----------
    target
        Base URL; its options are labels (`loki;https://host:port;env=test`)
        and come before the usual ones.
    logname
        Label `app`.
    """

    def __init__(self, target: Target, logname: str) -> None:
        self.name = f"Loki {logname}"
        self.limits = LIMITS
        self._labels = {**_LABELS, "app": logname, **target.options}
        self._http = HttpPost(target.endpoint)

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:
        """Push a batch; see `Sink.write`."""
        try:
            reply = self._http.post(
                _PUSH, self._body(entries), {"Content-Type": "application/json"}, timeout_s=timeout_s
            )
        except (OSError, http.client.HTTPException) as err:
            return failed(err)
        return reply.outcome

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        self._http.close()

    def _body(self, entries: Sequence[Entry]) -> bytes:
        """One stream a severity: Loki selects by label, and there are few of
        them.
        """
        streams: dict[str, list[list[str]]] = {}
        for entry in entries:
            rest = entry.payload[1:].decode()
            comma = "" if rest.strip() == "}" else ","
            line = f'{{"insertId":"{entry.insert_id}"{comma}{rest}'
            streams.setdefault(entry.severity, []).append([_nanoseconds(entry.timestamp), line])
        pushed = [
            {"stream": self._labels | {"level": severity.lower()}, "values": values}
            for severity, values in streams.items()
        ]
        return json.dumps({"streams": pushed}, ensure_ascii=False).encode()


def _nanoseconds(timestamp: str) -> str:
    microseconds = (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}000"
