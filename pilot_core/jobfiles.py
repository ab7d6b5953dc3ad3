"""A job's files and the queue's storages: inputs, outputs, logs, bundle."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.redact import Redactor
from pilot_core.config import MonitorConfig, StorageConfig
from pilot_core.errors import PilotError, StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, Job, OutputFile
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue, Storage
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import CopyTool, Place, Stored, of_site
from pilot_core.storage.destination import (
    LOG_ACTIVITIES,
    OUTPUT_ACTIVITIES,
    Destination,
    choose_endpoints,
    destination,
    file_url,
    may_go_elsewhere,
)
from pilot_core.storage.logs import LogUploader
from pilot_core.storage.parallel import columns, each
from pilot_core.storage.report import file_report

__all__ = ["JobFiles"]

log = logging.getLogger(__name__)

F = TypeVar("F", InputFile, OutputFile)

#: Activities for inputs, the first that the queue knows counts (pilot3's
#: order).
INPUT_ACTIVITIES = ("pr", "read_lan", "r")

#: Storage data, from all sources.
STORAGE_DATA_S = 60.0

#: Files named in one diagnosis: a job may define any number of them.
MOST_NAMED = 10


class JobFiles:
    """Finds the storage for each kind of file and moves the files.

    One per pilot: copy tools keep their connections from job to job. Methods
    may be called from any thread.

    Parameters
    ----------
    storage
        What is known of a ddmendpoint; raises SetupError.
    tools
        Makes a copy tool by CRIC's name for it.
    installed
        Has this copy tool what it needs on this node?
    redactor
        What it knows is masked in logs and bundles, never in outputs.
    uploaded
        Hears how many log files each upload stored and failed to store.
    """

    def __init__(
        self,
        storage: Callable[[str, Budget], Storage],
        *,
        tools: Mapping[str, Callable[[StorageConfig, Clock], CopyTool]],
        config: StorageConfig,
        monitor: MonitorConfig,
        clock: Clock,
        redactor: Redactor,
        installed: Callable[[str], bool] = lambda _: True,
        uploaded: Callable[[int, int], None] = lambda _stored, _failed: None,
    ) -> None:
        self._installed = installed
        self._uploaded = uploaded
        self._storage = storage
        self._makers = tools
        self._config = config
        self._monitor = monitor
        self._clock = clock
        self._redactor = redactor
        self._tools: dict[str, CopyTool] = {}

    def tool(self, name: str) -> CopyTool:
        """The copy tool of this name.

        Raises
        ------
        StorageError
            UNKNOWNCOPYTOOL. The name may come from a ledger that another
            version of the pilot wrote.
        """
        if name not in self._makers:
            raise StorageError(f"there is no copytool {name!r}", ErrorCode.UNKNOWNCOPYTOOL)
        if name not in self._tools:
            self._tools[name] = self._makers[name](self._config, self._clock)
        return self._tools[name]

    # --- logs ---------------------------------------------------------------

    def log_place(self, job: Job, queue: Queue, budget: Budget) -> tuple[str, str]:
        """Prefix and copytool for a job's logs; empty if there is no place."""
        try:
            place = self.log_destination(job, queue, budget)
        except PilotError as err:
            log.warning("no place for the logs: %s", err)
            return "", ""
        # A tarball is made by the pilot that ran the job, or by nobody.
        return ("", "") if place.tarball else (place.prefix, place.copytool)

    def log_destination(self, job: Job, queue: Queue, budget: Budget) -> Destination:
        """Where a job's logs go."""
        file = job.log or OutputFile(lfn="")
        endpoint = choose_endpoints(queue, LOG_ACTIVITIES, asked=file.endpoint)[0]
        return self._destination(job, queue, file, endpoint, LOG_ACTIVITIES, budget, own_folder=True)

    def uploader(self, copytool: str, prefix: str, paths: JobPaths) -> LogUploader:
        """Stores logs with a copytool below a prefix."""
        return LogUploader(
            self.tool(copytool),
            prefix,
            clock=self._clock,
            roots=(paths.work, paths.shared),
            redactor=self._redactor,
            # Without a cap of its own: what ended a payload is not stored whole.
            cap_bytes=self._config.cap_bytes or self._monitor.output_bytes,
            gzip_bytes=self._config.gzip_bytes,
            uploaded=self._uploaded,
        )

    def bundle(
        self, job: Job, queue: Queue, paths: JobPaths, place: Destination, budget: Budget
    ) -> FileReport | None:
        """Pack the job's folder and report it under the name of its log.

        The bundle itself is stored where the storage takes no single files,
        or where the operator wants it too. Elsewhere people read the single
        files, and `log.tgz` stands for all of them in the report, as from
        pilot3.
        """
        # Only now: a pilot that watches a payload does without the 1 MB of it.
        from pilot_core.storage.bundle import make_bundle

        if job.log is None:
            return None
        made = make_bundle(
            paths.work,
            paths.home / f"{job.panda_id}.log.tgz",
            top=f"tarball_PandaJob_{job.panda_id}_{queue.name}",
            budget=budget,
            redactor=self._redactor,
            roots=(paths.shared,),
        )
        stored = Stored(place.prefix, "", made.size, made.adler32)
        try:
            if place.tarball or self._config.upload_bundle:
                stored = self._put_bundle(made.path, job.log, place, budget)
        finally:
            made.path.unlink(missing_ok=True)
        return file_report(job.log, stored, place.endpoint)

    def _put_bundle(self, path: Path, file: OutputFile, place: Destination, budget: Budget) -> Stored:
        """Store one file as if it were several: a tool that hangs is left
        behind.
        """
        url = file_url(place.prefix, file.lfn)
        found = each(
            [file.lfn],
            lambda _: self._tool_at(place).put(path, url, budget=budget, content_type="application/gzip"),
            name="bundle",
            workers=1,
            budget=budget,
            clock=self._clock,
            late=ErrorCode.STAGEOUTTIMEOUT,
        )
        if found.failed:
            raise found.failed[file.lfn]
        return found.done[file.lfn]

    # --- inputs and outputs -------------------------------------------------

    def stage_in(self, job: Job, queue: Queue, folder: Path, budget: Budget) -> None:
        """Fetch a job's inputs into `folder`.

        Raises
        ------
        StorageError
            Of the first file that could not be fetched, naming all of them.
        """
        from pilot_core.storage.inputs import get_inputs

        got = get_inputs(
            job.inputs,
            folder,
            places=self._places(job, queue, job.inputs, INPUT_ACTIVITIES, budget, elsewhere=True),
            budget=budget,
            clock=self._clock,
            keep_free_bytes=self._monitor.free_mb * 1024 * 1024,
        )
        _raise_for(got.failed)

    def stage_out(
        self, job: Job, queue: Queue, paths: JobPaths, budget: Budget
    ) -> tuple[tuple[FileReport, ...], StorageError | None]:
        """Store a job's outputs: reports of what is stored, and what failed."""
        from pilot_core.storage.outputs import put_outputs

        elsewhere = may_go_elsewhere(queue, job.definition)
        done = put_outputs(
            job.outputs,
            paths.shared if job.image else paths.work,
            places=self._places(job, queue, job.outputs, OUTPUT_ACTIVITIES, budget, elsewhere=elsewhere),
            budget=budget,
            clock=self._clock,
            roots=(paths.work, paths.shared),
            max_bytes=self._config.output_mb * 1024**2,
        )
        try:
            _raise_for(done.failed)
        except StorageError as err:
            return done.reports, err
        return done.reports, None

    def _places(
        self,
        job: Job,
        queue: Queue,
        files: Sequence[F],
        activities: Sequence[str],
        budget: Budget,
        *,
        elsewhere: bool,
    ) -> list[dict[F, Place]]:
        """Where each file is or goes; then, if that is wanted, where else.

        Raises
        ------
        PilotError
            If there is no first place. Another one that is not known is left
            out.
        """
        rows: dict[F, list[Place]] = {}
        for file in files:
            best, *others = choose_endpoints(queue, activities, asked=file.endpoint)
            where = functools.partial(self._place, job, queue, file, activities, budget)
            rows[file] = [where(best)]
            for name in others if elsewhere else ():
                try:
                    rows[file].append(where(name))
                except PilotError as err:
                    log.warning("%s cannot stand in for %s: %s", name, best, err)
        return columns(rows)

    def _place(
        self,
        job: Job,
        queue: Queue,
        file: InputFile | OutputFile,
        activities: Sequence[str],
        budget: Budget,
        endpoint: str,
    ) -> Place:
        where = self._destination(job, queue, file, endpoint, activities, budget)
        return Place(self._tool_at(where), file_url(where.prefix, file.lfn), where.endpoint)

    def _tool_at(self, where: Destination) -> CopyTool:
        tool = self.tool(where.copytool)
        return tool.at(setup=where.setup, token=where.token) if of_site(tool) else tool

    def _destination(
        self,
        job: Job,
        queue: Queue,
        file: InputFile | OutputFile,
        endpoint: str,
        activities: Sequence[str],
        budget: Budget,
        *,
        own_folder: bool = False,
    ) -> Destination:
        return destination(
            queue,
            self._storage(endpoint, budget.part(STORAGE_DATA_S, "storage data")),
            activities=activities,
            file=file,
            panda_id=job.panda_id,
            available=self._makers,
            installed=self._installed,
            own_folder=own_folder,
        )


def _raise_for(failed: Mapping[F, StorageError]) -> None:
    """One error for all files that failed: the code of the first, the words of
    some.
    """
    if not failed:
        return
    first = next(iter(failed.values()))
    words = [f"{file.lfn}: {err.diag}" for file, err in islice(failed.items(), MOST_NAMED)]
    if len(failed) > MOST_NAMED:
        words.append(f"and {len(failed) - MOST_NAMED} more")
    raise StorageError("; ".join(words), first.code)
