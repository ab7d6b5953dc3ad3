"""Answers: recorded ones, broken ones, and any bytes at all."""

import contextlib
import json
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.base.redact import Redactor
from pilot_core.errors import NotAuthorised, ServerBusy, ServerError, ServerRefused, ServerUnreachable
from pilot_core.model.report import Command, CommandKind, Reply
from pilot_core.server import wire_legacy, wire_v1
from pilot_core.server.answer import (
    Answer,
    FieldRefused,
    MethodForbidden,
    NoSuchPath,
    NotStored,
    decode,
)
from pilot_core.server.commands import read_commands

JSON = "application/json"
JOB = {"StatusCode": 0, "PandaID": 17, "jobPars": "x"}
PAGE = b"\n<!DOCTYPE html><html><title>Sign in</title></html>"
TRACEBACK = (
    b"ERROR : Token authentication failed. Token decode failure. 'NoneType' object has no attribute\n"
    b'Traceback (most recent call last):\n  File "panda_request.py", line 36, in decode_token\n'
)


def v1(success: bool, message: str = "", data: object = None) -> Answer:
    body = json.dumps({"success": success, "message": message, "data": data})
    return Answer(200, "text/plain", body.encode())


def plain(text: str, status: int = 200) -> Answer:
    return Answer(status, "text/plain", text.encode())


@pytest.mark.parametrize(
    "answer",
    [
        v1(True, data={"StatusCode": 0, "jobs": [JOB]}),
        v1(True, data=JOB),
        # Without its Accept header the server answers in Python.
        plain(repr({"success": True, "message": "", "data": {"StatusCode": 0, "jobs": [JOB], "none": None}})),
    ],
)
def test_jobs_v1(answer: Answer) -> None:
    assert wire_v1.read_jobs(answer) == (JOB,)


@pytest.mark.parametrize(
    "answer",
    [
        v1(False, "No jobs in PanDA"),
        v1(True, data={"StatusCode": 20}),
        v1(True, data={"StatusCode": 0, "jobs": []}),
    ],
)
def test_no_jobs_v1(answer: Answer) -> None:
    assert wire_v1.read_jobs(answer) == ()


def test_jobs_legacy() -> None:
    assert wire_legacy.read_jobs(Answer(200, JSON, json.dumps(JOB).encode())) == (JOB,)
    several = json.dumps({"StatusCode": 0, "jobs": [JOB, JOB]}).encode()
    assert wire_legacy.read_jobs(Answer(200, JSON, several)) == (JOB, JOB)
    (job,) = wire_legacy.read_jobs(
        plain("StatusCode=0&PandaID=19&swRelease=&jobPars=a%3D%3D&ioIntensity=None")
    )
    assert job == {
        "StatusCode": "0",
        "PandaID": "19",
        "swRelease": "",
        "jobPars": "a==",
        "ioIntensity": "None",
    }


@pytest.mark.parametrize("text", ['{"StatusCode": 20, "errorDialog": "no jobs in PanDA"}', "StatusCode=20"])
def test_no_jobs_legacy(text: str) -> None:
    assert wire_legacy.read_jobs(plain(text)) == ()


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        (wire_v1, v1(True, data={"StatusCode": 0, "command": "NULL"})),
        (wire_v1, v1(True, data={"StatusCode": 0, "command": None})),
        (wire_legacy, Answer(200, JSON, b'{"StatusCode": 0, "command": "NULL"}')),
        (wire_legacy, plain("StatusCode=0&command=NULL")),
    ],
)
def test_an_update_without_a_command(wire: ModuleType, answer: Answer) -> None:
    assert wire.read_update(answer) == Reply()


def test_pilot_secrets_come_as_text() -> None:
    data = {"StatusCode": 0, "command": "debug", "pilotSecrets": '{"a": "b", "c": 1}'}
    reply = wire_v1.read_update(v1(True, data=data))
    assert reply.pilot_secrets == {"a": "b", "c": "1"}
    assert "'b'" not in repr(reply)
    for broken in ("{", "[1]", None, 7):
        assert wire_v1.read_update(v1(True, data={**data, "pilotSecrets": broken})).pilot_secrets == {}


