"""Settings in INI files, with pilot3's names of sections and keys."""

import configparser
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core.resolve import BadSetting

__all__ = ["IniFiles", "read_ini"]

#: For a whole site, and for one pilot; HARVESTER_PILOT_CONFIG comes after them.
PLACES = (Path("/etc/panda/pilot.cfg"), Path("pilot.cfg"))


@dataclass(frozen=True, slots=True)
class IniFiles:
    """What they say.

    Attributes
    ----------
    texts, files
        `Section.key` to its text, and to the file that has the last word on it.
    """

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """Where a value comes from: file and key, if it is from a file."""
        return f"{self.files[name]}: {name}" if name in self.files else name

    def remarks(self, known: Iterable[str]) -> list[str]:
        """One line for each file with keys that nobody reads."""
        without_effect: dict[Path, list[str]] = {}
        for name in self.files.keys() - set(known):
            without_effect.setdefault(self.files[name], []).append(name)
        return [
            f"{path}: without effect: {', '.join(sorted(names))}"
            for path, names in sorted(without_effect.items())
        ]


def read_ini(environment: Mapping[str, str], places: Iterable[Path] = PLACES) -> IniFiles:
    """Read the files that are there, the later over the earlier.

    `$NAME` stands for a variable; one that is not set leaves the key unset.

    Raises
    ------
    BadSetting
        A file is none, or the named one is not there.
    """
    paths = list(places)
    named = environment.get("HARVESTER_PILOT_CONFIG", "")
    if named and not named.startswith("$"):
        if not Path(named).is_file():
            raise BadSetting(f"HARVESTER_PILOT_CONFIG={named!r}: no such file")
        paths.append(Path(named))
    found = IniFiles()
    for path in paths:
        parser = configparser.ConfigParser(interpolation=None)
        # Keys are written as pilot3 writes them.
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as err:
            raise BadSetting(f"{path}: {str(err).splitlines()[0]}") from err
        for section in parser.sections():
            for key, text in parser.items(section):
                name = f"{section}.{key}"
                found.texts[name] = environment.get(text[1:], "") if text.startswith("$") else text
                found.files[name] = path
    return found
