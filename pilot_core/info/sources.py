"""PURE: where a document may be found, in the order in which it is asked for."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from pilot_core.config import InfoConfig

__all__ = ["QUEUE", "STORAGE", "Kind", "Source", "sources"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document.

    Attributes
    ----------
    word
        In messages.
    marks
        Keys that hold the name in a document that is the settings themselves.
    files
        Names in the folder; the wrapper's own downloads (pilot wrapper of
        2020 and later) and pilot3's.
    placeholder
        What stands for the name in an operator's URL.
    server_path, cric_path
        At the PanDA server (cacheSchedConfig writes it) and at CRIC; empty
        where there is none.
    """

    word: str
    marks: tuple[str, ...]
    files: tuple[str, ...]
    placeholder: str
    server_path: str
    cric_path: str


QUEUE = Kind(
    word="queue",
    marks=("nickname", "name", "panda_resource"),
    files=("cric_pandaqueues.json", "queuedata.json", "{name}.json"),
    placeholder="{pandaqueue}",
    server_path="/cache/schedconfig/{name}.all.json",
    cric_path="/api/atlas/pandaqueue/query/?json&pandaqueue={name}",
)
STORAGE = Kind(
    word="ddmendpoint",
    marks=("name",),
    files=("cric_ddmendpoints.json", "{name}.json"),
    placeholder="{ddmendpoint}",
    server_path="",
    cric_path="/api/atlas/ddmendpoint/query/?json&ddmendpoint={name}",
)


@dataclass(frozen=True, slots=True)
class Source:
    """One place to look: a file if `path` is set, else `url`.

    A `remote` file is on a network's file system, and takes its turn among the
    URLs.
    """

    path: Path | None = None
    url: str = ""
    remote: bool = False

    def __str__(self) -> str:
        return self.url or str(self.path)


def sources(kind: Kind, name: str, config: InfoConfig) -> tuple[Source, ...]:
    """Everywhere `name` may be described, best first."""
    given = config.queuedata_url if kind is QUEUE else config.storagedata_url
    # JSON, from which names come, may hold half a character.
    quoted = quote(name, safe="", errors="surrogatepass")
    # A name with a slash is no file's name.
    files = [f for f in kind.files if "{name}" not in f or "/" not in name]
    found = [Source(path=config.folder / file.format(name=name)) for file in files]
    if given:
        found.append(_operators(given, kind, name))
    if config.server_url and kind.server_path:
        found.append(Source(url=config.server_url.rstrip("/") + kind.server_path.format(name=quoted)))
    # pilot3 reads it after the PanDA server's data and before CRIC's, too.
    shared = config.queues_cvmfs if kind is QUEUE else config.storages_cvmfs
    if shared is not None:
        found.append(Source(path=shared, remote=True))
    if config.cric_url:
        found.append(Source(url=config.cric_url.rstrip("/") + kind.cric_path.format(name=quoted)))
    return tuple(found)


def _operators(given: str, kind: Kind, name: str) -> Source:
    """The source named by an option: an http(s) or file URL, or a path."""
    parts = urlsplit(given)
    if parts.scheme in ("http", "https"):
        # CRIC's own documents spell the first placeholder in two ways.
        safe = quote(name, safe="", errors="surrogatepass")
        return Source(url=given.replace(kind.placeholder, safe).replace("{computingSite}", safe))
    path = parts.path if parts.scheme == "file" else given
    return Source(path=Path(path.replace(kind.placeholder, name).replace("{computingSite}", name)))
