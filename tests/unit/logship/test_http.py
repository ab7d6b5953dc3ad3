"""What an HTTP status means for a batch."""

import json

import pytest

from pilot_core.logship.contract import OutcomeKind
from pilot_core.logship.sinks.google import _outcome
from pilot_core.logship.sinks.http import HttpPost, Reply

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
