"""CPU, memory, IO and processes as the container engine counts them."""

from collections.abc import Callable, Mapping

from container.spec import Stats

__all__ = ["ContainerMonitor"]

# Field of Sample, field of Stats, bytes per unit of the sample's field.
_FIELDS = (
    ("rss_kb", "rss", 1024),
    ("pss_kb", "pss", 1024),
    ("vmem_kb", "vmem", 1024),
    ("swap_kb", "swap", 1024),
    ("rchar", "rchar", 1),
    ("wchar", "wchar", 1),
    ("read_bytes", "read_bytes", 1),
    ("write_bytes", "write_bytes", 1),
    ("processes", "processes", 1),
    ("threads", "threads", 1),
    ("refused_forks", "refused_forks", 1),
)


class ContainerMonitor:
    """Asks the engine at every look.

    The cost is the engine's: one request, or one walk of /proc.

    Parameters
    ----------
    stats
        `Container.stats` of the running payload: bounded, never raises.
    """

    name = "container"

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats

    def measure(self, now: float) -> Mapping[str, float | int | str]:  # noqa: ARG002 - the contract's
        stats = self._stats()
        found: dict[str, float | int | str] = {}
        for field, source, unit in _FIELDS:
            value = getattr(stats, source)
            if value is not None:
                found[field] = value // unit
        if stats.cpu_s is not None:
            found["cpu_s"] = stats.cpu_s
        if "rss_kb" in found or "pss_kb" in found:
            found["memory_source"] = stats.source
        return found
