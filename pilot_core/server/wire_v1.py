"""PURE: the dialect of panda-server >= 1.0, `/api/v1/`.

Strictly typed JSON in an envelope `{"success", "message", "data"}`. HTTP 200
does not mean accepted: `success` and, where there is one, `StatusCode` decide.
"""

from collections.abc import Mapping

from pilot_core.errors import NotAuthorised, ServerRefused, ServerUnreachable
from pilot_core.model.report import JobReport, Reply
from pilot_core.server.answer import Answer, FieldRefused, decode, judge_code, judge_text
from pilot_core.server.commands import read_reply
from pilot_core.server.contract import JobRequest
from pilot_core.server.field import Dialect, encode
from pilot_core.server.fields import ACQUIRE, UPDATE, WORKER, WorkerNote
from pilot_core.server.wire import Definition, Request

__all__ = [
    "DIALECT",
    "acquire",
    "proxy",
    "read_credential",
    "read_done",
    "read_jobs",
    "read_update",
    "read_upload",
    "token",
    "update",
    "upload",
    "worker",
]

DIALECT = Dialect.V1


def acquire(request: JobRequest, without: frozenset[str]) -> Request:
    """POST pilot/acquire_jobs.

    `timeout` and `n_jobs` stay at the server's defaults of 60 s and 1: with a
    timeout of 10 s or less the server never hands out a job (1.0.3).
    """
    body = encode(ACQUIRE, request, DIALECT, without=without)
    extra = {name: value for name, value in request.extra.items() if name not in without}
    return Request("/api/v1/pilot/acquire_jobs", {**extra, **body})


def update(report: JobReport, without: frozenset[str], lean: bool) -> Request:
    """POST pilot/update_job."""
    return Request("/api/v1/pilot/update_job", encode(UPDATE, report, DIALECT, without=without, lean=lean))


def worker(note: WorkerNote, without: frozenset[str]) -> Request:
    """POST pilot/update_worker_status."""
    return Request("/api/v1/pilot/update_worker_status", encode(WORKER, note, DIALECT, without=without))


def upload() -> Request:
    """POST file_server/upload_cache_file, a form; 100 MB for a name in `.out`."""
    return Request("/api/v1/file_server/upload_cache_file")


def token(key: str) -> Request:
    """GET creds/get_access_token; `pilot_server` is the client pilots are
    known as.
    """
    return Request(
        "/api/v1/creds/get_access_token",
        method="GET",
        query={"client_name": "pilot_server", "token_key": key},
    )


def proxy(role: str) -> Request:
    """GET creds/get_proxy; `dn` stays away: the proxy is to be our own."""
    return Request("/api/v1/creds/get_proxy", method="GET", query={"role": role} if role else {})


def read_jobs(answer: Answer) -> tuple[Definition, ...]:
    """Definitions out of `data.jobs`."""
    success, message, data = _envelope(answer)
    if not success and "no jobs in panda" in message.lower():
        return ()
    fields = _data(success, message, data)
    code = fields.get("StatusCode")
    if str(code) == "20":
        return ()
    error = judge_code(code, message)
    if error is not None:
        raise error
    jobs = (
        fields["jobs"] if isinstance(fields.get("jobs"), list) else [fields] if "PandaID" in fields else None
    )
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise ServerUnreachable("answer without jobs")
    return tuple(jobs)


def read_update(answer: Answer) -> Reply:
    """Commands out of `data`; StatusCode must be there and 0."""
    success, message, data = _envelope(answer)
    if "Failed to add meta_data" in message:
        # The job is no longer in the active tables; without metadata the
        # server answers in words what to do about that.
        raise FieldRefused(message, "meta_data", always=False)
    fields = _data(success, message, data)
    error = judge_code(fields.get("StatusCode"), message)
    if error is not None:
        raise error
    return read_reply(fields)


def read_done(answer: Answer) -> None:
    """Only `success` counts: these calls answer with data null."""
    success, message, data = _envelope(answer)
    if not success:
        raise _refusal(message, data)


read_upload = read_done


def read_credential(answer: Answer) -> str:
    """`data.user_proxy`, of get_proxy and of get_access_token."""
    value = _data(*_envelope(answer)).get("user_proxy")
    if not isinstance(value, str) or not value.strip():
        raise NotAuthorised("the server handed out an empty credential")
    return value.strip()


def _envelope(answer: Answer) -> tuple[bool, str, object]:
    found = decode(answer)
    if not isinstance(found, dict) or not isinstance(found.get("success"), bool):
        raise ServerUnreachable(f"not an answer of a PanDA server: {answer.text[:200]!r}")
    return found["success"], str(found.get("message") or ""), found.get("data")


def _data(success: bool, message: str, data: object) -> Mapping[str, object]:
    """The map in `data` of a request that succeeded."""
    if not success:
        raise _refusal(message, data)
    if not isinstance(data, dict):
        raise ServerUnreachable(f"success without data: {message!r}")
    return data


def _refusal(message: str, data: object) -> Exception:
    known = judge_text(message)
    if known is None and isinstance(data, dict) and "StatusCode" in data:
        known = judge_code(data["StatusCode"], message)
    return known or ServerRefused(message or "refused without a word", unclear=True)
