"""Cloud Logging by `entries:write` over REST, synchronous and in batches.

The client library's background handler forgets a batch that failed and takes
a hundred times the CPU; here the records' own bytes are spliced into the
request. What the library is good at, credentials, project, endpoint and
resource, is left to it (`google_access`).
"""

import http.client
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pilot_core.base.httptime import LONGEST_RETRY_AFTER_S
from pilot_core.logship.contract import Entry, Outcome, OutcomeKind, SinkLimits
from pilot_core.logship.resource import PodFacts, Resource
from pilot_core.logship.sinks.doubt import Doubt
from pilot_core.logship.sinks.google_access import (
    Access,
    AccessDenied,
    AccessLater,
    AnonymousAccess,
    LibraryAccess,
)
from pilot_core.logship.sinks.http import HttpPost, Reply, failed
from pilot_core.logship.target import Target

__all__ = ["GoogleSink"]

log = logging.getLogger(__name__)

_PATH = "/v2/entries:write"
# The service counts 256 KiB an entry, all of its fields, and 10 MiB a request
# (Cloud Logging quotas); 1000 entries is what Google's own agents send.
LIMITS = SinkLimits(entry_bytes=240_000, batch_bytes=8_000_000, batch_entries=1000)
# google.rpc.Code of a refused entry: the batch has to come again for these,
# ...
_AGAIN = frozenset((1, 2, 4, 8, 10, 13, 14))
# ... and for these (PERMISSION_DENIED, UNAUTHENTICATED) somebody has to act.
_DENIED = frozenset((7, 16))
_EXHAUSTED = 8
_LOCAL_PROJECT = "local"


class GoogleSink:
    """Writes to one log of Google Cloud Logging.

    Nothing is asked of any network before the first `write`.

    Parameters
    ----------
    target
        Without an endpoint Google itself, with one anonymously that; its
        option
        `credentials=default` brings the credentials to an endpoint of one's
        own.
    logname
        Log id (`Panda-RubinLog`).
    labels
        Labels of every entry; at most 64, short.
    facts
        For the monitored resource.
    project
        Overrides the project of the credentials.
    access
        Where credentials come from, if not from the library.
    """

    def __init__(
        self,
        target: Target,
        logname: str,
        *,
        labels: Mapping[str, str] | None = None,
        facts: PodFacts | None = None,
        project: str | None = None,
        access: Access | None = None,
    ) -> None:
        self.name = f"Cloud Logging {logname}"
        self.limits = LIMITS
        if access is None and target.options.get("credentials") == "default":
            access = LibraryAccess(project, target.endpoint)
        elif access is None and target.endpoint:
            access = AnonymousAccess(target.endpoint, project or _LOCAL_PROJECT)
        self._access: Access = access or LibraryAccess(project)
        self._logname = logname
        self._labels = dict(labels or {})
        self._facts = facts or PodFacts()
        self._http: HttpPost | None = None
        self._head = b""
        self._probe = b""
        self._renew = False
        self._refusals = 0
        self._doubt = Doubt(lambda within_s: self._post(self._probe, within_s).outcome)

    def write(self, entries: Sequence[Entry], *, timeout_s: float) -> Outcome:
        """Store a batch; see `Sink.write`."""
        end = time.monotonic() + timeout_s
        parts = [b""]
        for payload, severity, timestamp, insert_id in entries:
            parts.append(payload)
            parts.append(
                f',"severity":"{severity}","timestamp":"{timestamp}","insertId":"{insert_id}"'
                '},{"jsonPayload":'.encode()
            )
        try:
            self._connect()
            parts[0] = self._head
            parts[-1] = parts[-1][: -len(b',{"jsonPayload":')] + b"]}"
            reply = self._post(b"".join(parts), timeout_s)
            outcome = _outcome(reply)
            if outcome.rejected and outcome.kind is OutcomeKind.RETRY:
                outcome = self._doubt.insist(outcome, entries, end)
            else:
                outcome = self._doubt.settle(outcome, entries, end)
        except AccessDenied as err:
            return Outcome(OutcomeKind.DENIED, detail=str(err))
        except AccessLater as err:
            return Outcome(OutcomeKind.RETRY, detail=str(err))
        except (OSError, http.client.HTTPException) as err:
            return failed(err)
        return self._after(reply, outcome)

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        if self._http is not None:
            self._http.close()

    def _connect(self) -> None:
        if self._http is not None:
            return
        url, facts = self._access.connect(self._facts)
        resource = Resource.of(facts)
        envelope: dict[str, Any] = {
            "logName": f"projects/{facts.project}/logs/{quote(self._logname, safe='')}",
            "resource": {"type": resource.type, "labels": dict(resource.labels)},
            "labels": self._labels,
            "partialSuccess": True,
        }
        opened = json.dumps(envelope).encode()[:-1]
        self._head = opened + b',"entries":[{"jsonPayload":'
        self._probe = opened + b',"dryRun":true,"entries":[{"textPayload":"probe"}]}'
        self._http = HttpPost(url)

    def _post(self, body: bytes, timeout_s: float) -> Reply:
        assert self._http is not None
        headers = {"Content-Type": "application/json"}
        headers |= self._access.headers(renew=self._renew, timeout_s=timeout_s)
        self._renew = False
        return self._http.post(_PATH, body, headers, timeout_s=timeout_s)

    def _after(self, reply: Reply, outcome: Outcome) -> Outcome:
        """A refused token is renewed at once; refused again, somebody has to
        act.
        """
        if reply.status != 401:
            self._refusals = 0
            return outcome
        self._renew = True
        self._refusals += 1
        if self._refusals == 1:
            return Outcome(OutcomeKind.RETRY, detail=outcome.detail)
        return outcome


