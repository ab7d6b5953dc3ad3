"""PURE: values of a job definition, in every spelling there is of them.

The same field comes as 4000, "4000", "NULL", "None", "" or null, depending on
the dialect, the server's release and whether Harvester was in between.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pilot_core.base.files import TooLongName, UnsafeName, safe_join
from pilot_core.errors import BadJob
from pilot_core.model.codes import ErrorCode

__all__ = ["flag", "items", "number", "pilot_secrets", "plain_folder", "plain_name", "text", "unset"]

_INT8 = 2**63 - 1
_UNSET = ("", "NULL", "None")
_ANYWHERE = Path("/")


def unset(value: object) -> bool:
    """True for every spelling of "no value"."""
    return value is None or (isinstance(value, str) and value.strip() in _UNSET)


def text(raw: Mapping[str, object], field: str, *, exact: bool = False) -> str:
    """A string; empty where unset.

    Parameters
    ----------
    exact
        Byte for byte: only a missing value or null counts as unset, for the
        word NULL may be what the payload wants to read.

    Raises
    ------
    BadJob
        Neither text nor a number, or text that no file and no command can
        hold.
    """
    value = raw.get(field)
    if value is None or (not exact and unset(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadJob(field, value, f"{type(value).__name__} instead of text")
    try:
        found = str(value)
        found.encode()
    except ValueError as err:  # half of a surrogate pair, or an int beyond all bounds
        raise BadJob(field, "", "cannot be written as UTF-8") from err
    if "\0" in found:
        raise BadJob(field, found, "holds a NUL character")
    return found


def number(raw: Mapping[str, object], field: str) -> int | None:
    """An int; None where unset.

    Raises
    ------
    BadJob
        Not a whole number of at most 64 bits.
    """
    value = raw.get(field)
    if unset(value):
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        found = value if isinstance(value, int) else _whole(value)
    except (ValueError, OverflowError) as err:
        raise BadJob(field, value, "not a whole number") from err
    if abs(found) > _INT8:
        raise BadJob(field, "", "number of more than 64 bits")
    return found


def _whole(value: str | float) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = float(value)
    if not value.is_integer():
        raise ValueError
    return int(value)


def flag(raw: Mapping[str, object], field: str, *, default: bool) -> bool:
    """A bool out of True, "True", 1, "1", "yes"...

    Raises
    ------
    BadJob
        Something else.
    """
    value = raw.get(field)
    if unset(value):
        return default
    word = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if word in ("true", "1", "yes", "y"):
        return True
    if word in ("false", "0", "no", "n"):
        return False
    raise BadJob(field, value, "neither true nor false")


def items(raw: Mapping[str, object], field: str) -> list[str]:
    """A comma-separated list, items stripped, unset ones as ""; empty where
    unset.
    """
    found = text(raw, field)
    return ["" if unset(item) else item.strip() for item in found.split(",")] if found else []


def plain_name(field: str, name: str) -> str:
    """A file name that stays in its folder.

    Raises
    ------
    BadJob
        It would not: LFNTOOLONG or BADOUTPUTFILENAME.
    """
    try:
        return safe_join(_ANYWHERE, name).name
    except TooLongName as err:
        raise BadJob(field, name, str(err), code=ErrorCode.LFNTOOLONG) from err
    except UnsafeName as err:
        raise BadJob(field, name, str(err), code=ErrorCode.BADOUTPUTFILENAME) from err


def plain_folder(field: str, name: str) -> str:
    """A dataset or scope that is, or gives, a folder below its storage's
    prefix; empty for none.

    Raises
    ------
    BadJob
        It is absolute, or a part of it is no plain name.
    """
    if name.startswith("/"):
        raise BadJob(field, name, "absolute", code=ErrorCode.BADOUTPUTFILENAME)
    for part in name.split("/"):
        if part:
            plain_name(field, part)
    return name


def pilot_secrets(raw: Mapping[str, object]) -> dict[str, str]:
    """`pilotSecrets`: a JSON object, or the text of one.

    Raises
    ------
    BadJob
        It is neither; the value is not shown.
    """
    value = raw.get("pilotSecrets")
    if unset(value):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, Mapping):
        raise BadJob("pilotSecrets", "***", "not a JSON object")
    return {
        str(key): item if isinstance(item, str) else json.dumps(item, default=str)
        for key, item in value.items()
    }
