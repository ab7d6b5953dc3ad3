"""`docs/threads.md` lists the threads that the code starts, no more and no
less.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def started() -> set[tuple[str, str]]:
    found = set()
    for package in ("pilot_core", "pilot_starter", "container"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "spawn"
                    and node.args
                ):
                    first = node.args[0]
                    constant = isinstance(first, ast.Constant) and isinstance(first.value, str)
                    found.add((str(path.relative_to(ROOT)), first.value if constant else "(dynamic)"))
    return found


def listed() -> set[tuple[str, str]]:
    found = set()
    for line in (ROOT / "docs" / "threads.md").read_text().splitlines():
        row = re.match(r"\| `([^`]+\.py)` \| (?:`([^`]+)`|\(.*?\)) \|", line)
        if row:
            found.add((row[1], row[2] or "(dynamic)"))
    return found


def test_the_page_and_the_code_agree() -> None:
    assert listed() == started()


def of_jobs() -> set[str]:
    """Names of threads that are started through `JobThreads.spawn`."""
    return {
        node.args[0].value
        for path in sorted((ROOT / "pilot_core").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "threads.spawn"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_the_page_says_what_the_death_of_each_thread_of_a_job_means() -> None:
    page = (ROOT / "docs" / "threads.md").read_text()
    table = page.partition("| thread of a job |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)` \| \S", table, re.MULTILINE)) == of_jobs()


def test_a_job_starts_no_thread_but_through_those() -> None:
    for name in ("jobrun", "finalreport", "watch", "payloadrun", "heartbeat"):
        text = (ROOT / "pilot_core" / f"{name}.py").read_text()
        assert text.count(".spawn(") == text.count("threads.spawn("), name


def test_no_thread_is_started_any_other_way() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("pilot_core", "pilot_starter", "container")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "scope.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("Thread", "Timer")
        and not isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "threading"
        and not _is_annotation(path, node)
    ]
    assert not wrong, wrong


def _is_annotation(path: Path, node: ast.Attribute) -> bool:
    line = path.read_text().splitlines()[node.lineno - 1]
    return "threading.Thread(" not in line and "threading.Timer(" not in line
