"""What is secret in a job's secrets."""

import json
import logging
import sys
import threading
import time

import pytest

from pilot_core.base.redact import RedactingFilter, Redactor, secret_values, url_passwords

NESTED = json.dumps(
    {"token": "hunter2-hunter2", "more": ["list-item", {"pin": 123456, "on": True, "no": None}]}
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", set()),
        ("plain text", {"plain text"}),
        ("{half", {"{half"}),
        (NESTED, {NESTED, "hunter2-hunter2", "list-item", "123456"}),
        (
            json.dumps({"a": NESTED}),
            {json.dumps({"a": NESTED}), NESTED, "hunter2-hunter2", "list-item", "123456"},
        ),
        ("[" * 100_000, {"[" * 100_000}),
    ],
)
def test_each_value_of_a_document_is_one(text: str, values: set[str]) -> None:
    assert set(secret_values(text)) == values


def test_a_value_alone_is_masked() -> None:
    redactor = Redactor(secret_values(NESTED))
    assert redactor.text("the token is hunter2-hunter2.") == "the token is ***."


@pytest.mark.parametrize("secret", ['pa"ss\\word', "geheim\u00f6123", "line one\nline two", "tab\there"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_value_in_json_is_masked(secret: str, ascii_only: bool) -> None:
    redactor = Redactor([secret])
    shown = json.dumps({"argument": f"pw={secret};"}, ensure_ascii=ascii_only)
    assert redactor.suspects(shown)
    assert json.loads(redactor.text(shown)) == {"argument": "pw=***;"}
    assert redactor.text(f"pw={secret};") == "pw=***;"


def test_a_plain_value_is_looked_for_once() -> None:
    assert Redactor(["hunter2-hunter2"]).known == 1


@pytest.mark.parametrize(
    "piece",
    ["eyJ", "eyJaaaaaaaa-", "eyJaaaaaaaa.", "bearer ", "bearer" + " " * 90, "-----BEGIN A", "sig=", "AKIA "],
)
def test_a_megabyte_that_nearly_looks_like_secrets_takes_no_hour(piece: str) -> None:
    """Any payload may print this, and `re` keeps every other thread waiting."""
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    Redactor().text(text)
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("x eyJhbGciOiJ.eyJzdWIiOi.c2ln y", "x *** y"),
        ("id-eyJhbGciOiJ.eyJzdWIiOi.", "id-***"),
        ("eyJaaaaaaaa eyJhbGciOiJ.eyJzdWIiOi.c2ln", "eyJaaaaaaaa ***"),
        ("eyJaaaaaaaa.b.eyJhbGciOiJ.eyJzdWIiOi.c2ln", "eyJaaaaaaaa.b.***"),
        ("eyJaaaaaaaa-----BEGIN PRIVATE KEY-----x", "eyJaaaaaaaa***"),
        ("Bearer eyJhbGciOiJ.eyJzdWIiOi.c2ln", "Bearer ***"),
    ],
)
def test_a_token_is_masked_wherever_it_stands(text: str, clean: str) -> None:
    assert Redactor().text(text) == clean


def test_the_secrets_of_one_job_are_words_in_the_next_one() -> None:
    redactor = Redactor()
    redactor.renew("message", "hunter2")
    assert redactor.text("message hunter2") == "*** ***"
    redactor.renew("another")
    assert redactor.text("message hunter2 another") == "message hunter2 ***"


def test_values_added_by_several_threads_are_all_masked() -> None:
    redactor, interval = Redactor(), sys.getswitchinterval()
    names = [[f"secret-{thread}-{number}" for number in range(200)] for thread in range(4)]

    def add(mine: list[str]) -> None:
        for name in mine:
            redactor.add(name)

    threads = [threading.Thread(target=add, args=(mine,)) for mine in names]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert {redactor.text(name) for mine in names for name in mine} == {"***"}


def test_a_new_jobs_secrets_come_in_one_step() -> None:
    """Nobody sees a moment in which nothing is masked."""
    redactor = Redactor()
    redactor.renew("hunter2-secret")
    seen: set[str] = set()
    stop, interval = threading.Event(), sys.getswitchinterval()

    def look() -> None:
        while not stop.is_set():
            seen.add(redactor.text("hunter2-secret"))

    thread = threading.Thread(target=look)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(2000):
            redactor.renew("hunter2-secret")
    finally:
        stop.set()
        thread.join(30)
        sys.setswitchinterval(interval)
    assert seen == {"***"}


def test_the_password_of_a_proxy_is_masked_in_every_job() -> None:
    environment = {"https_proxy": "http://user:geheim12@proxy:3128", "PATH": "/bin:/usr/bin", "X": "a@b:c"}
    assert list(url_passwords(environment.values())) == ["geheim12"]
    redactor = Redactor(url_passwords(environment.values()))
    for user_secret in ("first-job", "second-job"):
        redactor.renew(user_secret)
        assert redactor.text(f"{user_secret} geheim12") == "*** ***"


@pytest.mark.parametrize("argument", ["many", object()])
def test_a_wrong_log_call_of_a_library_is_its_own_matter(argument: object) -> None:
    record = logging.LogRecord("lib", logging.WARNING, "f.py", 1, "%d of hunter2-secret", (argument,), None)
    assert RedactingFilter(Redactor(["hunter2-secret"])).filter(record)
    said = record.getMessage()
    assert said == "'%d of ***' was logged with arguments that do not fit it (TypeError)"


@pytest.mark.parametrize("before", ["", "a", "über ", "x" * 70])
def test_the_lines_of_a_key_are_suspected_wherever_they_stand(before: str) -> None:
    block = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
    redactor = Redactor([block, "opaque-value"])
    for text in (block, f"{before}{block}", f"{block}{before}", f"ü{before}opaque-value"):
        assert redactor.suspects(text)
        assert block not in redactor.text(text)
    assert not redactor.suspects(f"{before[:59]} /opt/lsst/software/stack {block[:59]}")
