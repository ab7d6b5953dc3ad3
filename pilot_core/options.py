"""What people see of a table of settings: options in `--help`, and each value
with its source in `--show-config`. Pure; pilot and starter share it.
"""

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import PurePath
from typing import Any, NoReturn

from pilot_core.base import text
from pilot_core.resolve import Setting, Value, unit

__all__ = ["Help", "Parser", "add_options", "default", "listing", "metavar", "shown"]

# What a converter takes.
_METAVARS: Mapping[Callable[[str], object], str] = {
    text.byte_count: "BYTES",
    text.count: "N",
    text.flag: "yes|no",
    text.gigabytes: "GB",
    text.kilobytes: "KB",
    text.names: "NAME:NAME",
    text.number: "N",
    text.path: "PATH",
    text.port: "PORT",
    text.ratio: "NUMBER",
    text.resource_type: "TYPE",
    text.seconds: "SECONDS",
    text.size_mb: "MB",
    text.url: "URL",
    text.whole_seconds: "SECONDS",
    text.words: "WORD,WORD",
}


class Help(argparse.HelpFormatter):
    """Options in a column that the longer ones fit into, too."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36)


class Parser(argparse.ArgumentParser):
    """Says what an option may have meant that it does not know."""

    def error(self, message: str) -> NoReturn:
        """As argparse does, with a hint."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1) if unknown else []
        super().error(f"{message}: is it {near[0]}?" if near else message)


def metavar(setting: Setting) -> str:
    """What help calls the value of an option."""
    if isinstance(setting.convert, text.OneOf):
        return "|".join(setting.convert.words)
    return setting.shape or _METAVARS.get(setting.convert, "TEXT")


def default(setting: Setting, kinds: Mapping[str, Any]) -> str:
    """The value without any source, in words; empty for nothing.

    Parameters
    ----------
    kinds
        Dataclass by the first part of the names of its settings.
    """
    if setting.default or setting.const is not None:
        return setting.default or "off"
    section, _, name = setting.field.rpartition(".")
    found = [f.default for f in fields(kinds[section]) if f.name == name] if section in kinds else []
    return shown(found[0]) if found and found[0] is not MISSING else ""


def shown(value: object) -> str:
    """A value as people write it; empty for nothing."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:.15g}"
        case str() | PurePath():
            return str(value)
        case tuple() | list():
            return ",".join(shown(part) for part in value)
    return "" if value is None else str(value)


def add_options(
    parser: argparse.ArgumentParser, groups: Mapping[str, Iterable[Setting]], kinds: Mapping[str, Any]
) -> None:
    """The options of a table, a group each for its parts."""
    for title, settings in groups.items():
        group = parser.add_argument_group(title)
        for setting in settings:
            if not setting.flags:
                continue
            words = setting.meaning + _brackets(setting, default(setting, kinds))
            if setting.const is not None:
                group.add_argument(
                    *setting.flags, dest=setting.dest, action="store_const", const=setting.const, help=words
                )
            else:
                group.add_argument(*setting.flags, dest=setting.dest, metavar=metavar(setting), help=words)


def _brackets(setting: Setting, value: str) -> str:
    """Default and variables."""
    if setting.const is not None:
        value = ""
    parts = [*([f"default {value}"] if value else []), *([", ".join(setting.env)] if setting.env else [])]
    return f" [{'; '.join(parts)}]" if parts else ""


def listing(
    config: object, values: Mapping[str, Value], table: Iterable[Setting], made: Mapping[str, tuple[str, ...]]
) -> str:
    """Each setting with value, unit, source, and what could set it; fields that
    are not part of a repr are secret or long, and left out.

    Parameters
    ----------
    config
        Dataclass, of dataclasses or values.
    values
        What some source gave, by name.
    made
        Names of the settings that others are made of.
    """
    rows = {setting.field: setting for setting in table}
    lines = ["# setting, value, unit, source; in brackets what sets it, the first that is given counts"]
    for name, value in _fields(config, ""):
        source = values[name].source if name in values else "default"
        origins = [rows[origin] for origin in (name, *made.get(name, ())) if origin in rows]
        by = dict.fromkeys(part for setting in origins for part in setting.names)
        brackets = f"  [{', '.join(by)}]" if by else ""
        lines.append(f"{name:28} {shown(value):44} {unit(name):6} {source}{brackets}")
    return "\n".join(lines)


def _fields(config: object, prefix: str) -> Iterator[tuple[str, object]]:
    assert is_dataclass(config)
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from _fields(value, f"{prefix}{item.name}.")
        elif item.repr:
            yield f"{prefix}{item.name}", value
