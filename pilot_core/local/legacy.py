"""The legacy dialect: `/server/panda/<method>`, forms in, urlencoded text or
JSON out.

Source: panda-server 0.8.1. An unknown or missing parameter is HTTP 500 with
Python's own words; values may be text; a body called `application/json` is
always gunzipped. Servers since 1.0.0 answer 403 to all of this.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from pilot_core.local.desk import RESOURCE_TYPES, Desk, NotGiven
from pilot_core.local.exchange import (
    Answer,
    Call,
    Exchange,
    Refusal,
    form_fields,
    gunzip,
    json_object,
    plain,
    uploads,
)
from pilot_core.local.legacy_methods import METHODS, PREFIX, Method
from pilot_core.local.rules import STATES

__all__ = ["PREFIX", "answer_code", "execute", "name_of", "read"]

NO_JOBS, WRONG_ROLE, NOT_ALLOWED, NO_PROXY = 20, 60, 70, 90
NO_ROLE = "no production/pilot role in VOMS FQANs or non pilot owner"


#: How the server reads the text of a parameter before it does anything with
#: it.
_NUMBERS: Mapping[str, Callable[[str], object]] = {
    "jobId": int,
    "attemptNr": int,
    "pilotErrorCode": int,
    "exeErrorCode": int,
    "meanCoreCount": float,
    "cpuConversionFactor": float,
}


def name_of(path: str) -> str:
    """Name of the call in a path; empty if there is none of that kind."""
    method = METHODS.get(path.removeprefix(PREFIX))
    return "" if method is None else method.name


def read(exchange: Exchange) -> Call:
    """Check a request.

    Raises
    ------
    Refusal
        With the answer of the real server.
    """
    key = exchange.path.removeprefix(PREFIX)
    method = METHODS.get(key)
    if method is None:
        raise Refusal(plain(403, f"ERROR : method {key.rsplit('/', 1)[-1]} is forbidden"))
    native = _parameters(exchange)
    if method.name == "upload":
        native = {"file": ""}
    _check_names(key, method, native)
    _check_role(method, native, exchange)
    return Call(
        name=method.name,
        dialect="legacy",
        method=key,
        args=_translate(method, native),
        native=native,
        who=exchange.who,
        wants_json=exchange.wants_json,
        files=uploads(exchange.content_type, exchange.body) if method.name == "upload" else (),
    )


def _parameters(exchange: Exchange) -> dict[str, object]:
    if exchange.method == "GET":
        return dict(form_fields(exchange.query.encode()))
    if exchange.content_type.startswith("multipart/"):
        return {}
    try:
        if exchange.content_type == "application/json":
            return json_object(gunzip(exchange.body))
        if exchange.headers.get("content-encoding") == "gzip":
            return dict(form_fields(gunzip(exchange.body)))
    except (ValueError, OSError, EOFError) as err:
        raise Refusal(plain(500, str(err))) from None
    return dict(form_fields(exchange.body))


def _check_names(key: str, method: Method, native: Mapping[str, object]) -> None:
    """The errors of a Python function that is called with the wrong arguments."""
    for name in native:
        if name not in method.params:
            raise Refusal(plain(500, f"{key}() got an unexpected keyword argument '{name}'"))
    missing = [f"'{name}'" for name in method.required if name not in native]
    if missing:
        words = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
        many = "" if len(missing) == 1 else "s"
        raise Refusal(
            plain(500, f"{key}() missing {len(missing)} required positional argument{many}: {words}")
        )


def _check_role(method: Method, native: Mapping[str, object], exchange: Exchange) -> None:
    if exchange.who.production:
        return
    if method.name == "update_worker_status":
        raise Refusal(plain(200, "failed to retrieve DN"))
    if method.name == "upload" and not exchange.who.secure:
        raise Refusal(plain(200, "ERROR : no HTTPS"))
    if method.production or (method.name == "acquire_jobs" and native.get("prodSourceLabel") != "user"):
        raise Refusal(_error(WRONG_ROLE, NO_ROLE, as_json=exchange.wants_json))


def _translate(method: Method, native: Mapping[str, object]) -> dict[str, object]:
    """Parameters under v1 names, numbers read as leniently as the server does."""
    args: dict[str, object] = {}
    for name, value in native.items():
        target = method.params[name]
        if not target or value in (None, "", "NULL"):
            continue
        if method.name == "acquire_jobs" and target in ("memory", "disk_space", "remaining_time"):
            value = _lenient(value)
        elif method.name == "acquire_jobs" and target in ("timeout", "n_jobs"):
            value = int(str(value))
        elif name in _NUMBERS:
            try:
                value = _NUMBERS[name](str(value))
            except ValueError as err:
                raise Refusal(plain(500, str(err))) from None
        args[target] = value
    if method.name == "update_job" and "stdout" in args:
        args["stdout"] = str(args["stdout"])[:2048]
    return args


def _lenient(value: object) -> int:
    try:
        return int(float(str(value)))
    except ValueError:
        return 0


def _encode(as_json: bool, content: Mapping[str, Any]) -> Answer:
    if as_json:
        return Answer(200, json.dumps(content).encode(), "application/json")
    return plain(200, urlencode(content))


def _error(code: int, dialog: str, *, as_json: bool) -> Answer:
    """The text form leaves the words out."""
    return _encode(as_json, {"StatusCode": code, **({"errorDialog": dialog} if as_json else {})})


def answer_code(call: Call, code: int) -> Answer:
    """A reply that says no with HTTP 200."""
    return _encode(call.wants_json, {"StatusCode": code})


def _acquire(desk: Desk, call: Call) -> Answer:
    jobs = desk.acquire(call.args)
    if not jobs:
        return _error(NO_JOBS, "no jobs in PanDA", as_json=call.wants_json)
    if "n_jobs" in call.args:
        return _encode(call.wants_json, {"StatusCode": 0, "jobs": jobs})
    return _encode(call.wants_json, jobs[0])


def _update(desk: Desk, call: Call) -> Answer:
    return _encode(call.wants_json, _one_update(desk, call.args))


def _one_update(desk: Desk, args: Mapping[str, object]) -> Mapping[str, object]:
    # An unknown state and a job without a number are taken for granted.
    if "job_id" not in args or args.get("job_status") not in STATES:
        return {"StatusCode": 0}
    try:
        return desk.update(args, dialect="legacy")[1]
    except ValueError as err:
        raise Refusal(plain(500, str(err))) from None


def _bulk(desk: Desk, call: Call) -> Answer:
    """The reply is encoded twice, and text/plain."""
    answers = []
    for entry in json.loads(str(call.args["job_list"])):
        missing = next((name for name in ("jobId", "state") if name not in entry), None)
        if missing:
            host = call.args.get("harvester_id")
            words = f"updateJobsInBulk {host} failed with KeyError '{missing}'"
            return plain(200, json.dumps([False, words]))
        args = _translate(METHODS["updateJob"], entry)
        answers.append({"type": "json", "content": json.dumps(_one_update(desk, args))})
    return plain(200, json.dumps([True, answers]))


def _status(desk: Desk, call: Call) -> Answer:
    found = desk.status_of(_ids(call, " "))
    words = [str(job["status"]).replace(" ", "") for job in found]
    attempts = [str(job["attempt_number"]) for job in found]
    content = {"StatusCode": 0, "status": "+".join(words), "attemptNr": "+".join(attempts)}
    return plain(200, urlencode(content))


def _check_status(desk: Desk, call: Call) -> Answer:
    return _encode(call.wants_json, {"StatusCode": 0, "data": desk.commands_of(_ids(call, ","))})


def _ids(call: Call, separator: str) -> list[int]:
    try:
        return [int(text) for text in str(call.args.get("job_ids", "")).split(separator) if text]
    except ValueError as err:
        raise Refusal(plain(500, str(err))) from None


def _worker_status(desk: Desk, call: Call) -> Answer:
    complaint = desk.worker_status(call.args)
    return plain(200, complaint) if complaint else _encode(call.wants_json, {"StatusCode": 0})


def _access_token(desk: Desk, call: Call) -> Answer:
    try:
        token = desk.access_token(call.args, call.who)
    except NotGiven as err:
        return _error(NOT_ALLOWED, str(err), as_json=call.wants_json)
    return _encode(call.wants_json, {"StatusCode": 0, "errorDialog": "", "userProxy": token})


def _proxy(desk: Desk, call: Call) -> Answer:
    try:
        return _encode(call.wants_json, {"StatusCode": 0, "userProxy": desk.proxy(call.who)})
    except NotGiven as err:
        return _error(NO_PROXY, str(err).replace("'proxy'", "proxy"), as_json=call.wants_json)


def _upload(desk: Desk, call: Call) -> Answer:
    return plain(200, desk.upload(call.files) or "True")


def _resource_types(_desk: Desk, call: Call) -> Answer:
    return _encode(call.wants_json, {"StatusCode": 0, "Returns": 0, "ResourceTypes": RESOURCE_TYPES})


_HANDLERS: Mapping[str, Callable[[Desk, Call], Answer]] = {
    "acquire_jobs": _acquire,
    "update_job": _update,
    "update_jobs_bulk": _bulk,
    "get_job_status": _status,
    "get_status": _check_status,
    "update_worker_status": _worker_status,
    "get_access_token": _access_token,
    "get_proxy": _proxy,
    "get_resource_types": _resource_types,
    "upload": _upload,
    "is_alive": lambda _desk, _call: plain(200, "alive=yes"),
}


def execute(desk: Desk, call: Call) -> Answer:
    """Do what was asked."""
    try:
        return _HANDLERS[call.name](desk, call)
    except Refusal as refusal:
        return refusal.answer