# What went wrong, in the servers' own words (panda-server 1.0.3 and 0.8.1) and
# in those of what stands between.
UPDATE_ERRORS: list[tuple[ModuleType, Answer, type[ServerError]]] = [
    (wire_v1, v1(True, "Database error", {"StatusCode": 30}), NotStored),
    (wire_v1, v1(True, "", {"StatusCode": 10}), ServerUnreachable),
    (wire_v1, v1(True, "", {"StatusCode": 60}), NotAuthorised),
    (wire_v1, v1(True, "", {"StatusCode": 70}), NotAuthorised),
    (wire_v1, v1(True, "", {"StatusCode": 80}), ServerRefused),
    (wire_v1, v1(True, "", {"StatusCode": 90}), ServerRefused),
    (wire_v1, v1(True, "", {"StatusCode": 99}), ServerRefused),
    (wire_v1, v1(True, "", {"StatusCode": "many"}), ServerUnreachable),
    (wire_v1, v1(True, "", {}), ServerUnreachable),
    (wire_v1, v1(True, "", None), ServerUnreachable),
    (wire_v1, v1(False, "Invalid job status: zombie", {"StatusCode": 50}), ServerRefused),
    (wire_v1, v1(False, "something new", {"StatusCode": 50}), ServerRefused),
    (wire_v1, v1(False, "Timed out"), ServerUnreachable),
    (wire_v1, v1(False, "database error in the PanDA server"), ServerUnreachable),
    (wire_v1, v1(False, "SSL secure connection is required"), NotAuthorised),
    (wire_v1, v1(False, "production or pilot role required"), NotAuthorised),
    (wire_v1, v1(False, "Argument error: missing a required argument: 'job_status'"), ServerRefused),
    (wire_v1, v1(False, ""), ServerRefused),
    (wire_v1, plain("'types.UnionType' object has no attribute '__name__'", 500), ServerUnreachable),
    (wire_v1, plain("ERROR : method update_job is forbidden", 403), MethodForbidden),
    (wire_v1, Answer(403, "text/plain", TRACEBACK), NotAuthorised),
    (wire_v1, plain("ERROR : Token authentication failed. Unknown vo : Other", 403), NotAuthorised),
    (wire_v1, plain("", 401), NotAuthorised),
    (wire_v1, plain("Not Found", 404), NoSuchPath),
    (wire_v1, plain("Request Entity Too Large", 413), ServerRefused),
    *((wire_v1, plain("from something in between", s), ServerUnreachable) for s in (408, 421, 425, 499)),
    (wire_v1, Answer(413, "text/html", PAGE), ServerUnreachable),
    (wire_v1, Answer(302, "text/html", b""), ServerUnreachable),
    (wire_v1, Answer(502, "text/html", PAGE), ServerUnreachable),
    (wire_v1, Answer(200, "text/html", PAGE), ServerUnreachable),
    (wire_v1, Answer(200, "text/plain", PAGE), ServerUnreachable),
    (wire_v1, Answer(200, JSON, b""), ServerUnreachable),
    (wire_v1, Answer(200, JSON, b'{"success": true, "data": {"Stat'), ServerUnreachable),
    (wire_v1, Answer(200, JSON, b"[" * 100_000), ServerUnreachable),
    (wire_v1, Answer(200, JSON, b"[]"), ServerUnreachable),
    (wire_v1, plain("alive=yes"), ServerUnreachable),
    (wire_legacy, plain('{"StatusCode": 60, "errorDialog": "no production/pilot role"}'), NotAuthorised),
    (wire_legacy, plain("StatusCode=60"), NotAuthorised),
    (wire_legacy, plain("StatusCode=30"), NotStored),
    (wire_legacy, plain("ERROR : method updateJob is forbidden", 403), MethodForbidden),
    (wire_legacy, plain("updateJob() missing 1 required positional argument: 'state'", 500), ServerRefused),
    (wire_legacy, plain("invalid literal for int() with base 10: 'abc'", 500), ServerRefused),
    (wire_legacy, plain("could not convert string to float: 'abc'", 500), ServerRefused),
    (wire_legacy, plain("hello"), ServerUnreachable),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "answer", "kind"), UPDATE_ERRORS)
def test_an_update_that_was_not_accepted(wire: ModuleType, answer: Answer, kind: type[ServerError]) -> None:
    with pytest.raises(ServerError) as caught:
        wire.read_update(answer)
    assert type(caught.value) is kind
    assert "\n" not in caught.value.diag
    assert len(caught.value.diag) < 500


