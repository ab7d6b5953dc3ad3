"""Write the tables of docs/configuration.md and docs/error-codes.md from the
code.

    python scripts/doc_tables.py            writes what has changed
    python scripts/doc_tables.py --check    only looks; 1 if it would write

A table stands between `<!-- table NAME -->` and `<!-- end -->`; what is around
it is written by hand.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pilot_core import cli
from pilot_core.ignored import IGNORED
from pilot_core.model.codes import EXIT_CODES, ErrorCode, message
from pilot_core.options import default, metavar
from pilot_core.resolve import Setting
from pilot_core.settings import MADE
from pilot_starter import table as starter

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("configuration.md", "error-codes.md")


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*names: str) -> list[str]:
    return [row(*names), row(*("---" for _ in names))]


def code(names: Iterable[str]) -> str:
    """Names as code; a bar would end the cell."""
    return ", ".join(f"`{name}`".replace("|", "\\|") for name in names)


def option(setting: Setting) -> str:
    *short, long = setting.flags or ("",)
    value = f" {metavar(setting)}" if long and setting.const is None else ""
    return code([*short, f"{long}{value}"] if long else [])


def name(setting: Setting, made: Mapping[str, tuple[str, ...]]) -> str:
    """As `--show-config` has it: what is only read goes by what is made of it."""
    if not setting.field.startswith("cli."):
        return setting.field
    return next(result for result, origins in made.items() if setting.field in origins)


def meaning(setting: Setting) -> str:
    first = setting.flags and setting.names[0] in setting.env
    return setting.meaning + ("; the variable comes before the option" if first else "")


def settings(
    groups: Mapping[str, Iterable[Setting]],
    kinds: Mapping[str, Any],
    made: Mapping[str, tuple[str, ...]],
    *,
    ini: bool,
) -> Iterator[str]:
    """A heading and a table for each group."""
    for title, rows in groups.items():
        yield f"### {title[0].upper()}{title[1:]}"
        yield ""
        yield from head(
            "setting", "option", "variable", *(["pilot.cfg"] if ini else []), "default", "unit", "what it is"
        )
        for setting in rows:
            yield row(
                code([name(setting, made)]),
                option(setting),
                code(setting.env),
                *([code([setting.ini] if setting.ini else [])] if ini else []),
                default(setting, kinds),
                setting.unit,
                meaning(setting),
            )
        yield ""


def ignored() -> Iterator[str]:
    yield from head("option", "why")
    for item in IGNORED:
        yield row(code(item.flags), item.why)


def batch() -> Iterator[str]:
    yield from head("variable", "batch system")
    for variable, system in cli.BATCH_SYSTEMS:
        yield row(code([variable]), system)


def example() -> Iterator[str]:
    """Some lines of a `--show-config`, and what it was asked with."""
    options = ["-q", "DOMA_LSST_DEV", "--lifetime", "3600", "--payload-grace", "30"]
    environment = {"PANDAPILOT_LIFETIME": "86400", "PILOT_ENGINE": "docker"}
    yield "```"
    yield " ".join(
        [
            "$",
            *(f"{name}={value}" for name, value in environment.items()),
            "pilot.py",
            *options,
            "--show-config",
        ]
    )
    wanted = r"# |(worker\.(queue|lifetime_s)|payload\.(engine|grace_s|fetch_s)|monitor\.looping_s) "
    shown = cli.show(cli.parse(options, environment))
    yield from (line for line in shown.splitlines() if re.match(wanted, line))
    yield "```"


def codes(*, ours: bool) -> Iterator[str]:
    """Those that this pilot or its starter can report, or the others."""
    sources = "".join(
        path.read_text()
        for package in ("pilot_core", "pilot_starter", "container")
        for path in (DOCS.parent / package).rglob("*.py")
        if path.name != "codes.py"
    )
    used = set(re.findall(r"ErrorCode\.([A-Z0-9]+)\b", sources)) - {"NONE"}
    yield from head("code", "name", "what it says", "exit code")
    for number in ErrorCode:
        if number is not ErrorCode.NONE and (number.name in used) is ours:
            yield row(int(number), code([number.name]), message(number), EXIT_CODES.get(number, 1))


TABLES: Mapping[str, Callable[[], Iterable[str]]] = {
    "pilot": lambda: settings(cli.groups(), cli.KINDS, MADE, ini=True),
    "starter": lambda: settings(starter.GROUPS, starter.KINDS, starter.MADE, ini=False),
    "ignored": ignored,
    "batch": batch,
    "example": example,
    "codes": lambda: codes(ours=True),
    "others": lambda: codes(ours=False),
}


def written(page: str) -> str:
    """The page with its tables as they should be."""
    return re.sub(
        r"(?s)(<!-- table (\w+) -->\n).*?(<!-- end -->)",
        lambda found: found[1] + "\n".join(TABLES[found[2]]()).rstrip() + "\n" + found[3],
        page,
    )


def main(argv: list[str]) -> int:
    stale = [
        path for path in (DOCS / page for page in PAGES) if written(path.read_text()) != path.read_text()
    ]
    for path in stale:
        print(f"{path.name} does not say what the code does" if argv else f"{path.name} written")
        if not argv:
            path.write_text(written(path.read_text()))
    return 1 if argv and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
