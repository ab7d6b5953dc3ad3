"""What to run, and what became of it: plain data, no SDK, no pilot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

__all__ = ["ContainerExit", "ContainerSpec", "Mount", "PullProgress", "Stats", "highest"]

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host inside the container.

    `source` is a path of the *host*: behind a shared Docker socket the daemon
    looks there, whatever the caller's own container shows under that name.
    """

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One payload, in the words of a container engine.

    Attributes
    ----------
    name
        Unique on the node; `[a-zA-Z0-9_.-]+`.
    argv
        Command and arguments; no shell is added.
    image
        Empty for the process engine, which runs `argv` where the caller is.
    workdir
        Working directory inside.
    environment
        All of it: nothing is inherited by the caller's doing.
    labels
        Say whose it is; the reaper finds leftovers by them.
    stdout, stderr
        Files that receive the output, raw bytes, appended.
    memory_bytes, cpus
        Hard limits of the engine; 0 for none.
    processes
        As many processes and threads it may have at a time: the kernel
        refuses the fork beyond them; 0 for no limit.
    user
        `uid[:gid]` or empty for the image's own.
    init
        Run a small init as PID 1, so that signals arrive and orphans are
        reaped.
    """

    name: str
    argv: tuple[str, ...]
    workdir: str
    stdout: Path
    stderr: Path
    image: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    network: str = "host"
    user: str = ""
    init: bool = True
    memory_bytes: int = 0
    cpus: float = 0.0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """How a container or process ended.

    Attributes
    ----------
    code
        0 to 255; 128 + n after signal n.
    out_of_memory
        True if the kernel killed it, or a part of it, for memory.
    lost
        Not empty if its end was not seen (daemon restarted, container removed
        by somebody else): says what is known; `code` is then 137.
    cpu_s
        CPU seconds of all it ran, as far as known; None if not.
    max_rss_bytes
        Highest resident memory that the engine knows of, in the sense of
        `Stats.rss`: the kernel's for any one process, or the highest of the
        engine's own looks, which are closer together than a caller's; None if
        not known. Never a cgroup's own peak: that holds the page cache, so a
        payload that reads much would seem to need all it may have.
    refused_forks
        How often the kernel refused it one more process or thread, as far as
        known.
    """

    code: int
    out_of_memory: bool = False
    lost: str = ""
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    refused_forks: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a running container uses now; None where the engine cannot tell.

    Memory in bytes; `rss` is what the kernel would have to give back under
    pressure (anonymous memory), without page cache. IO in bytes since start.
    `threads` of a cgroup are all its tasks, what waits to be reaped included.
    """

    cpu_s: float | None = None
    rss: int | None = None
    pss: int | None = None
    vmem: int | None = None
    swap: int | None = None
    rchar: int | None = None
    wchar: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    processes: int | None = None
    threads: int | None = None
    refused_forks: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far an image pull is: layers done and in all, bytes done and in all,
    now.
    """

    layers_done: int
    layers: int
    bytes_done: int
    bytes: int
    text: str = ""


def highest(*values: _Number | None) -> _Number | None:
    """PURE: the highest of what is known."""
    return max((value for value in values if value is not None), default=None)
