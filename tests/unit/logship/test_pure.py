"""The small pure parts: targets, JSON, levels, times, sizes, batches,
resources.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core.base import text
from pilot_core.logship import jsontext
from pilot_core.logship.batch import request, weight
from pilot_core.logship.checkpoint import Checkpoint, Place
from pilot_core.logship.contract import Entry
from pilot_core.logship.disk import OsDisk
from pilot_core.logship.level import severity
from pilot_core.logship.resource import PodFacts, Resource
from pilot_core.logship.split import struct_size, text_pieces
from pilot_core.logship.stamp import Stamps
from pilot_core.logship.target import Target, at_loki, parse_target

TARGETS = {
    "google-cloud-logging": ("google", ""),
    "google-cloud-logging;http://127.0.0.1:1234": ("google", "http://127.0.0.1:1234"),
    "google-cloud-logging;https://google:80": ("google", ""),
    "logserver='google-cloud-logging;https://google:80'": ("google", ""),
    "logserver=google-cloud-logging;http://127.0.0.1:9/": ("google", "http://127.0.0.1:9"),
    "'logserver=google-cloud-logging'": ("google", ""),
    "google-cloud-logging:https://logging.googleapis.com:443": ("google", ""),
    "google-cloud-logging;https://cloud.google.com:443/": ("google", ""),
    "google-cloud-logging;google:80": ("google", ""),
    "google-cloud-logging;https://google.com.example.org:443": (
        "google",
        "https://google.com.example.org:443",
    ),
    "Google-Cloud-Logging": ("google", ""),
    "logserver='loki;https://sdfloki.slac.stanford.edu:80'": ("loki", "https://sdfloki.slac.stanford.edu:80"),
    "loki;https://h:80/loki/api": ("loki", "https://h:80/loki/api"),
    "logstash:http://aipanda020.cern.ch:8443": ("logstash", "http://aipanda020.cern.ch:8443"),
    "logstash;https://h:8443": ("logstash", "https://h:8443"),
    "fluent;tcp://h:24224": ("fluent", "tcp://h:24224"),
    "fluentd;http://h:24224": ("fluent", "http://h:24224"),
    "file;/tmp/a b.jsonl": ("file", "/tmp/a b.jsonl"),
    "file:/tmp/x": ("file", "/tmp/x"),
    "file:///tmp/x": ("file", "///tmp/x"),
    "file;file:///tmp/x": ("file", "/tmp/x"),
    "stdout": ("stdout", ""),
    " stdout ": ("stdout", ""),
}


@pytest.mark.parametrize("text", TARGETS)
def test_targets_of_the_field(text: str) -> None:
    kind, endpoint = TARGETS[text]
    assert parse_target(text) == Target(kind, endpoint)


def test_loki_s_own_variables() -> None:
    target = parse_target("loki;https://dummy:80;env=test")
    assert at_loki(target, "", ()) == target
    found = at_loki(target, "https://loki.example.org/base/loki/api/v1/push", ["PandaJobID", "TaskID"])
    assert found.endpoint == "https://loki.example.org/base"
    assert dict(found.options) == {"env": "test", "label_keys": "PandaJobID,TaskID"}
    google = parse_target("google-cloud-logging")
    assert at_loki(google, "http://h:1", ["x"]) == google
    with pytest.raises(ValueError, match="LOKI_URL=nonsense"):
        at_loki(target, "nonsense", ())


@pytest.mark.parametrize(
    ("written", "words"),
    [('["a", "b"]', ("a", "b")), ("a, b", ("a", "b")), ("", ()), ("[]", ()), ("['a']", None), ("[1]", None)],
)
def test_words_or_a_list(written: str, words: tuple[str, ...] | None) -> None:
    if words is None:
        with pytest.raises(ValueError, match="JSON list"):
            text.listed(written)
    else:
        assert text.listed(written) == words


def test_names_may_have_blanks_around_them() -> None:
    assert text.names(" a.json, b c.json :d,, ") == ("a.json", "b c.json", "d")


def test_target_options() -> None:
    target = parse_target("google-cloud-logging;http://h:1;credentials=default;a=b=c")
    assert dict(target.options) == {"credentials": "default", "a": "b=c"}
    assert parse_target("google-cloud-logging;;credentials=default") == Target(
        "google", "", {"credentials": "default"}
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "logserver=", "loki", "loki;", "file", "file;relative/path", "stdout;x", "loki;ftp://h:1",
        "google-cloud-logging;nonsense", "google-cloud-logging;http://", "google-cloud-logging;http://h:port",
        "loki;https://h:1;option", ";http://h:1", "http://h:1", "loki;http://[::1",
    ],
)  # fmt: skip
def test_nonsense_is_named(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_target(text)
    assert repr(text) in str(caught.value)


ODD_JSON = [
    b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e400}', b'{"a":-1e400}', b'{"a":"\\ud800"}',
    b'{"a":"\\uDc00x"}', b'{"a":123456789012345678901234567890}', b'{"a":1}\0',
    b'\xef\xbb\xbf{"a":1}', b'{"a":"\x01"}', b'{"a":-0}', b'{"a":01}', b'{"a":"\\ud83d\\ude00"}',
    b'{"a":"\x7f"}', b'{"a":1,"a":2}', b' {"a":1} ', b'{"a":"\xff"}', b'\x0c{"a":1}',
    b'{"a":"\xed\xa0\x80"}', b"", b"null", b"[]", b"{", b"'a'", b"{'a':1}", b'{"a":1,}', b"tru",
    b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}", b'{"a":"\\ud83d"}', b'{"a":"\\\\ud800"}',
    b'{"\\ud800":1}',
]  # fmt: skip


def said(loads: Any, data: bytes) -> tuple[str, Any]:
    try:
        return "value", loads(data)
    except ValueError:
        return "ValueError", None


@pytest.mark.parametrize("data", ODD_JSON)
def test_both_json_readers_agree(data: bytes) -> None:
    assert said(jsontext.loads, data) == said(jsontext.loads_plain, data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.eE-+\\ud8 truefalsn', max_size=40).map(str.encode))
def test_both_json_readers_agree_on_anything(data: bytes) -> None:
    assert said(jsontext.loads, data) == said(jsontext.loads_plain, data)


@pytest.mark.parametrize(("depth", "deep"), [(1, False), (29, False), (30, True), (900, True)])
def test_depth(depth: int, deep: bool) -> None:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    assert jsontext.too_deep(value) is deep


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"levelname": "TRACE", "levelno": 5}, "DEBUG"),
        ({"levelname": "VERBOSE", "levelno": 15}, "DEBUG"),
        ({"levelname": "INFO"}, "INFO"),
        ({"levelname": "WARN"}, "WARNING"),
        ({"levelname": "FATAL"}, "CRITICAL"),
        ({"levelname": "warning"}, "WARNING"),
        ({"levelname": "Level 35", "levelno": 35}, "WARNING"),
        ({"levelno": 25}, "INFO"),
        ({"levelno": 45.0}, "ERROR"),
        ({"levelno": 0}, "DEFAULT"),
        ({"levelno": True}, "INFO"),
        ({"levelno": "40"}, "INFO"),
        ({"levelname": ["INFO"]}, "INFO"),
        ({}, "INFO"),
        ({"severity": "ERROR"}, "ERROR"),
        ({"level": "warn"}, "WARNING"),
        ({"level": 40, "severity": "nonsense"}, "INFO"),
        ({"levelname": "ODD", "level": "error"}, "ERROR"),
    ],
)
def test_severity(record: dict[str, Any], expected: str) -> None:
    assert severity(record) == expected


NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("asctime", "expected"),
    [
        ("2023-11-14T22:00:00.123456Z", "2023-11-14T22:00:00.123456Z"),
        ("2023-11-14T22:00:00.123456+00:00", "2023-11-14T22:00:00.123456Z"),
        ("2023-11-14T22:00:00Z", "2023-11-14T22:00:00.000000Z"),
        ("2023-11-14T23:00:00.5+01:00", "2023-11-14T22:00:00.500000Z"),
        ("2023-11-14 22:00:00.5", "2023-11-14T22:00:00.500000Z"),
        ("2023-11-14 22:00:00,5", "2023-11-14T22:00:00.500000Z"),
        ("2023-11-15T21:00:00Z", "2023-11-15T21:00:00.000000Z"),
        ("2023-11-16T21:00:00Z", None),
        ("2023-09-14T22:00:00Z", None),
        ("2023-11-14T22:00:61Z", None),
        ("14 Nov 2023", None),
        (1_700_000_000, None),
        (None, None),
    ],
)
def test_times(asctime: object, expected: str | None) -> None:
    stamps = Stamps("", NOW - 1.5)
    before = stamps.last
    assert before == "2023-11-14T22:13:18.500000Z"
    assert stamps.of(asctime) == (expected or before)
    assert stamps.last == (expected or before)


@pytest.mark.parametrize(
    "second", ["2023-11-14T22:00:00.12345xZ", "2023-11-14T22:00:00.123456 ", "2023-11-14T22:00:00.12345²Z"]
)
def test_the_short_way_for_the_same_second_checks_the_rest(second: str) -> None:
    stamps = Stamps("", NOW)
    first = stamps.of("2023-11-14T22:00:00.123456Z")
    assert stamps.of(second) == first
    assert stamps.of("2023-11-14T22:00:00.999999Z") == "2023-11-14T22:00:00.999999Z"


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text("abcé", max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcé", max_size=5), JSON_VALUES, max_size=5))
def test_the_size_is_never_below_protobufs(value: dict[str, Any]) -> None:
    from google.protobuf import json_format
    from google.protobuf.struct_pb2 import Struct

    assert struct_size(value) >= json_format.ParseDict(value, Struct()).ByteSize()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(16, 200))
def test_pieces_fit_and_join(text: str, size: int) -> None:
    pieces = text_pieces(text, size)
    assert "".join(pieces) == text
    assert all(len(json.dumps(p, ensure_ascii=False).encode()) <= size for p in pieces)


def entries(*sizes: int) -> list[Entry]:
    return [Entry(b"x" * size, "INFO", "t", str(n)) for n, size in enumerate(sizes)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=50), st.integers(1, 9), st.integers(0, 5000))
def test_requests_keep_order_and_limits(sizes: list[int], most: int, size: int) -> None:
    made = entries(*sizes)
    cut: list[Sequence[Entry]] = []
    while (settled := sum(map(len, cut))) < len(made):
        cut.append(request(made, settled, most=most, size=size))
        assert cut[-1]
    assert [e for part in cut for e in part] == made
    for part, following in itertools.zip_longest(cut, cut[1:], fillvalue=()):
        assert len(part) <= most
        assert len(part) == 1 or weight(part) <= size
        # And no smaller than need be.
        assert not following or len(part) == most or weight([*part, following[0]]) > size


def test_a_pod_is_a_k8s_container_with_all_its_labels() -> None:
    facts = PodFacts("p", "loc", "cl", "ns", "pod", "c")
    resource = Resource.of(facts)
    assert resource.type == "k8s_container"
    assert resource.labels == {
        "project_id": "p", "location": "loc", "cluster_name": "cl",
        "namespace_name": "ns", "pod_name": "pod", "container_name": "c",
    }  # fmt: skip


def test_elsewhere_it_is_a_task_or_global() -> None:
    assert Resource.of(PodFacts("p", location="SLAC", job="queue", task="7")).type == "generic_task"
    assert Resource.of(PodFacts("p")) == Resource("global", {"project_id": "p"})


def test_positions_survive(tmp_path: Path) -> None:
    place = Place(
        "/a", 1, 2, generation=3, since=4.5, offset=6, part=7, state="s", seen_to=8, seen_print="ff"
    )
    path = tmp_path / "positions"
    Checkpoint(path, OsDisk()).save([place])
    assert Checkpoint(path, OsDisk()).load() == [place]
    assert path.stat().st_mode & 0o777 == 0o600
    assert Checkpoint(None, OsDisk()).load() == []
