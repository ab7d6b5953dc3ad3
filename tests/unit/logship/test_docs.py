"""Each test that docs/realtime-logging.md promises is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_each_way_to_lose_a_line_has_the_test_that_the_page_names() -> None:
    page = (ROOT / "docs/realtime-logging.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert len(named) > 20
    assert not missing
