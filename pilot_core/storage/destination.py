"""PURE: where a job's files go, from the queue, its storage and the job.

Activities, fallbacks and the layout `<endpoint><path>/<queue>/<dataset>/` are
pilot3 3.11's (`api/data.py`, `copytool/gs.py`): the monitor and people's
scripts look for logs there. Deterministic storages are laid out by Rucio.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pilot_core.base.files import TooLongName, UnsafeName, plain_name
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, OutputFile
from pilot_core.model.queue import Protocol, Queue, Storage

__all__ = [
    "LOG_ACTIVITIES",
    "OUTPUT_ACTIVITIES",
    "Destination",
    "choose_copytool",
    "choose_endpoints",
    "destination",
    "file_url",
    "may_go_elsewhere",
]

LOG_ACTIVITIES = ("pl", "write_lan", "w")
OUTPUT_ACTIVITIES = ("write_lan", "w")

#: URL schemes each copytool can write to; "" is a plain path.
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "gs": ("gs",),
    "s3": ("s3", "https", "http"),
    "https": ("davs", "https", "dav", "http"),
    "gfal": ("root", "davs", "https", "srm", "gsiftp", "file"),
    "lsm": ("srm", "gsiftp", "root"),
    "xrdcp": ("root", "roots", "xroot", "xroots"),
    "mv": ("file", ""),
    "cp": ("file", ""),
    "local": ("file", ""),
}

# Names of the whole storage, not of a folder: only a job's tarball, whose name
# is the job's own, can be a log there.
_ONE_NAMESPACE = ("rucio", "lsm")

# Stands for the job's id in a dataset name.
ID_MARK = "#{pandaid}"


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
    tarball
        Of a job's logs only `log.tgz` goes there.
    setup, token
        The site's script for the tool, and the storage's space token; mostly
        empty.
    """

    prefix: str
    endpoint: str
    copytool: str
    activity: str
    tarball: bool = False
    setup: str = ""
    token: str = ""


def choose_endpoints(queue: Queue, activities: Sequence[str], *, asked: str = "") -> tuple[str, ...]:
    """The ddmendpoints for an activity, the best one first.

    The first activity for which the queue lists any storage decides. Within it
    the one that the job asked for is the best and the others follow, the next
    one first; one that the queue does not list comes second (pilot3
    `prepare_destinations`).

    Raises
    ------
    StorageError
        NOSTORAGE.
    """
    for activity in activities:
        names = queue.storages.get(activity, ())
        if asked in names:
            at = names.index(asked)
            return (*names[at:], *names[:at])
        if names:
            return (names[0], *((asked,) if asked else ()), *names[1:])
    raise StorageError(
        f"queue {queue.name} has no storage (astorages) for {_either(activities)}", ErrorCode.NOSTORAGE
    )


def may_go_elsewhere(queue: Queue, definition: Mapping[str, object]) -> bool:
    """May an output that its storage refuses go to another one?

    The queue's `allow_altstageout` decides, else the job's `altStageOut`; no
    by default (pilot3 `allow_altstageout`).
    """
    ours = queue.params.get("allow_altstageout")
    if isinstance(ours, bool):
        return ours
    return str(definition.get("altStageOut") or "").lower() == "on"


def choose_copytool(
    queue: Queue,
    activities: Sequence[str],
    *,
    available: Collection[str],
    installed: Callable[[str], bool] = lambda _: True,
) -> str:
    """The first usable copytool of the first activity that has any.

    Where none has what it needs on this node it is the first one that we know:
    its failure says what is missing.

    Falls back on the activity `default`, then on the queue's plain list.

    Raises
    ------
    StorageError
        UNKNOWNCOPYTOOL if the queue names none, or none that we have.
    """
    for activity in (*activities, "default", ""):
        tools = queue.copytools.get(activity, ())
        known = [tool for tool in tools if tool in available]
        if known:
            # What a script brings shows only once it was read.
            return next((tool for tool in known if installed(tool) or tool in queue.setups), known[0])
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
    file: InputFile | OutputFile,
    panda_id: int,
    available: Collection[str],
    installed: Callable[[str], bool] = lambda _: True,
    own_folder: bool = False,
) -> Destination:
    """Prefix and tool for a file of one job.

    Three layouts: Rucio finds the place itself; a deterministic storage has
    one for each scope and name; in any other one it is the dataset's folder.
    Buckets (`gs`) are never deterministic, as in pilot3.

    Parameters
    ----------
    storage
        One of those named by `choose_endpoints`.
    file
        Its dataset (`PandaJob_#{pandaid}/`) or scope and name tell where.
    available, installed
        Copytools that exist in this pilot; which have what they need.
    own_folder
        True for logs: their names are the same in every job, so a dataset
        without the job's id gets a folder `PandaJob_<PandaID>/` of its own.

    Raises
    ------
    StorageError
        UNKNOWNCOPYTOOL, NOSTORAGEPROTOCOL, or BADOUTPUTFILENAME for a dataset
        that would leave its prefix.
    """
    tool = choose_copytool(queue, activities, available=available, installed=installed)
    if tool == "rucio":
        prefix = f"rucio://{storage.name}/{file.scope}/"
        return Destination(prefix, storage.name, tool, activities[0], tarball=True)
    protocol, activity = _protocol(queue, storage, activities, tool)
    hashed = storage.deterministic and tool != "gs" and file.scope != ""
    if hashed:
        folder = _hash_path(file.scope, file.lfn)
    else:
        folder = f"{queue.name}/{_folder(file.dataset, panda_id, own_folder=own_folder)}"
    parts = (protocol.path.strip("/"), folder)
    prefix = "/".join((protocol.endpoint.rstrip("/"), *(p for p in parts if p)))
    tarball = hashed or tool in _ONE_NAMESPACE
    return Destination(
        f"{prefix}/", storage.name, tool, activity, tarball, queue.setups.get(tool, ""), storage.token
    )


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


def _hash_path(scope: str, name: str) -> str:
    """Rucio's path for a file, but for its name (its algorithm `hash`)."""
    digest = hashlib.md5(f"{scope}:{name}".encode(), usedforsecurity=False).hexdigest()
    folder = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
    for part in folder.split("/"):
        _check_name(part)
    return f"{folder}/{digest[:2]}/{digest[2:4]}"


def _folder(dataset: str, panda_id: int, *, own_folder: bool) -> str:
    """Folder of a dataset with the job's id filled in; no slash at either end."""
    given = "" if dataset.upper() == "NULL" else dataset
    if given.startswith("/"):
        raise StorageError(f"dataset name {given[:80]!r} is absolute", ErrorCode.BADOUTPUTFILENAME)
    parts = [p for p in given.replace(ID_MARK, str(panda_id)).split("/") if p]
    for part in parts:
        _check_name(part)
    if not parts or (own_folder and ID_MARK not in given and str(panda_id) not in given):
        parts.append(f"PandaJob_{panda_id}")
    return "/".join(parts)


def _check_name(name: str) -> None:
    """Refuse what is no single component of a path."""
    try:
        plain_name(name)
    except TooLongName as err:
        raise StorageError(str(err), ErrorCode.LFNTOOLONG) from err
    except UnsafeName as err:
        raise StorageError(str(err), ErrorCode.BADOUTPUTFILENAME) from err


def _either(activities: Sequence[str]) -> str:
    return f"activity {' or '.join(activities)}"
