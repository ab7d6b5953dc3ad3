"""The pages about logs say what is there."""

import ast
import inspect
import re
import textwrap
from pathlib import Path

from pilot_core.logship.contract import OutcomeKind
from pilot_core.logship.sinks.loki import LokiSink

ROOT = Path(__file__).resolve().parents[3]
HOWTO = (ROOT / "docs/howto-add-a-sink.md").read_text()


def test_each_way_to_lose_a_line_has_the_test_that_the_page_names() -> None:
    page = (ROOT / "docs/realtime-logging.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert len(named) > 20
    assert not missing


def test_the_howto_explains_each_outcome() -> None:
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", HOWTO, re.MULTILINE)) == {kind.name for kind in OutcomeKind}


def test_the_howto_shows_the_sink_as_it_is() -> None:
    def code(source: str) -> str:
        (function,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(function, ast.FunctionDef)
        if ast.get_docstring(function):
            del function.body[0]
        return ast.unparse(function)

    shown = re.findall(r"```python\n(def write.*?)```", HOWTO, re.DOTALL)
    assert list(map(code, shown)) == [code(inspect.getsource(LokiSink.write))]
