"""PURE: samples of a payload summed up as heartbeats report them."""

from pilot_core.model.sample import Sample, Usage

__all__ = ["UsageMeter"]

_MEMORY = ("rss", "pss", "vmem", "swap")
_IO = ("rchar", "wchar", "read_bytes", "write_bytes")


class UsageMeter:
    """Adds up the samples of one payload, in their order.

    A look at a payload that is over finds it without memory, and tells nothing
    about that. Counters never go back: a source that restarts or disappears,
    or a late sample, takes nothing away from what was used.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._running_s = 0.0
        self._cpu_s = 0.0
        self._peaks = dict.fromkeys(_MEMORY, 0)
        self._sums = dict.fromkeys(_MEMORY, 0)
        self._counts = dict.fromkeys(_MEMORY, 0)
        self._io = dict.fromkeys(_IO, 0)

    def add(self, sample: Sample) -> Usage:
        """Take a sample in; the usage so far."""
        in_memory = bool(sample.rss_kb or sample.pss_kb)
        self._samples += in_memory or any(getattr(sample, name) for name in _IO)
        self._running_s = max(self._running_s, sample.running_s)
        self._cpu_s = max(self._cpu_s, sample.cpu_s or 0.0)
        for name in _MEMORY:
            value = getattr(sample, f"{name}_kb")
            if value is not None and in_memory:
                self._sums[name] += value
                self._counts[name] += 1
                self._peaks[name] = max(self._peaks[name], value)
            self._peaks[name] = max(self._peaks[name], getattr(sample, f"peak_{name}_kb") or 0)
        for name in _IO:
            self._io[name] = max(self._io[name], getattr(sample, name) or 0)
        return self.usage()

    def close(self, *, running_s: float, cpu_s: float | None, max_rss_kb: int | None = None) -> Usage:
        """The usage of the whole life, with what the engine counted at the
        end.

        Parameters
        ----------
        running_s
            Seconds from start to end.
        cpu_s
            CPU seconds of everything it ran; None if not known.
        max_rss_kb
            A peak that the samples may have missed; None if not known.
        """
        self._running_s = max(self._running_s, running_s)
        self._cpu_s = max(self._cpu_s, cpu_s or 0.0)
        self._peaks["rss"] = max(self._peaks["rss"], max_rss_kb or 0)
        return self.usage()

    def usage(self) -> Usage:
        """The usage so far; all zero before the first sample."""
        wall_s = self._running_s
        values: dict[str, float | int] = {"cpu_s": self._cpu_s, "samples": self._samples}
        for name in _MEMORY:
            values[f"max_{name}"] = self._peaks[name]
            values[f"avg_{name}"] = self._sums[name] / self._counts[name] if self._counts[name] else 0.0
        for name in _IO:
            values[name] = self._io[name]
            values[f"rate_{name}"] = self._io[name] / wall_s if wall_s > 0 else 0.0
        return Usage(cores=self._cpu_s / wall_s if wall_s > 0 else 0.0, **values)  # type: ignore[arg-type]
