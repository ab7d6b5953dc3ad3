"""What a setting is, and which of its sources gives the value. Pure.

A value comes from exactly one source. The row says which of them come first:
command line, environment, INI file, but for one variable that beats its option.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BadSetting", "Setting", "Value", "resolve", "unit"]


# What the end of a setting's name says.
_UNITS = {"s": "s", "mb": "MB", "gb": "GB", "bytes": "bytes"}


def unit(name: str) -> str:
    """Unit of the setting with this name; empty for none."""
    return _UNITS.get(name.rpartition("_")[2], "")


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
        uses. The end of a name is its unit.
    meaning
        In words.
    sources
        What can set it, what counts first in front: options, variables, and
        `Section.key` as in pilot3's default.cfg.
    convert
        Text to value; ValueError says what was expected.
    const
        Value of an option that takes none.
    shape
        What help calls the value, where the converter does not say it.
    default
        Words for a default that `config.py` does not hold.
    """

    field: str
    meaning: str
    sources: str
    convert: Callable[[str], object] = str
    const: object = None
    shape: str = ""
    default: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """Options; empty for none."""
        return tuple(name for name in self.sources.split() if name.startswith("-"))

    @property
    def env(self) -> tuple[str, ...]:
        """Variables, the first that is set counts."""
        return tuple(name for name in self.sources.split() if name[0] != "-" and "." not in name)

    @property
    def ini(self) -> str:
        """Key in the INI files; empty for none."""
        return next((name for name in self.sources.split() if name[0] != "-" and "." in name), "")

    @property
    def dest(self) -> str:
        """Name in the parsed options."""
        return self.field.replace(".", "__")

    @property
    def unit(self) -> str:
        """Of the value, as the program uses it: the end of the name says it."""
        return unit(self.field)

    @property
    def names(self) -> tuple[str, ...]:
        """The sources, with one name for the option."""
        short = self.flags[:-1]
        return tuple(name for name in self.sources.split() if name not in short)


def resolve(
    table: Sequence[Setting],
    options: Mapping[str, object],
    environment: Mapping[str, str],
    ini: Mapping[str, str],
    *,
    place: Callable[[str], str] = str,
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
    place
        A source as people are told of it; INI keys get their file in front.

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
                raise BadSetting(f"{place(source)}={raw!r}: {err}") from err
            values[setting.field] = Value(value, place(source))
            break
    return values


def _candidates(
    setting: Setting, options: Mapping[str, object], environment: Mapping[str, str], ini: Mapping[str, str]
) -> Iterator[tuple[str, object]]:
    for name in setting.names:
        if name in setting.flags:
            if setting.dest in options:
                yield name, options[setting.dest]
        elif name == setting.ini:
            if ini.get(name, ""):
                yield name, ini[name]
        elif environment.get(name, "") and not environment[name].startswith("$"):
            yield name, environment[name]
