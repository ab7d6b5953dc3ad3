"""A target's sink: the table that pilot and starter share."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pilot_core.logship.contract import Sink
from pilot_core.logship.resource import PodFacts
from pilot_core.logship.sinks.file import FileSink
from pilot_core.logship.sinks.fluent import FluentSink
from pilot_core.logship.sinks.google import GoogleSink
from pilot_core.logship.sinks.logstash import LogstashSink
from pilot_core.logship.sinks.loki import LokiSink
from pilot_core.logship.sinks.stdout import StdoutSink
from pilot_core.logship.target import Target

__all__ = ["make_sink"]

Maker = Callable[[Target, str, PodFacts, Mapping[str, str]], Sink]

_MAKERS: Mapping[str, Maker] = {
    "google": lambda target, logname, facts, _: GoogleSink(target, logname, facts=facts),
    "file": lambda target, _logname, _facts, _: FileSink(Path(target.endpoint)),
    "fluent": lambda target, logname, _facts, _: FluentSink(target, logname),
    "logstash": lambda target, logname, _facts, secrets: LogstashSink(target, logname, secrets),
    "loki": lambda target, logname, _facts, _: LokiSink(target, logname),
    "stdout": lambda _target, _logname, _facts, _: StdoutSink(),
}


def make_sink(
    target: Target, logname: str, facts: PodFacts, secrets: Mapping[str, str] | None = None
) -> Sink:
    """The sink of a target; nothing is asked of any network yet.

    `secrets` are the job's `pilotSecrets`: some services want a login.

    Raises
    ------
    ValueError
        If this pilot has no sink for the target's kind.
    """
    maker = _MAKERS.get(target.kind)
    if maker is None:
        raise ValueError(f"no sink for {target.kind!r}; there is {', '.join(sorted(_MAKERS))}")
    return maker(target, logname, facts, secrets or {})
