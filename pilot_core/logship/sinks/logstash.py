"""Logstash: JSON over HTTP, or JSON lines over TCP or TLS.

HTTP is what to use: its status says whether Logstash has the entries. A TCP
input (`codec => json_lines`) never answers, so "yes" only means that the
bytes have left this machine; what was under way when a connection breaks is
not known to be lost, and is not sent again.
"""

import base64
import http.client
import time
from collections.abc import Mapping, Sequence

from pilot_core.base.clock import rfc3339
from pilot_core.logship.contract import Entry, Outcome, OutcomeKind, SinkLimits
from pilot_core.logship.jsontext import dumps, joined
from pilot_core.logship.sinks.doubt import PROBE, Doubt
from pilot_core.logship.sinks.http import HttpPost, failed
from pilot_core.logship.sinks.line import Line
from pilot_core.logship.target import Target

__all__ = ["LogstashSink"]

PORT = 5044
# Logstash's HTTP input takes 100 MiB; proxies before it often 10 MB or less.
LIMITS = SinkLimits(entry_bytes=1_000_000, batch_bytes=4_000_000, batch_entries=1000)


class LogstashSink:
    """Writes to one Logstash.

    Parameters
    ----------
    target
        `logstash;https://host:port` (or `http`), `logstash;tls://host:port`
        (or `tcp`).
    logname
        Field `logname` of every entry.
    secrets
        `logstash_login` and `logstash_password` of the job's `pilotSecrets`,
        under pilot3's names, for HTTP's basic authentication.
    """

    def __init__(self, target: Target, logname: str, secrets: Mapping[str, str] | None = None) -> None:
        self.name = f"Logstash {logname}"
        self.limits = LIMITS
        self._logname = logname
        over_http = target.endpoint.startswith("http")
        self._http = HttpPost(target.endpoint) if over_http else None
        self._line = None if over_http else Line(target.endpoint, port=PORT)
        self._headers = {"Content-Type": "application/json", **_login(secrets or {})}
        self._doubt = Doubt(self._probe)

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:
        """Send a batch; see `Sink.write`."""
        end = time.monotonic() + timeout_s
        documents = [_document(entry, self._logname) for entry in entries]
        try:
            if self._line is not None:
                data = b"\n".join([*documents, b""])
                self._line.talk(lambda line: line.send(data), timeout_s=timeout_s)
                return Outcome(OutcomeKind.DELIVERED)
            return self._doubt.settle(self._post(documents, timeout_s), entries, end)
        except (OSError, http.client.HTTPException) as err:
            return failed(err)

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        for connection in (self._http, self._line):
            if connection is not None:
                connection.close()

    def _post(self, documents: Sequence[bytes], timeout_s: float) -> Outcome:
        assert self._http is not None
        body = b"[" + b",".join(documents) + b"]"
        return self._http.post("/", body, self._headers, timeout_s=timeout_s).outcome

    def _probe(self, within_s: float) -> Outcome:
        now = rfc3339(time.time())
        probe = Entry(dumps({"message": PROBE}), "DEBUG", now, f"probe-{now}")
        return self._post([_document(probe, self._logname)], within_s)


def _login(secrets: Mapping[str, str]) -> dict[str, str]:
    login, password = secrets.get("logstash_login"), secrets.get("logstash_password")
    if not login or password is None:
        return {}
    pair = base64.b64encode(f"{login}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _document(entry: Entry, logname: str) -> bytes:
    """The record with Logstash's time; `insertId` may serve as Elasticsearch's
    id. At the end: of a name that stands twice the last one counts.
    """
    more = {"@timestamp": entry.timestamp, "severity": entry.severity, "insertId": entry.insert_id}
    return joined(entry.payload) + dumps({**more, "logname": logname})[1:]
