"""Imports run downhill, and only `app.py` names adapters: docs/architecture.md
as a test.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Level of each module prefix, the longest match wins; an import must go to a
# larger number, or stay inside its own capability.
LEVELS = {
    "pilot_core": 0,
    "pilot_core.__main__": 10,
    "pilot_core.pilot": 15,
    "pilot_core.main": 18,
    "pilot_core.app": 20,
    "pilot_core.local": 20,
    "pilot_core.api": 25,
    "pilot_starter": 30,
    "pilot_starter.__main__": 10,
    "pilot_core.agent": 30,
    "pilot_core.lastword": 35,
    "pilot_core.signals": 35,
    "pilot_core.attend": 35,
    "pilot_core.asking": 46,
    "pilot_core.cli": 30,
    "pilot_core.engines": 25,
    "pilot_core.jobfiles": 46,
    "pilot_core.workfolder": 46,
    "pilot_core.jobrun": 40,
    "pilot_core.jobreports": 42,
    "pilot_core.jobtools": 43,
    "pilot_core.heartbeat": 45,
    "pilot_core.payloadrun": 45,
    "pilot_core.watch": 45,
    "pilot_core.wrapup": 45,
    "pilot_core.finalreport": 45,
    "pilot_core.jobthreads": 46,
    "pilot_core.config": 48,
    "pilot_core.ledger": 48,
    "pilot_core.settings": 48,
    "pilot_core.resolve": 49,
    "pilot_core.inifiles": 48,
    "pilot_core.ignored": 48,
    "pilot_core.options": 48,
    "pilot_core.vitals": 49,
    "pilot_core.compile": 50,
    "pilot_core.debugging": 50,
    "pilot_core.fetch": 50,
    "pilot_core.info": 50,
    "pilot_core.jobs": 50,
    "pilot_core.limits": 50,
    "pilot_core.loglines": 50,
    "pilot_core.logship": 50,
    "pilot_core.machine": 50,
    "pilot_core.actions": 55,
    "pilot_core.events": 55,
    "pilot_core.monitor": 50,
    "pilot_core.pulse": 50,
    "pilot_core.server": 50,
    "pilot_core.storage": 50,
    "container": 60,
    "pilot_core.experiments": 60,
    "pilot_core.errors": 70,
    "pilot_core.model": 80,
    "pilot_core.base": 90,
}
# Settings are plain data that any capability may take.
FREE = {"pilot_core.config"}
SDKS = {
    "docker": "container",
    "kubernetes": "container",
    "google": ("pilot_core.logship.sinks", "pilot_core.storage"),
    "boto3": "pilot_core.storage",
    "stomp": "pilot_core.jobs",
}


def modules() -> dict[str, Path]:
    found = {}
    for package in ("pilot_core", "pilot_starter", "container"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def level(name: str) -> int | None:
    best = max((p for p in LEVELS if name == p or name.startswith(p + ".")), key=len, default=None)
    return None if best is None else LEVELS[best]


def capability(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "pilot_core" and len(parts) > 1 else parts[0]


def test_imports_run_downhill() -> None:
    known = modules()
    wrong = []
    for name, path in known.items():
        for target in imports(path):
            if target not in known or target in FREE or target == "pilot_core":
                continue
            if capability(name) == capability(target) and capability(name) not in ("pilot_core",):
                continue
            mine, theirs = level(name), level(target)
            assert mine is not None, f"{name} has no level in LEVELS"
            assert theirs is not None, f"{target} has no level in LEVELS"
            if theirs <= mine:
                wrong.append(f"{name} (level {mine}) imports {target} (level {theirs})")
    assert not wrong, "\n".join(wrong)


def test_each_sdk_stays_in_its_adapter() -> None:
    wrong = []
    for name, path in modules().items():
        for target in imports(path):
            allowed = SDKS.get(target.split(".")[0])
            if allowed is not None and not name.startswith(allowed):
                wrong.append(f"{name} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_only_cli_reads_the_environment() -> None:
    wrong = []
    for name, path in modules().items():
        if name.endswith(".cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_only_the_clock_sleeps() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        if name != "pilot_core.base.clock"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "sleep"
    ]
    assert not wrong, "\n".join(wrong)
