"""A worker as Prometheus sees it: from files and the starter's own knowledge to
metrics.

`look` reads, `families` is PURE. What the pilot counts comes from its heartbeat
file (`pilot_core/vitals.py`), about ten seconds old; a pilot3 writes none
of it, and those metrics then are absent. No metric carries a job's number as
a label: each job would be a new series for ever.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from pilot_core import __version__
from pilot_core.base.files import open_regular
from pilot_core.ledger import HeldJob, Ledger
from pilot_core.logship.contract import ShipCounts
from pilot_starter.config import StarterConfig
from pilot_starter.health import HEARTBEAT, Health, WorkerStatus, examine, read_status

__all__ = ["CONTENT_TYPE", "Snapshot", "expose", "families", "look"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
PHASES = ("preparing", "running", "closing", "ended")
#: As in the ledger; `idle` is a pilot without a job.
STAGES = ("idle", "taken", "starting", "running", "wrapup", "final")
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment; ages in seconds, None for what is not known.

    Attributes
    ----------
    vitals
        The pilot's own numbers by their names.
    shipped
        What became of the worker log's records.
    credential_ends
        `proxy` and `token` with the epoch second at which each ends.
    """

    now: float
    health: Health
    status: WorkerStatus | None = None
    site: str = ""
    held: HeldJob | None = None
    heartbeat_age: float | None = None
    log_age: float | None = None
    vitals: Mapping[str, float] | None = None
    shipped: ShipCounts | None = None
    credential_ends: Mapping[str, float] = field(default_factory=dict)


def look(
    config: StarterConfig, *, shipped: ShipCounts | None = None, credential_ends: Mapping[str, float]
) -> Snapshot:
    """What the files say now."""
    now = time.time()
    status = read_status(config.state_file)
    home = Path(status.home) if status is not None else None
    return Snapshot(
        now=now,
        health=examine(status_file=config.state_file, worker_log=config.worker_log, silent_s=config.silent_s),
        status=status,
        site=config.site,
        held=_held(home) if home is not None else None,
        heartbeat_age=_age(home / HEARTBEAT, now) if home is not None else None,
        log_age=_age(config.worker_log, now),
        vitals=_vitals(home / HEARTBEAT) if home is not None else None,
        shipped=shipped,
        credential_ends=credential_ends,
    )


def _held(home: Path) -> HeldJob | None:
    """The job that the pilot holds; its record is not ours to touch."""
    try:
        return Ledger(home).look()
    except (OSError, ValueError):
        return None


def _age(path: Path, now: float) -> float | None:
    try:
        return max(0.0, now - path.stat().st_mtime)
    except OSError:
        return None


def _vitals(path: Path) -> Mapping[str, float] | None:
    """The pilot's numbers; a payload of the same user may have written
    anything there.
    """
    try:
        with open_regular(path) as src:
            given = json.loads(src.read(_MOST_BYTES))["vitals"]
        return {str(name): float(value) for name, value in given.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


class _Families:
    """Registry of one scrape: what `generate_latest` asks for."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = tuple(found)

    def collect(self) -> Iterable[Metric]:
        """The families, in order."""
        return self._found


def expose(snapshot: Snapshot) -> bytes:
    """Prometheus's text format."""
    return generate_latest(_Families(families(snapshot)))


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """All metrics of a worker."""
    yield _gauge("up", "1 if the worker is well, as `healthcheck` says", float(snapshot.health.well))
    if snapshot.status is not None:
        yield from _of_worker(snapshot, snapshot.status)
    yield from _of_job(snapshot)
    for name, words, value in (
        ("heartbeat_age_seconds", "Since the pilot's main loop has turned", snapshot.heartbeat_age),
        ("worker_log_age_seconds", "Since the worker's log has moved", snapshot.log_age),
    ):
        if value is not None:
            yield _gauge(name, words, value)
    numbers = dict(snapshot.vitals or {})
    numbers |= {f"credential/{name}": end for name, end in snapshot.credential_ends.items()}
    if snapshot.shipped is not None:
        numbers |= _of_worker_log(snapshot.shipped)
    for row in _TABLE:
        yield from row.families(numbers, snapshot.now)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"panda_pilot_{name}", words, value=value)


def _states(name: str, words: str, label: str, states: tuple[str, ...], now: str) -> Metric:
    family = GaugeMetricFamily(f"panda_pilot_{name}", words, labels=[label])
    for state in states:
        family.add_metric([state], float(state == now))
    return family


