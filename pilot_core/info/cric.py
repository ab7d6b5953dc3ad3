"""Queue and storage data from files, the operator's URL, the PanDA server or
CRIC.
"""

import functools
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy, retry
from pilot_core.config import InfoConfig
from pilot_core.errors import ServerBusy, ServerError, ServerUnreachable, SetupError
from pilot_core.info.cache import Cache
from pilot_core.info.document import parse_json, parse_queue, parse_storage, settings_of
from pilot_core.info.sources import QUEUE, STORAGE, Kind, Source, sources
from pilot_core.model.codes import ErrorCode
from pilot_core.model.queue import Queue, Storage

__all__ = ["CricInformation", "Fetch"]

log = logging.getLogger(__name__)

Fetch = Callable[[str, float], bytes]
"""Body at a URL, in so many seconds; `ServerError`s say what went wrong."""

# Beside each URL: 3 attempts, at most 2 + 4 = 6 s of waiting. Another source
# follows, so insisting on one is no use.
POLICY = RetryPolicy(attempts=3, first_s=2.0, cap_s=10.0)
ATTEMPT_S = 20.0

Settings = Mapping[str, object]


T = TypeVar("T")
Look = Callable[[], tuple[Settings, str]]
"""Gets settings and the name of their source, or raises `SetupError`."""


class CricInformation:
    """Asks one source after the other until one has what is wanted.

    Answers from the network are kept in the folder (`cache.py`). A copy
    younger
    than `lifetime_s` is asked before the network; an older one only when
    everything else has failed; an unusable one is passed over.

    Parameters
    ----------
    fetch
        Gets a URL.
    policy
        Attempts at one URL.
    """

    def __init__(
        self, config: InfoConfig, *, clock: Clock, fetch: Fetch, policy: RetryPolicy = POLICY
    ) -> None:
        self._config = config
        self._clock = clock
        self._fetch = fetch
        self._policy = policy

    def queue(self, name: str, *, budget: Budget) -> Queue:
        """See `Information.queue`."""
        return self._first(QUEUE, name, parse_queue, budget)

    def storage(self, name: str, *, budget: Budget) -> Storage:
        """See `Information.storage`."""
        return self._first(STORAGE, name, parse_storage, budget)

    def _first(self, kind: Kind, name: str, parse: Callable[[Settings, str], T], budget: Budget) -> T:
        """What the first source that has `name` says about it."""
        failures: list[SetupError] = []
        for look in self._looks(kind, name, budget):
            try:
                settings, source = look()
                found = parse(settings, name)
            except SetupError as err:
                failures.append(err)
                continue
            log.info("%s %s: from %s", kind.word, name, source)
            return found
        raise _none_has_it(kind, name, failures)

    def _looks(self, kind: Kind, name: str, budget: Budget) -> Iterator[Look]:
        """Where to look, best first: files, our copy, the network, our old
        copy.
        """
        places = sources(kind, name, self._config)
        cache = Cache(self._config.folder, kind.word, name)
        remote = [s for s in places if s.path is None or s.remote]
        # An operator's path stands among the URLs: it too comes after the
        # wrapper's files, but no copy of it is kept.
        for place in places:
            if place not in remote:
                yield functools.partial(self._read, place, kind, name)
        if remote and cache.there:
            yield functools.partial(cache.load, self._clock.time(), self._config.lifetime_s)
        for place in remote:
            if place.path is not None:
                yield functools.partial(self._read, place, kind, name)
            else:
                yield functools.partial(self._ask, place, kind, name, cache, budget)
        if remote and cache.there:
            yield functools.partial(cache.load, self._clock.time(), math.inf)

    def _read(self, place: Source, kind: Kind, name: str) -> tuple[Settings, str]:
        """From a file."""
        path = place.path or self._config.folder
        try:
            raw = path.read_bytes()
        except FileNotFoundError as err:
            raise SetupError(f"{path}: not there", ErrorCode.QUEUEDATA) from err
        except (OSError, ValueError) as err:
            # A name from a job may hold what no file's name can.
            raise SetupError(f"{path}: {getattr(err, 'strerror', err)}", ErrorCode.QUEUEDATA) from err
        return _pick(raw, str(path), kind, name), str(path)

    def _ask(
        self, place: Source, kind: Kind, name: str, cache: Cache, budget: Budget
    ) -> tuple[Settings, str]:
        """From the network; a good answer is kept."""

        def once() -> bytes:
            return self._fetch(place.url, budget.timeout(ATTEMPT_S))

        try:
            raw = retry(
                once,
                policy=self._policy,
                again=_again,
                clock=self._clock,
                budget=budget,
                stop=threading.Event(),
                what=f"{kind.word} data from {place.url}",
            )
        except (ServerError, BudgetSpent) as err:
            raise SetupError(f"{place.url}: {err}", ErrorCode.QUEUEDATA) from err
        settings = _pick(raw, place.url, kind, name)
        cache.store(settings, place.url, self._clock.time())
        return settings, place.url


def _pick(raw: bytes, source: str, kind: Kind, name: str) -> Settings:
    """The settings of `name` in a document."""
    settings = settings_of(parse_json(raw, source), name, marks=kind.marks)
    if settings is None:
        raise SetupError(f"{source}: knows no {kind.word} {name}", ErrorCode.QUEUEDATA)
    return settings


def _again(err: Exception) -> float | None:
    """Only what may pass is asked for again; a 404 may not."""
    if isinstance(err, ServerBusy):
        return err.retry_after_s
    return 0.0 if isinstance(err, ServerUnreachable) else None


def _none_has_it(kind: Kind, name: str, failures: list[SetupError]) -> SetupError:
    """One line that names every source asked and why it failed."""
    if kind is STORAGE:
        code = ErrorCode.NOSTORAGE
    elif any(err.code is ErrorCode.QUEUEDATANOTOK for err in failures):
        code = ErrorCode.QUEUEDATANOTOK
    else:
        code = ErrorCode.QUEUEDATA
    why = "; ".join(" ".join(err.diag.split()) for err in failures) or "nowhere to look"
    return SetupError(f"no usable data for {kind.word} {name}: {why}", code)