@pytest.mark.parametrize(
    ("wire", "answer", "field"),
    [
        (wire_v1, v1(False, "Argument error: got an unexpected keyword argument 'max_pss'"), "max_pss"),
        (
            wire_v1,
            v1(False, "Type error: 'mean_core_count' must be of type int, got float."),
            "mean_core_count",
        ),
        (wire_legacy, plain("updateJob() got an unexpected keyword argument 'maxPSS'", 500), "maxPSS"),
    ],
)
def test_a_refused_field_is_named(wire: ModuleType, answer: Answer, field: str) -> None:
    with pytest.raises(FieldRefused) as caught:
        wire.read_update(answer)
    assert (caught.value.field, caught.value.always) == (field, True)


@pytest.mark.parametrize(
    ("answer", "unclear"),
    [
        (v1(False, "ORA-03113: end-of-file on communication channel"), True),
        (v1(False, ""), True),
        (v1(True, "", {"StatusCode": 99}), True),
        (plain('{"error": "upstream"}', 400), True),
        (v1(False, "Invalid job status: zombie", {"StatusCode": 50}), False),
        (v1(True, "", {"StatusCode": 50}), False),
        (plain("Request Entity Too Large", 413), False),
    ],
)
def test_a_refusal_in_words_that_we_do_not_know_is_unclear(answer: Answer, unclear: bool) -> None:
    with pytest.raises(ServerRefused) as caught:
        wire_v1.read_update(answer)
    assert caught.value.unclear is unclear


def test_refused_metadata_concerns_one_message() -> None:
    message = "Failed to add meta_data"
    with pytest.raises(FieldRefused) as caught:
        wire_v1.read_update(v1(True, message, {"StatusCode": 30, "ErrorDiag": message}))
    assert (caught.value.field, caught.value.always) == ("meta_data", False)


@pytest.mark.parametrize(
    ("status", "asked", "waits"), [(429, None, 0.0), (429, 7.0, 7.0), (503, 20.0, 20.0), (503, 0.0, 0.0)]
)
def test_a_busy_server_says_when(status: int, asked: float | None, waits: float) -> None:
    with pytest.raises(ServerBusy) as caught:
        decode(Answer(status, "text/html", PAGE, asked))
    assert caught.value.retry_after_s == waits


def test_503_without_a_time_is_an_outage() -> None:
    with pytest.raises(ServerUnreachable):
        decode(plain("Service Unavailable", 503))


@pytest.mark.parametrize(
    ("wire", "answer", "kind"),
    [
        (wire_v1, v1(False, "Failed to update worker status"), ServerRefused),
        (wire_v1, v1(False, "production or pilot role required"), NotAuthorised),
        (wire_legacy, plain("failed to retrieve DN"), NotAuthorised),
        (wire_legacy, plain("Invalid worker state. It has to be in ('started', 'finished')"), ServerRefused),
    ],
)  # fmt: skip
def test_a_worker_status_that_was_not_taken(
    wire: ModuleType, answer: Answer, kind: type[ServerError]
) -> None:
    with pytest.raises(kind):
        wire.read_done(answer)


def test_a_token() -> None:
    assert wire_v1.read_credential(v1(True, data={"user_proxy": "a.b.c\n"})) == "a.b.c"
    assert (
        wire_legacy.read_credential(Answer(200, JSON, b'{"StatusCode": 0, "userProxy": "a.b.c"}')) == "a.b.c"
    )
    for answer in (
        v1(False, "failed since token key is invalid for pilot_server"),
        v1(True, data={"user_proxy": ""}),
    ):
        with pytest.raises(NotAuthorised):
            wire_v1.read_credential(answer)
    with pytest.raises(NotAuthorised):
        wire_legacy.read_credential(Answer(200, JSON, b'{"StatusCode": 70, "errorDialog": "failed"}'))
    with pytest.raises(NotAuthorised):
        wire_legacy.read_credential(plain("StatusCode=0"))


def test_a_proxy() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
    assert wire_v1.read_credential(v1(True, data={"user_proxy": pem})) == pem.strip()
    body = json.dumps({"StatusCode": 0, "userProxy": pem}).encode()
    assert wire_legacy.read_credential(Answer(200, JSON, body)) == pem.strip()
    # Recorded.
    with pytest.raises(ServerRefused, match="'proxy' not found for Robot Pilot"):
        wire_v1.read_credential(v1(False, "'proxy' not found for Robot Pilot"))
    body = b'{"StatusCode": 90, "errorDialog": "proxy not found for Robot Pilot"}'
    with pytest.raises(ServerRefused, match="proxy not found"):
        wire_legacy.read_credential(Answer(200, JSON, body))
    refused = (
        "failed: 'Plain User' not in authorized users with 'p' in DOMA_PANDAMETA.USERS.GRIDPREF to get proxy"
    )
    with pytest.raises(NotAuthorised):
        wire_v1.read_credential(v1(False, refused))
    with pytest.raises(NotAuthorised):
        wire_legacy.read_credential(
            Answer(200, JSON, json.dumps({"StatusCode": 70, "errorDialog": refused}).encode())
        )


