"""What a setting is, and which of its sources gives the value. Pure.

A value comes from exactly one source: command line, environment, INI file or
default, in this order; a setting that says `env_wins` swaps the first two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BadSetting", "Ignored", "Setting", "Value", "resolve"]


class BadSetting(ValueError):
    """A value that cannot be used; names source, setting and value."""


@dataclass(frozen=True, slots=True)
class Value:
    """A setting's value and where it came from."""

    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One row.

    Attributes
    ----------
    field
        `capability.name` in `config.py`, or `cli.name` for what only `cli.py`
        uses.
    flags
        Options; empty for none.
    env
        Variables, the first that is set counts.
    ini
        `Section.key` in pilot3's default.cfg.
    const
        Value of an option that takes none.
    """

    field: str
    meaning: str
    convert: Callable[[str], object] = str
    flags: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    ini: str = ""
    unit: str = ""
    const: object = None
    env_wins: bool = False

    @property
    def dest(self) -> str:
        """Name in the parsed options."""
        return self.field.replace(".", "__")


@dataclass(frozen=True, slots=True)
class Ignored:
    """An option of pilot3 that is accepted and changes nothing; `why` is said
    once where it matters.
    """

    flags: tuple[str, ...]
    why: str = ""
    takes_value: bool = True


def resolve(
    table: Sequence[Setting],
    options: Mapping[str, object],
    environment: Mapping[str, str],
    ini: Mapping[str, str],
) -> dict[str, Value]:
    """Values that some source gives, by field; defaults are `config.py`'s.

    Parameters
    ----------
    table
        The settings there are.
    options
        Parsed options by `Setting.dest`, only those that were given.
    environment
        Variables; empty ones and ones that still hold an unexpanded `$` do not
        count.
    ini
        `Section.key` to text.

    Raises
    ------
    BadSetting
        Naming source and value.
    """
    values: dict[str, Value] = {}
    for setting in table:
        for source, raw in _candidates(setting, options, environment, ini):
            try:
                value = raw if not isinstance(raw, str) else setting.convert(raw)
            except ValueError as err:
                raise BadSetting(f"{source}={raw!r}: {err}") from err
            values[setting.field] = Value(value, source)
            break
    return values


def _candidates(
    setting: Setting, options: Mapping[str, object], environment: Mapping[str, str], ini: Mapping[str, str]
) -> Sequence[tuple[str, object]]:
    given: list[tuple[str, object]] = []
    if setting.dest in options:
        given.append((setting.flags[-1], options[setting.dest]))
    found: list[tuple[str, object]] = [
        (name, environment[name])
        for name in setting.env
        if environment.get(name, "") and not environment[name].startswith("$")
    ]
    given = [*found, *given] if setting.env_wins else [*given, *found]
    if setting.ini and ini.get(setting.ini, ""):
        given.append((setting.ini, ini[setting.ini]))
    return given
