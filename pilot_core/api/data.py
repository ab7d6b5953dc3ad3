"""The Data API: files to and from storage, for Harvester and for scripts.

See docs/data-api.md; examples/data_api.py runs. Everything exported here is
public: it changes only with the major version.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock, SystemClock
from pilot_core.base.scope import Scope
from pilot_core.config import StorageConfig
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, OutputFile
from pilot_core.storage.contract import CopyTool, Place, Stored
from pilot_core.storage.inputs import get_inputs
from pilot_core.storage.outputs import put_outputs
from pilot_core.storage.parallel import columns
from pilot_core.storage.scheme import SchemeTool
from pilot_core.storage.tools import COPYTOOLS

__all__ = ["DataClient", "FileIn", "FileOut", "Handle", "Progress", "Result"]

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its bytes done and in all (0 if unknown)."""

K = TypeVar("K")

# Threads of a client that is closed while they sit in a foreign call.
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class FileIn:
    """A file to fetch.

    Attributes
    ----------
    name
        Name it gets in the folder; a plain file name.
    urls
        Where it is, in order of preference: the next is asked if one fails.
    size
        Bytes, 0 if unknown; space is checked before, the size after.
    checksum
        `ad:<8 hex>` or `md5:<32 hex>`, checked after; empty if unknown.
    """

    name: str
    urls: tuple[str, ...]
    size: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class FileOut:
    """A file to store.

    Attributes
    ----------
    name
        Its name in the folder, and at its destination.
    prefixes
        URLs that end with a slash, in order of preference: the file goes to
        the first that takes it.
    """

    name: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of each file, by its name; every one is in one of the two."""

    done: Mapping[str, Stored] = field(default_factory=dict)
    failed: Mapping[str, StorageError] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if nothing failed."""
        return not self.failed


class Handle:
    """A transfer that runs in the background."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._over = threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """True once `result` has an answer."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Give up what is not done yet; `result` tells what was."""
        self._budget.shorten(0.0)

    def result(self, timeout_s: float) -> Result:
        """Wait for the end.

        Raises
        ------
        TimeoutError
            If it is still running after `timeout_s` seconds; it goes on.
        StorageError
            What the call that started it would have raised.
        """
        if not self._over.wait(timeout_s):
            raise TimeoutError(f"still running after {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        assert self._result is not None, "over without a result"
        return self._result

    def _run(self, call: Callable[[], Result]) -> None:
        """Body of its thread."""
        try:
            self._result = call()
        except BaseException as err:  # noqa: BLE001 - told to whoever asks for the result
            self._error = err
        finally:
            self._over.set()


class DataClient:
    """Stages files in and out; a `with` block ends its background transfers.

    Which tool serves a URL follows from its scheme: `gs://`, `s3://`,
    `https://` and `davs://`, `root://`, `file://` and plain paths.

    Parameters
    ----------
    config
        Endpoints and credentials.
    tools
        Copytools by scheme besides or instead of the pilot's own.
    workers
        Files at a time.
    """

    def __init__(
        self,
        config: StorageConfig | None = None,
        *,
        tools: Mapping[str, CopyTool] | None = None,
        workers: int = 4,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._tool = SchemeTool(COPYTOOLS, config or StorageConfig(), self._clock, tools or {})
        self._workers = workers
        self._scope = Scope("data", join_s=_JOIN_S, clock=self._clock)
        self._handles: list[Handle] = []

    def __enter__(self) -> "DataClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.cancel()
        self._scope.stop()

    def stage_in(
        self,
        files: Sequence[FileIn],
        folder: Path,
        *,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Result:
        """Fetch files into `folder`.

        A file appears there whole and checked, or not at all.

        Raises
        ------
        StorageError
            If nothing was begun: no space for the sizes given, a name that
            leaves the folder, a name twice.
        """
        return self._stage_in(files, folder, self._budget(timeout_s, "stage-in"), progress)

    def stage_out(
        self,
        files: Sequence[FileOut],
        folder: Path,
        *,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Result:
        """Store files of `folder`, or none if one of them is missing or empty.

        Raises
        ------
        StorageError
            If nothing was begun: a name twice.
        """
        return self._stage_out(files, folder, self._budget(timeout_s, "stage-out"), progress)

    def start_stage_in(
        self, files: Sequence[FileIn], folder: Path, *, timeout_s: float, progress: Progress | None = None
    ) -> Handle:
        """Like `stage_in`, in the background."""
        budget = self._budget(timeout_s, "stage-in")
        return self._start(budget, lambda: self._stage_in(files, folder, budget, progress))

    def start_stage_out(
        self, files: Sequence[FileOut], folder: Path, *, timeout_s: float, progress: Progress | None = None
    ) -> Handle:
        """Like `stage_out`, in the background."""
        budget = self._budget(timeout_s, "stage-out")
        return self._start(budget, lambda: self._stage_out(files, folder, budget, progress))

    def _stage_in(
        self, files: Sequence[FileIn], folder: Path, budget: Budget, progress: Progress | None
    ) -> Result:
        _distinct([file.name for file in files])
        wanted = {InputFile(f.name, size=f.size, checksum=f.checksum): f.urls for f in files}
        found = get_inputs(
            list(wanted),
            folder,
            places=self._places(wanted),
            budget=budget,
            clock=self._clock,
            workers=self._workers,
            progress=progress,
        )
        return Result(
            {file.lfn: stored for file, stored in found.done.items()},
            {file.lfn: error for file, error in found.failed.items()},
        )

    def _stage_out(
        self, files: Sequence[FileOut], folder: Path, budget: Budget, progress: Progress | None
    ) -> Result:
        _distinct([file.name for file in files])
        wanted = {OutputFile(f.name): tuple(f"{prefix}{f.name}" for prefix in f.prefixes) for f in files}
        found = put_outputs(
            list(wanted),
            folder,
            places=self._places(wanted),
            budget=budget,
            clock=self._clock,
            workers=self._workers,
            progress=progress,
        )
        done = {file.lfn: stored for file, stored in found.stored.items()}
        failed = {file.lfn: error for file, error in found.failed.items()}
        kept = StorageError(f"not sent because of {', '.join(failed)}")
        failed |= {file.lfn: kept for file in wanted if file.lfn not in done and file.lfn not in failed}
        return Result(done, failed)

    def _places(self, rows: Mapping[K, Sequence[str]]) -> list[dict[K, Place]]:
        return columns({key: [Place(self._tool, url) for url in urls] for key, urls in rows.items()})

    def _start(self, budget: Budget, call: Callable[[], Result]) -> Handle:
        handle = Handle(budget)
        self._handles = [h for h in self._handles if not h.done] + [handle]
        self._scope.spawn("transfer", handle._run, call)
        return handle

    def _budget(self, seconds: float, name: str) -> Budget:
        return Budget(self._clock, seconds, name)


def _distinct(names: Sequence[str]) -> None:
    """Two files of one name would overwrite each other."""
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise StorageError(f"more than one file is called {', '.join(double)}", ErrorCode.FILEEXISTS)
