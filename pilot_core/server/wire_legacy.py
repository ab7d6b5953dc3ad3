"""PURE: the dialect of panda-server < 1.0; later ones answer it with 403.

Requests are forms: the server takes JSON only if it is gzipped and not
labelled so. Answers are JSON where "Accept: application/json" reached the
server, else urlencoded text in which every value is a string.
"""

from pilot_core.errors import NotAuthorised, ServerUnreachable
from pilot_core.model.report import JobReport, Reply
from pilot_core.server.answer import Answer, decode, judge_code, judge_text
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

DIALECT = Dialect.LEGACY


def acquire(request: JobRequest, without: frozenset[str]) -> Request:
    """POST getJob. `JobRequest.extra` stays away: legacy servers learn no new
    words.
    """
    return Request("/server/panda/getJob", encode(ACQUIRE, request, DIALECT, without=without), form=True)


def update(report: JobReport, without: frozenset[str], lean: bool) -> Request:
    """POST updateJob."""
    body = encode(UPDATE, report, DIALECT, without=without, lean=lean)
    return Request("/server/panda/updateJob", body, form=True)


def worker(note: WorkerNote, without: frozenset[str]) -> Request:
    """POST updateWorkerPilotStatus."""
    body = encode(WORKER, note, DIALECT, without=without)
    return Request("/server/panda/updateWorkerPilotStatus", body, form=True)


def upload() -> Request:
    """POST putFile, a form with one part `file`."""
    return Request("/server/panda/putFile")


def token(key: str) -> Request:
    """GET get_access_token."""
    return Request(
        "/server/panda/get_access_token",
        method="GET",
        query={"client_name": "pilot_server", "token_key": key},
    )


def proxy(role: str) -> Request:
    """POST getProxy, as pilot3 does."""
    return Request("/server/panda/getProxy", {"role": role} if role else {}, form=True)


def read_jobs(answer: Answer) -> tuple[Definition, ...]:
    """One definition, flat at the top level, or several in `jobs`."""
    fields = _map(answer)
    if str(fields.get("StatusCode")) == "20":
        return ()
    _check(fields)
    jobs = fields.get("jobs", [fields])
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise ServerUnreachable("answer without jobs")
    if jobs == [fields] and "PandaID" not in fields:
        raise ServerUnreachable(f"StatusCode 0 without a job: {answer.text[:200]!r}")
    return tuple(jobs)


def read_update(answer: Answer) -> Reply:
    """Commands; StatusCode must be there and 0."""
    fields = _map(answer)
    _check(fields)
    return read_reply(fields)


def read_done(answer: Answer) -> None:
    """StatusCode 0."""
    _check(_map(answer))


def read_upload(answer: Answer) -> None:
    """putFile answers in words: `True`, or what went wrong."""
    if answer.status == 200 and answer.text == "True":
        return
    decode(answer)
    raise ServerUnreachable(f"unreadable answer: {answer.text[:200]!r}")


def read_credential(answer: Answer) -> str:
    """`userProxy`, of getProxy and of get_access_token."""
    fields = _map(answer)
    _check(fields)
    value = fields.get("userProxy")
    if not isinstance(value, str) or not value.strip():
        raise NotAuthorised("the server handed out an empty credential")
    return value.strip()


def _map(answer: Answer) -> dict[str, object]:
    found = decode(answer)
    if not isinstance(found, dict):
        raise ServerUnreachable(f"not an answer of a PanDA server: {answer.text[:200]!r}")
    return found


def _check(fields: dict[str, object]) -> None:
    said = str(fields.get("errorDialog") or fields.get("ErrorDiag") or "")
    error = judge_code(fields.get("StatusCode"), said)
    if error is not None:
        raise (judge_text(said) if said else None) or error