def _of_worker(snapshot: Snapshot, status: WorkerStatus) -> Iterator[Metric]:
    about = {
        "queue": status.queue,
        "site": snapshot.site,
        "worker_id": str(status.worker_id or ""),
        "version": __version__,
        "source": _public(status.pilot_source),
    }
    info = GaugeMetricFamily("panda_pilot_info", "Who this is; always 1", labels=list(about))
    info.add_metric(list(about.values()), 1.0)
    yield info
    yield _gauge("started_timestamp_seconds", "When the starter began", status.started)
    yield _states("phase", "Where the starter is; 1 for one of them", "phase", PHASES, status.phase)
    yield _gauge(
        "fallback",
        "1 if the pilot of the image runs because another could not be had",
        float(status.fallback),
    )


def _public(source: str) -> str:
    """A URL without what may be a secret: a password, or a signature."""
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _of_job(snapshot: Snapshot) -> Iterator[Metric]:
    held = snapshot.held
    yield _states(
        "stage", "How far the job is; 1 for one of them", "stage", STAGES, held.stage if held else "idle"
    )
    if held is None:
        return
    yield _gauge("job_id", "PandaID of the job in hand", held.report.panda_id)
    taken = held.report.start_s or snapshot.now
    yield _gauge("job_seconds", "Since the job was taken", max(0.0, snapshot.now - taken))
    started = (snapshot.vitals or {}).get("payload/started", 0.0)
    # The pilot's numbers may still be those of the job before.
    if held.stage == "running" and started >= taken:
        seconds = max(0.0, snapshot.now - started)
        yield _gauge("payload_running_seconds", "Since the job's payload was started", seconds)


def _of_worker_log(counts: ShipCounts) -> Mapping[str, float]:
    return {
        "log/worker/sent": counts.sent,
        "log/worker/repeated": counts.repeated,
        "log/worker/rejected": counts.rejected,
        "log/worker/waiting_bytes": counts.left_bytes,
    }


@dataclass(frozen=True, slots=True)
class _Row:
    """Numbers whose names match `shape`, and the family they make; the groups
    are its labels.
    """

    name: str
    words: str
    shape: re.Pattern[str]
    counter: bool = True
    value: Callable[[float, float], float] = lambda number, _now: number

    def families(self, numbers: Mapping[str, float], now: float) -> Iterator[Metric]:
        """The family, or nothing if there is no such number."""
        kind = CounterMetricFamily if self.counter else GaugeMetricFamily
        family = kind(f"panda_pilot_{self.name}", self.words, labels=list(self.shape.groupindex))
        for name, number in sorted(numbers.items()):
            if (match := self.shape.fullmatch(name)) is not None:
                family.add_metric(list(match.groups()), self.value(number, now))
        if family.samples:
            yield family


_LOG = r"log/(?P<log>payload|worker)"
_TABLE = (
    _Row(
        "jobs",
        "Jobs whose end the server has taken, by pilotErrorCode",
        re.compile(r"jobs/(?P<state>[a-z]+)/(?P<code>\d+)"),
    ),
    _Row(
        "requests",
        "Requests to the PanDA server",
        re.compile(r"requests/(?P<call>[a-z_]+)/(?P<outcome>ok|failed)"),
    ),
    _Row(
        "server_answer_age_seconds",
        "Since the PanDA server has answered well",
        re.compile(r"server/answered"),
        counter=False,
        value=lambda answered, now: max(0.0, now - answered),
    ),
    _Row(
        "credential_expires_timestamp_seconds",
        "When what the PanDA server gets to see ends",
        re.compile(r"credential/(?P<credential>[a-z]+)"),
        counter=False,
    ),
    _Row("uploads", "Log files of jobs and their storage", re.compile(r"uploads/(?P<outcome>stored|failed)")),
    _Row(
        "log_records",
        "Log records and what became of them",
        re.compile(_LOG + r"/(?P<outcome>sent|repeated|rejected)"),
    ),
    _Row("log_lost_bytes", "Of the logs of ended jobs, not shipped", re.compile(_LOG + r"/lost_bytes")),
    _Row("log_waiting_bytes", "Not yet shipped", re.compile(_LOG + r"/waiting_bytes"), counter=False),
    _Row(
        "log_behind_seconds",
        "Since nothing was waiting to be shipped",
        re.compile(_LOG + r"/behind_s"),
        counter=False,
    ),
)
