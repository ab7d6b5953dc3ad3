"""A copy tool that keeps its files in memory and fails as it is told."""

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.checksum import Checksums
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.source import FileSource

PREFIX = "fake://storage/"


class FakeTool:
    """Stores into `objects`: URL -> bytes.

    Attributes
    ----------
    types, encodings
        URL -> content type and encoding of the last `put`.
    sources
        URL -> file of the last `put`.
    order
        URLs in the order in which their `put` began.
    fail
        URL -> error that each `put` or `get` of it raises.
    hold
        URLs whose `put` hangs until `release` is set, whatever the budget.
    on_put
        Called with the URL when a `put` begins.
    """

    name = "fake"
    encodes = True

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.encodings: dict[str, str] = {}
        self.sources: dict[str, Path] = {}
        self.order: list[str] = []
        self.fail: dict[str, StorageError] = {}
        self.hold: set[str] = set()
        self.release = threading.Event()
        self.on_put: Callable[[str], None] = lambda url: None
        self.puts: defaultdict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",
        encoding: str = "",
        progress: Progress | None = None,
    ) -> Stored:
        self._check(target, ErrorCode.STAGEOUTTIMEOUT, budget)
        with self._lock:
            self.order.append(target)
            self.puts[target] += 1
        self.on_put(target)
        if target in self.hold:
            self.release.wait(30)
        with FileSource(source, budget=budget, progress=progress) as src:
            try:
                data = src.read()
            except BudgetSpent as err:
                raise StorageError(str(err), ErrorCode.STAGEOUTTIMEOUT) from err
        with self._lock:
            self.objects[target] = data
            self.types[target] = content_type
            self.encodings[target] = encoding
            self.sources[target] = source
        return Stored(target, self.public_url(target), len(data), src.sums.adler32)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        self._check(source, ErrorCode.STAGEINTIMEOUT, budget)
        if source not in self.objects:
            raise StorageError(f"{source} does not exist", ErrorCode.MISSINGINPUTFILE)
        data = self.objects[source]
        sums = Checksums()
        sums.update(data)
        try:
            target.write_bytes(data)
        except OSError as err:
            raise StorageError(str(err), ErrorCode.STAGEINFAILED) from err
        if progress is not None:
            progress(len(data), len(data))
        return Stored(source, self.public_url(source), len(data), sums.adler32)

    def public_url(self, target: str) -> str:
        return target.replace("fake://", "https://fake.invalid/")

    def _check(self, url: str, late: ErrorCode, budget: Budget) -> None:
        if url in self.fail:
            raise self.fail[url]
        if budget.spent:
            raise StorageError(f"{budget.name}: no time left", late)
