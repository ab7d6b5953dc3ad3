"""The v1 dialect: `/api/v1/<module>/<method>`, strictly typed and closed.

Source: panda-server 1.0.3. Refusals come with HTTP 200 and `success` false;
an unknown parameter or a float where an int belongs costs the whole request.
"""

import json
from collections.abc import Callable, Mapping

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
    query_lists,
    uploads,
)
from pilot_core.local.rules import STATES
from pilot_core.local.store import NoSuchJob
from pilot_core.local.v1_methods import METHODS, PREFIX, REQUIRED, TYPES, Param

__all__ = ["PREFIX", "answer_code", "execute", "name_of", "read"]


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
        raise Refusal(plain(403, f"ERROR : method {exchange.path.rsplit('/', 1)[-1]} is forbidden"))
    args = _arguments(exchange)

    def refuse(message: str) -> Refusal:
        return Refusal(_envelope(exchange.wants_json, False, message))

    if method.secure and not exchange.who.secure:
        raise refuse("SSL secure connection is required")
    if method.production and not exchange.who.production:
        raise refuse("production or pilot role required")
    if method.http != exchange.method:
        raise refuse(f"expecting {method.http}, received {exchange.method}")
    complaint = _check(method.params, args, cast=exchange.method == "GET")
    if complaint:
        raise refuse(complaint)
    if (
        method.name == "acquire_jobs"
        and not exchange.who.production
        and args.get("prod_source_label") != "user"
    ):
        raise refuse("no production/pilot role in VOMS FQANs or non pilot owner")
    given = {name: value for name, value in args.items() if value is not None}
    return Call(
        name=method.name,
        dialect="v1",
        method=key,
        args=given,
        native=args,
        who=exchange.who,
        wants_json=exchange.wants_json,
        files=uploads(exchange.content_type, exchange.body) if method.name == "upload" else (),
    )


def _arguments(exchange: Exchange) -> dict[str, object]:
    if exchange.method == "GET":
        return dict(query_lists(exchange.query))
    try:
        zipped = exchange.headers.get("content-encoding") == "gzip"
        body = gunzip(exchange.body) if zipped else exchange.body
        if exchange.content_type == "application/json":
            return json_object(body)
    except (ValueError, OSError, EOFError) as err:
        raise Refusal(plain(500, f"ERROR : received invalid JSON : {err}")) from None
    if exchange.content_type.startswith("multipart/"):
        return {}
    return dict(form_fields(body))


def _check(params: Mapping[str, Param], args: dict[str, object], *, cast: bool) -> str:
    """What is wrong with the arguments; a query's values are cast in place."""
    for name, param in params.items():
        if param.default is REQUIRED and name not in args:
            return f"Argument error: missing a required argument: '{name}'"
    for name in args:
        if name not in params:
            return f"Argument error: got an unexpected keyword argument '{name}'"
    for name, param in params.items():
        if name not in args or args[name] == param.default:
            continue
        if cast:
            complaint = _cast(name, param, args)
            if complaint:
                return complaint
        value = args[name]
        if isinstance(value, TYPES[param.kind]):
            continue
        if param.kind == "number":
            # A slip of the real server: the complaint itself fails.
            raise Refusal(plain(500, "'types.UnionType' object has no attribute '__name__'"))
        return f"Type error: '{name}' must be of type {param.kind}, got {type(value).__name__}."
    return ""


def _cast(name: str, param: Param, args: dict[str, object]) -> str:
    values = args[name]
    assert isinstance(values, list)
    try:
        if param.kind == "list":
            args[name] = [int(value) for value in values]
        else:
            args[name] = int(values[-1]) if param.kind == "int" else values[-1]
    except ValueError:
        wanted, got = ("List", "list") if param.kind == "list" else (param.kind, "str")
        return f"Type error: '{name}' with value '{values}' could not be casted to type {wanted} from {got}."
    return ""


def _envelope(as_json: bool, success: bool, message: str = "", data: object = None) -> Answer:
    content = {"success": success, "message": message, "data": data}
    # Without `Accept: application/json` it is Python's own spelling.
    return plain(200, json.dumps(content) if as_json else repr(content))


