"""The documents say what the code does, and lead to each other."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from pilot_core.inifiles import PLACES
from pilot_core.logship.target import _NAMES, KINDS, parse_target

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "changes")
CONFIGURATION = (DOCS / "configuration.md").read_text()


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = _module(ROOT / "scripts" / "doc_tables.py")


@pytest.mark.parametrize("page", tables.PAGES)
def test_the_tables_of_a_page_are_those_of_the_code(page: str) -> None:
    text = (DOCS / page).read_text()
    assert text.splitlines() == tables.written(text).splitlines(), "run: python scripts/doc_tables.py"


def test_every_table_stands_in_a_page() -> None:
    text = "".join((DOCS / page).read_text() for page in tables.PAGES)
    assert sorted(re.findall(r"<!-- table (\w+) -->", text)) == sorted(tables.TABLES)


def test_a_table_that_is_stale_is_written_anew() -> None:
    stale = CONFIGURATION.replace("| SLURM |", "| slurm |")
    assert stale != CONFIGURATION
    assert tables.written(stale) == CONFIGURATION


def test_every_log_service_stands_in_the_document() -> None:
    _, _, text = CONFIGURATION.partition("## Where real-time records go")
    text, _, _ = text.partition("\n## ")
    examples = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert {parse_target(example.replace(":port", ":1")).kind for example in examples} == set(KINDS)
    said = " ".join(re.findall(r"`([^`]+)`", text))
    assert [name for name in _NAMES if not re.search(rf"\b{name}\b", said)] == []


def test_every_variable_that_is_read_stands_in_the_document() -> None:
    read = {
        name
        for package in ("pilot_core", "container")
        for path in (ROOT / package).rglob("*.py")
        if "local" not in path.parts and path.parent.name != "experiments"
        for name in re.findall(r'environment(?:\.get\(|\[)"([A-Za-z_0-9]+)"', path.read_text())
    }
    assert "HARVESTER_PILOT_CONFIG" in read
    assert [name for name in sorted(read) if f"`{name}`" not in CONFIGURATION] == []
    assert [str(place) for place in PLACES if f"`{place}`" not in CONFIGURATION] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_the_readme_leads_to_every_page() -> None:
    links = set(re.findall(r"\]\((docs/[^)#]*)\)", (ROOT / "README.md").read_text()))
    missing = {str(page.relative_to(ROOT)) for page in PAGES if page.parent == DOCS} - links
    assert not missing
    assert {"docs/decisions/", "docs/changes/"} <= links
