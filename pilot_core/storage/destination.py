"""PURE: where a job's files go, from the queue, its storage and the job.

Activities, fallbacks and the layout `<endpoint><path>/<queue>/<dataset>/` are
pilot3 3.11's (`api/data.py`, `copytool/gs.py`): the monitor and people's
scripts look for logs there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.queue import Protocol, Queue, Storage

__all__ = [
    "LOG_ACTIVITIES",
    "OUTPUT_ACTIVITIES",
    "Destination",
    "Endpoint",
    "choose_copytool",
    "choose_endpoint",
    "destination",
    "file_url",
]

LOG_ACTIVITIES = ("pl", "write_lan", "w")
OUTPUT_ACTIVITIES = ("write_lan", "w")

#: URL schemes each copytool can write to; "" is a plain path.
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "gs": ("gs",),
    "s3": ("s3", "https", "http"),
    "https": ("davs", "https", "dav", "http"),
    "gfal": ("root", "davs", "https", "srm", "gsiftp", "file"),
    "xrdcp": ("root", "roots", "xroot", "xroots"),
    "mv": ("file", ""),
    "cp": ("file", ""),
    "local": ("file", ""),
}

# Stands for the job's id in a dataset name.
ID_MARK = "#{pandaid}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The storage chosen for a file, by name.

    Attributes
    ----------
    name
        ddmendpoint.
    activity
        Activity under which the queue lists it.
    alternative
        The ddmendpoint that the job asked for, where the queue does not list
        it.
    """

    name: str
    activity: str
    alternative: str = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where files go and with which tool.

    Attributes
    ----------
    prefix
        URL that ends with a slash: `gs://bucket/logs/<queue>/PandaJob_<id>/`.
    endpoint
        ddmendpoint, as the file report names it.
    copytool
        CRIC's name of the tool.
    activity
        The activity that decided.
    """

    prefix: str
    endpoint: str
    copytool: str
    activity: str


def choose_endpoint(queue: Queue, activities: Sequence[str], *, asked: str = "") -> Endpoint:
    """The ddmendpoint for an activity.

    The first activity for which the queue lists any storage decides; within it
    the one that the job asked for, else the first.

    Raises
    ------
    StorageError
        NOSTORAGE.
    """
    for activity in activities:
        names = queue.storages.get(activity, ())
        if asked in names:
            return Endpoint(asked, activity)
        if names:
            return Endpoint(names[0], activity, alternative=asked)
    raise StorageError(
        f"queue {queue.name} has no storage (astorages) for {_either(activities)}", ErrorCode.NOSTORAGE
    )


def choose_copytool(queue: Queue, activities: Sequence[str], *, available: Collection[str]) -> str:
    """The first usable copytool of the first activity that has any.

    Falls back on the activity `default`, then on the queue's plain list.

    Raises
    ------
    StorageError
        UNKNOWNCOPYTOOL if the queue names none, or none that we have.
    """
    for activity in (*activities, "default", ""):
        tools = queue.copytools.get(activity, ())
        for tool in tools:
            if tool in available:
                return tool
        if tools:
            raise StorageError(
                f"queue {queue.name} wants copytool {' or '.join(tools)} for {activity or 'every activity'}; "
                f"there is {', '.join(sorted(available)) or 'none'}",
                ErrorCode.UNKNOWNCOPYTOOL,
            )
    raise StorageError(
        f"queue {queue.name} names no copytool (acopytools) for {_either(activities)}",
        ErrorCode.UNKNOWNCOPYTOOL,
    )


def destination(
    queue: Queue,
    storage: Storage,
    *,
    activities: Sequence[str],
    dataset: str,
    panda_id: int,
    available: Collection[str],
    own_folder: bool = False,
) -> Destination:
    """Prefix and tool for the files of one job.

    Parameters
    ----------
    storage
        The one named by `choose_endpoint`.
    dataset
        From the job (`PandaJob_#{pandaid}/`); empty for `PandaJob_<PandaID>/`.
    available
        Copytools that exist in this pilot.
    own_folder
        True for logs: their names are the same in every job, so a dataset
        without the job's id gets a folder `PandaJob_<PandaID>/` of its own.

    Raises
    ------
    StorageError
        UNKNOWNCOPYTOOL, NOSTORAGEPROTOCOL, or BADOUTPUTFILENAME for a dataset
        that would leave its prefix.
    """
    tool = choose_copytool(queue, activities, available=available)
    protocol, activity = _protocol(queue, storage, activities, tool)
    folder = _folder(dataset, panda_id, own_folder=own_folder)
    parts = (protocol.path.strip("/"), queue.name, folder)
    prefix = "/".join((protocol.endpoint.rstrip("/"), *(p for p in parts if p)))
    return Destination(f"{prefix}/", storage.name, tool, activity)


def file_url(prefix: str, name: str) -> str:
    """`prefix` + `name` for a plain file name.

    Raises
    ------
    StorageError
        LFNTOOLONG above 255 bytes, BADOUTPUTFILENAME for anything that is more
        than a name: slashes, `..`, control characters.
    """
    _check_name(name)
    return f"{prefix}{name}"


def _protocol(queue: Queue, storage: Storage, activities: Sequence[str], tool: str) -> tuple[Protocol, str]:
    """First protocol that the tool speaks, and the activity it is listed
    under.
    """
    schemes = SCHEMES.get(tool, (tool,))
    for activity in (*activities, "default", ""):
        for protocol in storage.protocols.get(activity, ()):
            scheme = protocol.endpoint.partition("://")[0] if "://" in protocol.endpoint else ""
            if scheme in schemes:
                return protocol, activity
    raise StorageError(
        f"storage {storage.name} of queue {queue.name} has no {'/'.join(s or 'path' for s in schemes)} "
        f"protocol (arprotocols) for {_either(activities)}, as copytool {tool} needs",
        ErrorCode.NOSTORAGEPROTOCOL,
    )


def _folder(dataset: str, panda_id: int, *, own_folder: bool) -> str:
    """Folder of a dataset with the job's id filled in; no slash at either end."""
    given = "" if dataset.upper() == "NULL" else dataset
    if given.startswith("/"):
        raise _bad_name(given, "is absolute")
    parts = [p for p in given.replace(ID_MARK, str(panda_id)).split("/") if p]
    for part in parts:
        _check_name(part)
    if not parts or (own_folder and ID_MARK not in given and str(panda_id) not in given):
        parts.append(f"PandaJob_{panda_id}")
    return "/".join(parts)


def _check_name(name: str) -> None:
    """Refuse what is no single component of a path."""
    if name in ("", ".", ".."):
        raise _bad_name(name, "is no name")
    if "/" in name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise _bad_name(name, "holds a slash or a control character")
    # A lone surrogate (undecodable bytes) cannot be part of a URL.
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name):
        raise _bad_name(name, "is no UTF-8")
    if len(name.encode()) > 255:
        raise StorageError(f"file name {name[:60]!r}... is longer than 255 bytes", ErrorCode.LFNTOOLONG)


def _bad_name(name: str, why: str) -> StorageError:
    return StorageError(f"file or dataset name {name[:80]!r} {why}", ErrorCode.BADOUTPUTFILENAME)


def _either(activities: Sequence[str]) -> str:
    return f"activity {' or '.join(activities)}"