def answer_code(call: Call, code: int) -> Answer:
    """A reply that says `success` and means no."""
    return _envelope(call.wants_json, True, "Database error", {"StatusCode": code})


Reply = tuple[bool, str, object]


def _acquire(desk: Desk, call: Call) -> Reply:
    jobs = desk.acquire(call.args)
    return (True, "", {"StatusCode": 0, "jobs": jobs}) if jobs else (False, "No jobs in PanDA", None)


def _update(desk: Desk, call: Call) -> Reply:
    return _one_update(desk, call.args)


def _one_update(desk: Desk, args: Mapping[str, object]) -> Reply:
    if args["job_status"] not in STATES:
        return False, f"Invalid job status: {args['job_status']}", {"StatusCode": 50}
    verdict, data = desk.update(args, dialect="v1")
    return True, verdict.message, data


def _bulk(desk: Desk, call: Call) -> Reply:
    answers: list[dict[str, object]] = []
    jobs = call.args["job_list"]
    assert isinstance(jobs, list)
    for entry in jobs:
        missing = next((name for name in ("job_id", "job_status") if name not in entry), None)
        if missing:
            return False, f"failed with KeyError '{missing}'", []
        complaint = _check(METHODS["pilot/update_job"].params, entry, cast=False)
        given = {name: value for name, value in entry.items() if value is not None}
        success, message, data = (False, complaint, None) if complaint else _one_update(desk, given)
        answers.append({"success": success, "message": message, "data": data})
    return True, "", answers


def _worker_status(desk: Desk, call: Call) -> Reply:
    complaint = desk.worker_status(call.args)
    return not complaint, complaint, None


def _set_command(desk: Desk, call: Call) -> Reply:
    job_id, command = int(str(call.args["job_id"])), str(call.args["command"])
    taken = desk.store.set_command(job_id, command)
    return taken, "command received" if taken else "job is being killed", None


def _set_debug(desk: Desk, call: Call) -> Reply:
    desk.store.set_debug(int(str(call.args["job_id"])), bool(call.args["mode"]))
    return False, "Succeeded", None  # sic: 1.0.3 says success false and means true


def _access_token(desk: Desk, call: Call) -> Reply:
    return True, "", {"user_proxy": desk.access_token(call.args, call.who)}


def _proxy(desk: Desk, call: Call) -> Reply:
    return True, "", {"user_proxy": desk.proxy(call.who)}


def _kill(desk: Desk, call: Call) -> Reply:
    code = call.args.get("code")
    return True, "", desk.kill(_ids(call), code=None if code is None else int(str(code)), who=call.who)


def _upload(desk: Desk, call: Call) -> Reply:
    complaint = desk.upload(call.files)
    return not complaint, complaint, None


def _ids(call: Call) -> list[int]:
    ids = call.args["job_ids"]
    assert isinstance(ids, list)
    return ids


_HANDLERS: Mapping[str, Callable[[Desk, Call], Reply]] = {
    "acquire_jobs": _acquire,
    "update_job": _update,
    "update_jobs_bulk": _bulk,
    "update_worker_status": _worker_status,
    "update_worker_node": lambda _desk, _call: (True, "Inserted new worker node.", None),
    "get_job_status": lambda desk, call: (True, "", desk.status_of(_ids(call))),
    "get_status": lambda desk, call: (True, "", desk.commands_of(_ids(call))),
    "kill": _kill,
    "set_command": _set_command,
    "set_debug_mode": _set_debug,
    "get_access_token": _access_token,
    "get_proxy": _proxy,
    "upload": _upload,
    "get_resource_types": lambda _desk, _call: (True, "", RESOURCE_TYPES),
    "is_alive": lambda _desk, _call: (True, "", None),
}


def execute(desk: Desk, call: Call) -> Answer:
    """Do what was asked."""
    try:
        success, message, data = _HANDLERS[call.name](desk, call)
    except NotGiven as err:
        success, message, data = False, str(err), None
    except NoSuchJob as err:
        success, message, data = False, f"job not found: {err}", None
    return _envelope(call.wants_json, success, message, data)
