"""A target's sink: the table that pilot and starter share."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pilot_core.logship.contract import Sink
from pilot_core.logship.resource import PodFacts
from pilot_core.logship.sinks.file import FileSink
from pilot_core.logship.sinks.google import GoogleSink
from pilot_core.logship.sinks.loki import LokiSink
from pilot_core.logship.sinks.stdout import StdoutSink
from pilot_core.logship.target import Target

__all__ = ["make_sink"]

Maker = Callable[[Target, str, PodFacts], Sink]

_MAKERS: Mapping[str, Maker] = {
    "google": lambda target, logname, facts: GoogleSink(target, logname, facts=facts),
    "file": lambda target, _logname, _facts: FileSink(Path(target.endpoint)),
    "loki": lambda target, logname, _facts: LokiSink(target, logname),
    "stdout": lambda _target, _logname, _facts: StdoutSink(),
}


def make_sink(target: Target, logname: str, facts: PodFacts) -> Sink:
    """The sink of a target; nothing is asked of any network yet.

    Raises
    ------
    ValueError
        If this pilot has no sink for the target's kind.
    """
    maker = _MAKERS.get(target.kind)
    if maker is None:
        raise ValueError(f"no sink for {target.kind!r}; there is {', '.join(sorted(_MAKERS))}")
    return maker(target, logname, facts)
