"""PURE: CRIC's JSON to `Queue` and `Storage`.

CRIC writes what its web form held: null, "" or "NULL" for nothing, numbers as
strings, lists with one entry as the entry. All of that is understood; a value
that can mean nothing is refused with the field's name.
"""

import json
from collections.abc import Mapping

from pilot_core.errors import SetupError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.queue import Protocol, Queue, Storage

__all__ = ["parse_json", "parse_queue", "parse_storage", "settings_of"]

Settings = Mapping[str, object]

_UNSET = (None, "", "NULL", "null", "None", "undefined")


def parse_json(raw: bytes, source: str) -> Settings:
    """The JSON object in `raw`.

    Raises
    ------
    SetupError
        QUEUEDATANOTOK for half a document, an HTML page or anything else.
    """
    try:
        data = json.loads(raw)
    # A document may be nested deeper than Python's stack.
    except (ValueError, RecursionError) as err:
        start = raw[:40].decode("utf-8", "replace").strip()
        page = start.lower().startswith(("<!doctype", "<html"))
        what = "an HTML page" if page else f"no JSON ({err}), starts with {start!r}"
        raise SetupError(f"{source}: {what if raw else 'empty'}", ErrorCode.QUEUEDATANOTOK) from err
    if not isinstance(data, dict):
        raise SetupError(f"{source}: JSON, but no object", ErrorCode.QUEUEDATANOTOK)
    return data


def settings_of(document: Settings, name: str, *, marks: tuple[str, ...]) -> Settings | None:
    """The settings of `name` in a document, or None if it has none.

    Three shapes are in use: a map of names to settings with one entry or with
    all of CRIC's, and the settings themselves.

    Parameters
    ----------
    marks
        Keys that hold the name where the document is the settings themselves.
    """
    inner = document.get(name)
    if isinstance(inner, dict):
        return inner
    return document if name in (document.get(mark) for mark in marks) else None


def parse_queue(settings: Settings, name: str) -> Queue:
    """A queue from CRIC's settings for it.

    Raises
    ------
    SetupError
        QUEUEDATANOTOK, naming queue, field and value.
    """
    read = _Reader(settings, f"queue {name}")
    plain = read.names("copytools")
    copytools = read.activities("acopytools")
    return Queue(
        name=name,
        resource=read.text("panda_resource") or name,
        state=read.text("state").upper() or "ACTIVE",
        status=read.text("status").lower() or "online",
        type=read.text("type") or "production",
        resource_type=read.text("resource_type"),
        timefloor_s=60 * read.number("timefloor"),  # CRIC holds minutes
        maxtime_s=read.number("maxtime"),
        maxrss_mb=read.number("maxrss"),
        maxwdir_mb=read.number("maxwdir"),
        corecount=max(1, read.number("corecount")),
        container_type=read.text("container_type"),
        container_options=read.text("container_options"),
        catchall=read.text("catchall"),
        copytools={**copytools, "": plain} if plain else copytools,
        setups=read.setups("copytools"),
        storages=read.activities("astorages"),
        params=read.mapping("params"),
    )


def parse_storage(settings: Settings, name: str) -> Storage:
    """A ddmendpoint from CRIC's settings for it.

    `arprotocols` holds protocols by activity; `rprotocols` those of the
    endpoint itself, by id, which then serve every activity.

    Raises
    ------
    SetupError
        QUEUEDATANOTOK, naming ddmendpoint, field and value.
    """
    read = _Reader(settings, f"ddmendpoint {name}")
    protocols: dict[str, tuple[Protocol, ...]] = {}
    for activity, entries in read.mapping("arprotocols").items():
        protocols[str(activity)] = _protocols(read, "arprotocols", entries)
    general = tuple(
        protocol
        for entry in read.mapping("rprotocols").values()
        for protocol in _protocols(read, "rprotocols", [entry])
    )
    if general:
        protocols[""] = general
    return Storage(
        name=name,
        type=read.text("type"),
        token=read.text("token"),
        deterministic=read.flag("is_deterministic"),
        protocols={activity: found for activity, found in protocols.items() if found},
    )


