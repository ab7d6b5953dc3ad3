"""CRIC's JSON in all the ways it is written."""

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.errors import SetupError
from pilot_core.info.document import parse_json, parse_queue, parse_storage, settings_of
from pilot_core.model.codes import ErrorCode
from pilot_core.model.queue import Protocol, Queue, Storage

MARKS = ("nickname", "name")


def test_a_map_with_one_or_all_queues_and_the_settings_themselves() -> None:
    settings = {"nickname": "Q", "maxrss": 1}
    for document in ({"Q": settings}, {"P": {"nickname": "P"}, "Q": settings}, settings):
        assert settings_of(document, "Q", marks=MARKS) == settings
    assert settings_of({"P": settings}, "Q", marks=MARKS) is None
    assert settings_of({}, "Q", marks=MARKS) is None


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b'{"a": 1', "no JSON"),
        (b"[]", "no object"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
    ids=range(6),
)
def test_what_is_no_document(raw: bytes, said: str) -> None:
    with pytest.raises(SetupError, match=f"^somewhere: .*{said}") as caught:
        parse_json(raw, "somewhere")
    assert caught.value.code is ErrorCode.QUEUEDATANOTOK


def test_nothing_in_all_its_spellings() -> None:
    expected = Queue(name="Q", resource="Q")
    assert parse_queue({}, "Q") == expected
    keys = (
        "panda_resource",
        "state",
        "timefloor",
        "maxrss",
        "corecount",
        "astorages",
        "acopytools",
        "params",
    )
    for nothing in (None, "", "NULL", "None"):
        assert parse_queue(dict.fromkeys(keys, nothing), "Q") == expected
    assert parse_queue({"params": [], "copytools": {}, "acopytools": []}, "Q") == expected


def test_numbers_as_texts_and_lists_as_entries() -> None:
    queue = parse_queue(
        {
            "timefloor": "480",
            "maxrss": "3200.0",
            "maxtime": 3600.7,
            "corecount": 0,
            "status": "ONLINE",
            "acopytools": {"write_lan": "gs, s3", "pl": [], "pr": None},
            "copytools": {"gs": {"setup": ""}, "mv": {}},
            "params": {"pilot_rss_grace": 10},
        },
        "Q",
    )
    assert (queue.timefloor_s, queue.maxrss_mb, queue.maxtime_s, queue.corecount) == (28_800, 3200, 3600, 1)
    assert queue.status == "online"
    assert queue.copytools == {"write_lan": ("gs", "s3"), "": ("gs", "mv")}
    assert queue.params == {"pilot_rss_grace": 10}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("maxrss", "lots"),
        ("maxrss", -1),
        ("maxrss", float("inf")),
        ("maxrss", True),
        ("timefloor", [60]),
        ("status", {}),
        ("params", "x"),
        ("astorages", ["LOGS"]),
        ("acopytools", {"pw": [1]}),
        ("acopytools", {"pw": 7}),
        ("copytools", 5),
    ],
)
def test_nonsense_is_named(key: str, value: object) -> None:
    with pytest.raises(SetupError, match=f"queue Q: {key}") as caught:
        parse_queue({key: value}, "Q")
    assert caught.value.code is ErrorCode.QUEUEDATANOTOK


def test_nonsense_that_is_deeper_than_the_stack_is_named() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SetupError, match="queue Q: maxrss=something deeply nested is not a number"):
        parse_queue({"maxrss": deep}, "Q")


def test_protocols_by_activity_by_id_and_as_lists() -> None:
    storage = parse_storage(
        {
            "type": "OS_LOGS",
            "is_deterministic": "false",
            "arprotocols": {
                "write_lan": [{"endpoint": "gs://b", "path": "/logs", "flavour": "GS", "id": 3}],
                "read_lan": [["s3://h", "/b/"]],
                "pw": None,
            },
            "rprotocols": {"3": {"endpoint": "file://", "path": None}, "4": {"endpoint": ""}},
        },
        "LOGS",
    )
    assert storage == Storage(
        name="LOGS",
        type="OS_LOGS",
        protocols={
            "write_lan": (Protocol("gs://b", "/logs", "GS"),),
            "read_lan": (Protocol("s3://h", "/b/"),),
            "": (Protocol("file://", ""),),
        },
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"arprotocols": {"pw": "gs://b"}},
        {"arprotocols": {"pw": [7]}},
        {"arprotocols": {"pw": [["only"]]}},
        {"is_deterministic": "maybe"},
    ],
)
def test_nonsense_in_a_storage_is_named(settings: dict[str, object]) -> None:
    with pytest.raises(SetupError, match=f"ddmendpoint LOGS: {next(iter(settings))}"):
        parse_storage(settings, "LOGS")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [
        "maxrss",
        "timefloor",
        "astorages",
        "acopytools",
        "copytools",
        "params",
        "arprotocols",
        "rprotocols",
        "type",
    ]
)


@given(st.dictionaries(FIELDS, JSON))
def test_any_json_is_understood_or_refused(settings: dict[str, object]) -> None:
    for parse in (parse_queue, parse_storage):
        # Any other exception would end the pilot with a traceback.
        with contextlib.suppress(SetupError):
            assert parse(settings, "Q").name == "Q"


SHARED = Path(os.environ.get("PILOT_SHARED_DATA", ""))


@pytest.mark.skipif(not os.environ.get("PILOT_SHARED_DATA"), reason="PILOT_SHARED_DATA names no folder")
def test_rubins_queues_as_cric_has_them() -> None:
    found = {}
    for path in sorted((SHARED / "cric").glob("*.json")):
        settings = settings_of(json.loads(path.read_bytes()), path.stem, marks=MARKS)
        assert settings is not None, path
        found[path.stem] = parse_queue(settings, path.stem)
    assert len(found) == 7
    for queue in found.values():
        assert queue.storages["write_lan"] == ("GKE-LSST_LOGS",)
        assert queue.copytools["write_lan"] == ("gs",)
        assert queue.resource == queue.name
        assert queue.state == "ACTIVE"
    assert found["DOMA_LSST_GOOGLE_TEST"].timefloor_s == 3600
    assert found["DOMA_LSST_GOOGLE_MERGE"].status == "brokeroff"
    assert found["DOMA_LSST_GOOGLE_MERGE"].timefloor_s == 480 * 60


def test_the_sites_scripts_and_space_tokens_for_copytools() -> None:
    tools = {"lsm": {"setup": "/osg/setup.sh"}, "gfal": {"setup": None}, "cp": {}, "mv": ""}
    queue = parse_queue({"copytools": tools}, "Q")
    assert queue.setups == {"lsm": "/osg/setup.sh"}
    assert queue.copytools == {"": ("lsm", "gfal", "cp", "mv")}
    assert parse_queue({"copytools": "lsm,gfal"}, "Q").setups == {}
    assert parse_storage({"token": "ATLASDATADISK"}, "DISK").token == "ATLASDATADISK"
