"""docs/protocol.md says what the code does, row by row."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from pilot_core.base import retry
from pilot_core.base.retry import RetryPolicy
from pilot_core.jobs.definition import read_definition
from pilot_core.server import client
from pilot_core.server.answer import _CODES
from pilot_core.server.commands import _DEBUG_TOOLS, _WORDS
from pilot_core.server.field import Field
from pilot_core.server.fields import ACQUIRE, UPDATE, WORKER

ROOT = Path(__file__).resolve().parents[3]
DOC = (ROOT / "docs" / "protocol.md").read_text()
GOLDEN = ROOT / "tests" / "golden" / "wire"

TABLES: Mapping[str, tuple[str, tuple[Field, ...], tuple[str, ...]]] = {
    "Asking for a job": ("JobRequest", ACQUIRE, ("acquire",)),
    "Reporting on a job": ("JobReport", UPDATE, ("starting", "running", "heartbeat", "finished", "failed")),
    "Reporting on the worker": ("WorkerNote", WORKER, ("worker",)),
}


def section(title: str) -> str:
    """Text below a heading."""
    _, _, rest = DOC.partition(f"\n## {title}\n")
    assert rest, f"docs/protocol.md has no section {title!r}"
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[str]:
    """Rows of the first table, without its head."""
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def bodies(kinds: Iterable[str]) -> dict[str, set[str]]:
    """Names in the golden files of both dialects."""
    return {
        kind: {
            name
            for dialect in ("v1", "legacy")
            for name in json.loads((GOLDEN / f"{kind}.{dialect}.json").read_text())["body"]
        }
        for kind in kinds
    }


def expected_rows(owner: str, table: Iterable[Field], kinds: Iterable[str]) -> list[str]:
    found = []
    names = bodies(kinds)
    for field in table:
        kind = str(field.kind) + (f" (legacy: {field.legacy_kind})" if field.legacy_kind else "")
        limit = str(field.limit or "") + (
            "" if field.legacy_limit is None else f" (legacy: {field.legacy_limit})"
        )
        source = (
            f"`{owner}.{field.source}`"
            if field.source.isidentifier() or "." in field.source
            else field.source
        )
        pins = ", ".join(k for k in names if {field.v1, field.legacy} & names[k] - {""})
        when = str(field.when) + (
            ", required" if field.required else ", essential" if field.essential else ""
        )
        cells = (
            f"`{field.v1}`" if field.v1 else "–",
            f"`{field.legacy}`" if field.legacy else "–",
            kind,
            limit,
            field.unit,
            when,
            source,
            pins,
        )
        found.append("| " + " | ".join(cells) + " |")
    return found


@pytest.mark.parametrize("title", TABLES)
def test_every_field_stands_in_the_document(title: str) -> None:
    expected = expected_rows(*TABLES[title])
    assert rows(section(title)) == expected
    # A field that no golden file holds would be pinned by nothing.
    assert [row for row in expected if row.endswith("|  |")] == []


def test_every_parameter_of_a_credential_stands_in_the_document() -> None:
    table = section("Credentials").rpartition("\n\n| call |")[2]
    found = {
        tuple(cell.strip().strip("`") for cell in row.split("|")[1:4])
        for row in table.splitlines()
        if row.startswith("| ")
    }
    expected = set()
    for call in ("token", "proxy"):
        v1, legacy = (
            json.loads((GOLDEN / f"{call}.{dialect}.json").read_text()) for dialect in ("v1", "legacy")
        )
        expected |= {
            (call, *names) for names in zip(v1["query"], legacy.get("query") or legacy["body"], strict=True)
        }
    assert {row for row in found if row[0] in ("token", "proxy")} == expected


def test_every_definition_field_that_is_read_stands_in_the_document() -> None:
    class Recording(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            asked.add(key)
            return super().get(key, default)

    asked: set[str] = set()
    read_definition(
        Recording(
            PandaID=1, attemptNr=1, transformation="x", outFiles="a,log", logFile="log", inFiles="b", GUID="g"
        )
    )
    named = {row.split("|")[1].strip().strip("`") for row in rows(section("Job definition"))}
    assert named == asked


def test_every_retry_stands_in_the_document() -> None:
    policies = {
        name: value
        for name, value in {**vars(retry), **vars(client)}.items()
        if isinstance(value, RetryPolicy)
    }
    expected = {
        f"`{name}`": [
            str(p.attempts or "until the budget ends"),
            f"{p.first_s:g}",
            f"{p.factor:g}",
            f"{p.cap_s:g}",
            f"{p.soon_s:g}" if p.soon_s else "–",
            f"{p.spread[0]:g} to {p.spread[1]:g}",
        ]
        for name, p in policies.items()
    }
    found = {}
    for row in rows(section("Retries")):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        found[cells[0]] = cells[2:8]
    assert found == expected


def test_every_status_code_stands_in_the_document() -> None:
    found = {
        int(cells[1]): (cells[2].strip(), cells[3].strip().strip("`"))
        for cells in (row.split("|") for row in rows(section("StatusCode")))
    }
    assert found == {code: (words, getattr(make, "__name__", "")) for code, (words, make) in _CODES.items()}


def test_every_command_stands_in_the_document() -> None:
    found = {
        cells[1].strip().strip("`"): cells[2].strip().strip("`")
        for cells in (row.split("|") for row in rows(section("Commands")))
    }
    assert found == {
        **{word: kind.name for word, kind in _WORDS.items()},
        **{f"{tool} ...": "DEBUG_COMMAND" for tool in _DEBUG_TOOLS},
    }
