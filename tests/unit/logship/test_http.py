"""What an HTTP status means for a batch."""

import contextlib
import json
import socket
import threading
import time

import pytest

from pilot_core.logship.contract import OutcomeKind
from pilot_core.logship.sinks.google import _outcome
from pilot_core.logship.sinks.http import HttpPost, Reply
from tests.fakes.patience import stated

KINDS = {
    OutcomeKind.DELIVERED: (200, 201, 204),
    OutcomeKind.RETRY: (408, 409, 425, 500, 502, 503, 504, 302),
    OutcomeKind.BUSY: (429,),
    OutcomeKind.DENIED: (401, 403, 404, 407),
    OutcomeKind.TOO_LARGE: (400, 413, 422),
}


@pytest.mark.parametrize(("kind", "status"), [(k, s) for k, group in KINDS.items() for s in group])
def test_statuses(kind: OutcomeKind, status: int) -> None:
    reply = Reply(status, 0.0, b"<html>")
    assert reply.kind is kind
    assert _outcome(reply).kind is kind


# In the words of Cloud Logging and of Loki.
QUOTAS = {
    "Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute' of service "
    "'logging.googleapis.com' for consumer 'project_number:1'.": OutcomeKind.BUSY,
    "Quota exceeded for quota metric 'Log write bytes' and limit 'Log write bytes per minute per region' of "
    "service 'logging.googleapis.com' for consumer 'project_number:1'.": OutcomeKind.FULL,
    "Ingestion rate limit exceeded for user fake (limit: 4194304 bytes/sec)": OutcomeKind.FULL,
    "Per stream rate limit exceeded (limit: 3MB/sec) while attempting to ingest for stream": OutcomeKind.FULL,
    "": OutcomeKind.BUSY,
}


@pytest.mark.parametrize(("words", "kind"), QUOTAS.items())
def test_which_quota_it_is(words: str, kind: OutcomeKind) -> None:
    reply = Reply(429, 0.0, words.encode())
    assert reply.kind is kind
    assert _outcome(reply).kind is kind
    each = {"0": {"code": 8, "message": words}}
    partly = {"error": {"code": 429, "details": [{"logEntryErrors": each}]}}
    assert _outcome(Reply(429, 0.0, json.dumps(partly).encode())).kind is kind


def partial(*codes: int) -> bytes:
    each = ",".join(f'"{i}":{{"code":{code},"message":"m{code}"}}' for i, code in enumerate(codes))
    return b'{"error":{"code":400,"details":[{"logEntryErrors":{%s}}]}}' % each.encode()


def test_refused_entries_are_named() -> None:
    outcome = _outcome(Reply(400, 0.0, partial(3, 3)))
    assert outcome.kind is OutcomeKind.DELIVERED
    assert outcome.rejected == {0: "m3", 1: "m3"}


@pytest.mark.parametrize(
    ("codes", "kind"),
    [((3, 8), OutcomeKind.BUSY), ((14,), OutcomeKind.RETRY), ((3, 7), OutcomeKind.DENIED)],
)
def test_entries_that_only_wait_are_not_given_up(codes: tuple[int, ...], kind: OutcomeKind) -> None:
    assert _outcome(Reply(400, 0.0, partial(*codes))).kind is kind


def test_retry_info_in_the_body() -> None:
    body = b'{"error":{"code":429,"message":"quota","details":[{"retryDelay":"13.5s"}]}}'
    outcome = _outcome(Reply(429, 2.0, body))
    assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.BUSY, 13.5)


@pytest.mark.parametrize("url", ["", "host:80", "ftp://host", "http://"])
def test_an_address_of_another_kind(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        HttpPost(url)


@pytest.mark.parametrize(
    "each",
    [
        '{"0":null}',
        '{"x":{"code":3}}',
        '{"-1":{"code":3}}',
        '{"99999999999999":{"code":3}}',
        "[1]",
        "[" * 100_000,
    ],
)
def test_what_is_no_refusal_of_an_entry_refuses_none(each: str) -> None:
    body = '{"error":{"code":400,"details":[{"logEntryErrors":' + each + "}]}}"
    outcome = _outcome(Reply(400, 0.0, body.encode()))
    assert (outcome.kind, dict(outcome.rejected)) == (OutcomeKind.TOO_LARGE, {})


@pytest.mark.parametrize("code", ['"INTERNAL"', "[13]", "null", "1e999"])
def test_an_odd_code_is_a_refusal(code: str) -> None:
    outcome = _outcome(
        Reply(400, 0.0, b'{"error":{"details":[{"logEntryErrors":{"1":{"code":%s}}}]}}' % code.encode())
    )
    assert (outcome.kind, dict(outcome.rejected)) == (OutcomeKind.DELIVERED, {1: "refused"})


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"], ids=["head", "body"]
)
@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_an_answer_that_drips_ends_in_time(head: bytes, connection: bytes) -> None:
    head = head.replace(b"\r\n\r\n", b"\r\nConnection: %s\r\n\r\n" % connection)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(head)
                while not over.wait(0.05):
                    client.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        post = HttpPost(f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            post.post("/", b"{}", {}, timeout_s=0.3)
        assert time.monotonic() - began < stated(2.0)
        over.set()
        thread.join()
