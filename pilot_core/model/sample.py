"""What was measured of a running payload, and what it may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Limits", "Sample", "Usage", "Verdict"]

from pilot_core.model.codes import ErrorCode


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a running payload; None where it could not be measured.

    Attributes
    ----------
    time
        Epoch seconds of the look.
    running_s
        Seconds since the payload started.
    cpu_s
        CPU seconds of all its processes and containers so far.
    rss_kb, pss_kb, vmem_kb, swap_kb
        Memory now, kB (prmon's unit).
    memory_source
        Where the memory figures come from: `cgroup`, `pss`, `docker`, `prmon`.
    rchar, wchar, read_bytes, write_bytes
        Bytes since the start.
    processes, threads
        How many.
    workdir_bytes, free_bytes
        Size of the work directory; free space of its file system.
    stdout_bytes, stderr_bytes
        Sizes of the payload's output files.
    newest_mtime
        Epoch seconds of the youngest file the payload touched.
    peak_rss_kb, peak_pss_kb, peak_vmem_kb, peak_swap_kb
        Highest memory since the start as seen by a source that looks more
        often than we do (prmon in the payload, say), kB.
    """

    time: float
    running_s: float
    cpu_s: float | None = None
    rss_kb: int | None = None
    pss_kb: int | None = None
    vmem_kb: int | None = None
    swap_kb: int | None = None
    memory_source: str = ""
    rchar: int | None = None
    wchar: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    processes: int | None = None
    threads: int | None = None
    refused_forks: int | None = None
    workdir_bytes: int | None = None
    free_bytes: int | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    newest_mtime: float | None = None
    peak_rss_kb: int | None = None
    peak_pss_kb: int | None = None
    peak_vmem_kb: int | None = None
    peak_swap_kb: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """All samples of a job in one row, as heartbeats report it. Memory in kB,
    IO in bytes. `samples` counts the looks that found memory or IO.
    """

    cpu_s: float = 0.0
    samples: int = 0
    max_rss: int = 0
    max_pss: int = 0
    max_vmem: int = 0
    max_swap: int = 0
    avg_rss: float = 0.0
    avg_pss: float = 0.0
    avg_vmem: float = 0.0
    avg_swap: float = 0.0
    rchar: int = 0
    wchar: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    rate_rchar: float = 0.0
    rate_wchar: float = 0.0
    rate_read_bytes: float = 0.0
    rate_write_bytes: float = 0.0
    cores: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a payload may use; 0 switches a limit off.

    Bytes, kB and seconds as the names say. `*_grace` are factors on the
    queue's own number, already applied here. `origins` says by field name
    where a limit comes from, in words that end a sentence: `maxrss of queue
    X`. `tasks` are processes and threads, and what the kernel keeps to.
    """

    memory_kb: int = 0
    memory_grace_s: float = 0.0
    workdir_bytes: int = 0
    free_bytes: int = 0
    walltime_s: float = 0.0
    looping_s: float = 0.0
    output_bytes: int = 0
    processes: int = 0
    tasks: int = 0
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limit was crossed: the code, and which number crossed which limit from
    which source.
    """

    code: ErrorCode
    diag: str