def test_a_half_answer_with_a_key_in_it_shows_no_key() -> None:
    whole = json.dumps({"user_proxy": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"})
    for text in (whole[:-30], whole):
        with pytest.raises(ServerError) as caught:
            wire_v1.read_credential(plain(text))
        assert "c2VjcmV0" not in Redactor().text(caught.value.diag)


def test_the_style_of_a_text_is_nobodys_business() -> None:
    """Python warns of a bad escape, and warnings are errors here."""
    assert wire_legacy.read_jobs(plain("{'StatusCode': 0, 'PandaID': 7, 'x': '\\V'}"))[0]["x"] == "\\V"


def test_an_upload() -> None:
    wire_v1.read_upload(v1(True))
    wire_legacy.read_upload(plain("True"))
    for text in ("ERROR: cannot overwrite file", "ERROR: upload failure. Exceeded size limit 104857600>1"):
        with pytest.raises(ServerRefused):
            wire_legacy.read_upload(plain(text))
        with pytest.raises(ServerRefused):
            wire_v1.read_upload(v1(False, text))
    with pytest.raises(NotAuthorised):
        wire_legacy.read_upload(plain("ERROR : no HTTPS"))


KILL = Command(CommandKind.KILL, "tobekilled")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        (7, ()),
        ("", ()),
        ("NULL", ()),
        ("None", ()),
        ("NULL,,", ()),
        ("tobekilled", (KILL,)),
        ("debug,tobekilled", (KILL, Command(CommandKind.DEBUG, "debug"))),
        ("debugoff", (Command(CommandKind.DEBUG_OFF, "debugoff"),)),
        ("softkill", (Command(CommandKind.SOFT_KILL, "softkill"),)),
        ("nocleanup", (Command(CommandKind.NO_CLEANUP, "nocleanup"),)),
        ("alreadydone", (Command(CommandKind.ALREADY_DONE, "alreadydone"),)),
        ("badattemptnr", (Command(CommandKind.KILL, "badattemptnr"),)),
        (
            "debug,tail payload.stdout,nocleanup",
            (
                Command(CommandKind.DEBUG_COMMAND, "tail payload.stdout"),
                Command(CommandKind.NO_CLEANUP, "nocleanup"),
            ),
        ),
        ("tail a,debugoff,tobekilled", (KILL, Command(CommandKind.DEBUG_OFF, "debugoff"))),
        ("ps", (Command(CommandKind.DEBUG_COMMAND, "ps"),)),
        ("rm -rf /", (Command(CommandKind.UNKNOWN, "rm -rf /"),)),
        ("debug,debug", (Command(CommandKind.DEBUG, "debug"),)),
    ],
)
def test_commands(text: object, expected: tuple[Command, ...]) -> None:
    assert read_commands(text) == expected


READERS = [
    reader
    for wire in (wire_v1, wire_legacy)
    for reader in (wire.read_jobs, wire.read_update, wire.read_done, wire.read_upload, wire.read_credential)
]
plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["success", "message", "data", "StatusCode", "command", "jobs", "PandaID", "userProxy"]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=300),
    plain_data.map(lambda data: json.dumps(data).encode()),
    plain_data.map(lambda data: repr(data).encode("utf-8", "replace")),
    st.builds(
        lambda *values: json.dumps(dict(zip(("success", "message", "data"), values, strict=True))).encode(),
        st.booleans(), st.text(max_size=40), plain_data,
    ),
)  # fmt: skip


@given(
    status=st.sampled_from([200, 200, 200, 204, 301, 400, 403, 404, 429, 500, 503]),
    kind=st.sampled_from(["application/json", "text/html", "text/plain", ""]),
    body=bodies,
    after=st.none() | st.floats(0, 100),
)
def test_any_bytes_give_a_value_or_a_server_error(
    status: int, kind: str, body: bytes, after: float | None
) -> None:
    answer = Answer(status, kind, body, after)
    for read in READERS:
        with contextlib.suppress(ServerError):
            read(answer)