def _protocols(read: "_Reader", key: str, entries: object) -> tuple[Protocol, ...]:
    """Protocol entries: maps, or lists `[endpoint, path, ...]` from before
    2019.
    """
    if entries is None or entries == "":
        return ()
    if not isinstance(entries, list):
        raise read.wrong(key, entries, "a list of protocols")
    found = []
    for entry in entries:
        if isinstance(entry, dict):
            endpoint, path, flavour = (entry.get(k) for k in ("endpoint", "path", "flavour"))
        elif isinstance(entry, list) and len(entry) >= 2:
            endpoint, path, flavour = entry[0], entry[1], ""
        else:
            raise read.wrong(key, entry, "a protocol with endpoint and path")
        if endpoint not in _UNSET:
            found.append(Protocol(str(endpoint), _or_empty(path), _or_empty(flavour)))
    return tuple(found)


def _or_empty(value: object) -> str:
    return "" if value in _UNSET else str(value)


class _Reader:
    """Reads fields leniently, and says which one is wrong."""

    def __init__(self, settings: Settings, what: str) -> None:
        self._settings = settings
        self._what = what

    def wrong(self, key: str, value: object, wanted: str) -> SetupError:
        """The error for a field that means nothing."""
        try:
            shown = json.dumps(value, default=str)[:80]
        except RecursionError:
            shown = "something deeply nested"
        return SetupError(f"{self._what}: {key}={shown} is not {wanted}", ErrorCode.QUEUEDATANOTOK)

    def _get(self, key: str) -> object:
        value = self._settings.get(key)
        return None if value in _UNSET else value

    def text(self, key: str) -> str:
        """A text; "" for nothing."""
        value = self._get(key)
        if value is None:
            return ""
        if isinstance(value, (str, int, float)):
            return str(value).strip()
        raise self.wrong(key, value, "a text")

    def number(self, key: str) -> int:
        """A whole number that is not negative; 0 for nothing."""
        value = self._get(key)
        if value is None:
            return 0
        try:
            if isinstance(value, (str, int, float)) and not isinstance(value, bool):
                found = int(float(value))
                if found >= 0:
                    return found
        except (ValueError, OverflowError):
            pass
        raise self.wrong(key, value, "a number of 0 or more")

    def flag(self, key: str) -> bool:
        """True or False; False for nothing."""
        value = self._get(key)
        known: dict[object, bool] = {None: False, True: True, False: False, "true": True, "false": False}
        known |= {"1": True, "0": False, "yes": True, "no": False}
        word = value.lower() if isinstance(value, str) else value
        if isinstance(word, (str, int, type(None))) and word in known:
            return known[word]
        raise self.wrong(key, value, "true or false")

    def mapping(self, key: str) -> Settings:
        """A map; empty for nothing. An empty list is PHP's and Perl's empty
        map.
        """
        value = self._get(key)
        if value is None or value == []:
            return {}
        if isinstance(value, dict):
            return value
        raise self.wrong(key, value, "a map")

    def names(self, key: str) -> tuple[str, ...]:
        """Names: the keys of a map, a list, or one text with commas."""
        value = self._get(key)
        found: object = {} if value is None else value.split(",") if isinstance(value, str) else value
        if not isinstance(found, (list, dict)) or not all(isinstance(item, str) for item in found):
            raise self.wrong(key, value, "a list of names")
        return tuple(name for item in found if (name := item.strip()) not in _UNSET)

    def setups(self, key: str) -> dict[str, str]:
        """`{tool: {"setup": script}}`, those without a script left out."""
        value = self._get(key)
        tools = value if isinstance(value, dict) else {}
        inner = {
            str(tool): _Reader(about, f"{self._what}: {key}: {tool}")
            for tool, about in tools.items()
            if isinstance(about, dict)
        }
        return {tool: script for tool, read in inner.items() if (script := read.text("setup"))}

    def activities(self, key: str) -> dict[str, tuple[str, ...]]:
        """Names by activity, activities without any left out."""
        inner = _Reader(self.mapping(key), f"{self._what}: {key}")
        return {str(a): names for a in self.mapping(key) if (names := inner.names(str(a)))}