def _outcome(reply: Reply) -> Outcome:
    """What the service said; the per-entry errors of a partial success come
    first.
    """
    if 200 <= reply.status < 300:
        return Outcome(OutcomeKind.DELIVERED)
    error = _error(reply.body)
    details = [d for d in error.get("details") or () if isinstance(d, dict)]
    wait = max([reply.retry_after_s, *(_seconds(d.get("retryDelay")) for d in details)])
    each = _refused(details)
    if each:
        codes = {code for status in each.values() if isinstance(code := status.get("code"), int)}
        if _EXHAUSTED in codes:
            return Outcome(reply.exhausted, detail=reply.detail, retry_after_s=wait)
        if codes & _AGAIN:
            again = {i: str(s.get("message", "")) for i, s in each.items() if s.get("code") in _AGAIN}
            return Outcome(OutcomeKind.RETRY, rejected=again, detail=reply.detail, retry_after_s=wait)
        if codes & _DENIED:
            return Outcome(OutcomeKind.DENIED, detail=reply.detail)
        rejected = {index: str(status.get("message", "refused")) for index, status in each.items()}
        return Outcome(OutcomeKind.DELIVERED, rejected=rejected, detail=reply.detail)
    return Outcome(reply.kind, detail=reply.detail, retry_after_s=wait)


def _refused(details: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Number of an entry to its google.rpc.Status; whatever else is said in
    its place is nothing.
    """
    errors: dict[str, Any] = next(
        (d["logEntryErrors"] for d in details if isinstance(d.get("logEntryErrors"), dict)), {}
    )
    return {
        int(index): status
        for index, status in errors.items()
        if len(index) < 10 and index.isascii() and index.isdecimal() and isinstance(status, dict)
    }


def _error(body: bytes) -> dict[str, Any]:
    """The `error` object of google.rpc.Status in JSON; empty if there is none."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _seconds(duration: object) -> float:
    """google.protobuf.Duration in JSON (`"1.5s"`) of a RetryInfo; 0 without
    one.
    """
    try:
        seconds = float(str(duration).removesuffix("s")) if duration else 0.0
    except ValueError:
        return 0.0
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S)
