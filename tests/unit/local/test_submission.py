"""What `pilot-local submit` makes of its options and its file, and what it
refuses.
"""

import base64
from collections.abc import Iterator

import pytest

from pilot_core.errors import BadJob
from pilot_core.jobs.definition import read_definition
from pilot_core.local.definition import KEYS, QUEUE_KEY, complete
from pilot_core.local.submission import check, from_options, unread

URL = "http://h:1"
COMMAND = base64.b64encode(b"exit 3").decode()


@pytest.mark.parametrize(
    ("part", "options", "expected"),
    [
        ({}, {"command": "exit 3"}, {"transformation": f"{URL}/trf/bash-c-enc", "jobPars": COMMAND}),
        ({"jobPars": "old"}, {"image": "i", "command": "ls"}, {"container_name": "i", "jobPars": "ls"}),
        ({"container_name": "i"}, {"command": "ls"}, {"container_name": "i", "jobPars": "ls"}),
        (
            {"transformation": "t"},
            {"image": "i", "transformation": "demo"},
            {"container_name": "i", "transformation": f"{URL}/trf/demo"},
        ),
        (
            {"jobName": "a", QUEUE_KEY: "A", "x": 1},
            {"name": "b", "queue": "B"},
            {"jobName": "b", QUEUE_KEY: "B", "x": 1},
        ),
        ({"jobName": "a", QUEUE_KEY: "A"}, {}, {"jobName": "a", QUEUE_KEY: "A"}),
    ],
)
def test_options_count_more_than_the_file(
    part: dict[str, object], options: dict[str, str], expected: dict[str, object]
) -> None:
    assert from_options(part, url=URL, **options) == expected


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"maxWalltime": "ten"}, "maxWalltime='ten': not a whole number"),
        ({"transformation": ""}, "transformation=''"),
        ({"transformation": "", "container_name": "i", "jobPars": " "}, "no command for the image i"),
        ({"currentPriority": None}, "currentPriority=None: missing"),
        ({"PandaID": -5}, "PandaID=-5: less than 1"),
        ({"outFiles": "../x"}, "outFiles='../x'"),
    ],
)
def test_refused_with_field_and_value(more: dict[str, object], words: str) -> None:
    with pytest.raises(BadJob, match=words.replace("(", "[(]")):
        check({"transformation": "t", **more})


def test_a_good_one_and_its_queue() -> None:
    assert check({"transformation": "t"}) == "LOCAL"
    # Each output has its dataset, as a server's have.
    assert check({"transformation": "t", "outFiles": "a,log.tgz", QUEUE_KEY: "Q"}) == "Q"


class Watched(dict[str, object]):
    """Remembers what is looked up."""

    def __init__(self, content: dict[str, object]) -> None:
        super().__init__(content)
        self.asked: set[str] = set()

    def get(self, key: str, default: object = None) -> object:
        self.asked.add(key)
        return super().get(key, default)

    def items(self) -> Iterator[tuple[str, object]]:  # type: ignore[override]
        return iter(())


def test_no_key_that_a_pilot_reads_is_called_unread() -> None:
    definition = Watched(complete({"transformation": "t", "PandaID": 1, "inFiles": "a"}))
    read_definition(definition)
    assert len(definition.asked) > 25
    assert definition.asked <= KEYS
    assert unread(complete({"debug": "True"})) == []


def test_unread_keys() -> None:
    assert unread({"maxWaltime": 1, "zz": 2}) == [
        "no pilot reads 'maxWaltime': is it 'maxWalltime'?",
        "no pilot reads 'zz'",
    ]
