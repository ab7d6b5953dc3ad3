"""A job's files and the queue's storages: inputs, outputs, logs, bundle."""

import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.config import MonitorConfig, StorageConfig
from pilot_core.errors import PilotError, StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, Job, OutputFile
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue, Storage
from pilot_core.model.report import FileReport
from pilot_core.storage.contract import CopyTool
from pilot_core.storage.destination import (
    LOG_ACTIVITIES,
    OUTPUT_ACTIVITIES,
    Destination,
    choose_endpoint,
    destination,
    file_url,
)
from pilot_core.storage.logs import LogUploader

__all__ = ["JobFiles"]

log = logging.getLogger(__name__)

F = TypeVar("F", InputFile, OutputFile)

#: Activities for inputs, the first that the queue knows counts (pilot3's
#: order).
INPUT_ACTIVITIES = ("pr", "read_lan", "r")

#: Storage data, from all sources.
STORAGE_DATA_S = 60.0


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
    """

    def __init__(
        self,
        storage: Callable[[str, Budget], Storage],
        *,
        tools: Mapping[str, Callable[[StorageConfig, Clock], CopyTool]],
        config: StorageConfig,
        monitor: MonitorConfig,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._makers = tools
        self._config = config
        self._monitor = monitor
        self._clock = clock
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
        return place.prefix, place.copytool

    def log_destination(self, job: Job, queue: Queue, budget: Budget) -> Destination:
        """Where a job's logs go."""
        file = job.log or OutputFile(lfn="")
        return self._destination(job, queue, file, LOG_ACTIVITIES, budget, own_folder=True)

    def uploader(self, copytool: str, prefix: str, paths: JobPaths) -> LogUploader:
        """Stores logs with a copytool below a prefix."""
        return LogUploader(
            self.tool(copytool),
            prefix,
            clock=self._clock,
            roots=(paths.work, paths.shared),
            cap_bytes=self._config.cap_bytes,
        )

    def bundle(
        self, job: Job, queue: Queue, paths: JobPaths, place: Destination, budget: Budget
    ) -> FileReport | None:
        """Pack the job's folder and report it under the name of its log.

        The bundle itself is stored only where the operator wants it: the
        single files are what people read, and `log.tgz` stands for all of
        them in the report, as from pilot3.
        """
        # Only now: a pilot that watches a payload does without the 1 MB of it.
        from pilot_core.storage.bundle import make_bundle

        if job.log is None:
            return None
        made = make_bundle(
            paths.work,
            paths.home / f"{job.panda_id}.{job.log.lfn}",
            top=f"tarball_PandaJob_{job.panda_id}_{queue.name}",
            budget=budget,
            roots=(paths.shared,),
        )
        surl = place.prefix
        try:
            if self._config.upload_bundle:
                surl = file_url(place.prefix, job.log.lfn)
                self.tool(place.copytool).put(made.path, surl, budget=budget)
        finally:
            made.path.unlink(missing_ok=True)
        return FileReport(
            lfn=job.log.lfn,
            guid=job.log.guid or str(uuid.uuid4()),
            size=made.size,
            adler32=made.adler32,
            surl=surl,
            endpoint=place.endpoint,
        )

    # --- inputs and outputs -------------------------------------------------

    def stage_in(self, job: Job, queue: Queue, folder: Path, budget: Budget) -> None:
        """Fetch a job's inputs into `folder`.

        Raises
        ------
        StorageError
            Of the first file that could not be fetched, naming all of them.
        """
        from pilot_core.storage.inputs import get_inputs

        for files in self._groups(job, queue, job.inputs, INPUT_ACTIVITIES, budget):
            place = next(iter(files.values()))
            got = get_inputs(
                list(files),
                folder,
                tool=self.tool(place.copytool),
                urls={file: file_url(where.prefix, file.lfn) for file, where in files.items()},
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

        folder = paths.shared if job.image else paths.work
        reports: tuple[FileReport, ...] = ()
        for files in self._groups(job, queue, job.outputs, OUTPUT_ACTIVITIES, budget):
            place = next(iter(files.values()))
            done = put_outputs(
                list(files),
                folder,
                tool=self.tool(place.copytool),
                prefixes={file: where.prefix for file, where in files.items()},
                endpoint=place.endpoint,
                budget=budget,
                clock=self._clock,
                roots=(paths.work, paths.shared),
            )
            reports += done.reports
            try:
                _raise_for(done.failed)
            except StorageError as err:
                return reports, err
        return reports, None

    def _groups(
        self, job: Job, queue: Queue, files: Sequence[F], activities: Sequence[str], budget: Budget
    ) -> list[dict[F, Destination]]:
        """Files and their places, grouped by copytool and ddmendpoint."""
        found: dict[tuple[str, str], dict[F, Destination]] = {}
        for file in files:
            place = self._destination(job, queue, file, activities, budget)
            found.setdefault((place.copytool, place.endpoint), {})[file] = place
        return list(found.values())

    def _destination(
        self,
        job: Job,
        queue: Queue,
        file: InputFile | OutputFile,
        activities: Sequence[str],
        budget: Budget,
        *,
        own_folder: bool = False,
    ) -> Destination:
        endpoint = choose_endpoint(queue, activities, asked=file.endpoint)
        storage = self._storage(endpoint.name, budget.part(STORAGE_DATA_S, "storage data"))
        available: Collection[str] = self._makers
        return destination(
            queue,
            storage,
            activities=activities,
            dataset=file.dataset,
            panda_id=job.panda_id,
            available=available,
            own_folder=own_folder,
        )


def _raise_for(failed: Mapping[InputFile, StorageError] | Mapping[OutputFile, StorageError]) -> None:
    """One error for all files that failed: the code of the first, the words of
    all.
    """
    if not failed:
        return
    first = next(iter(failed.values()))
    words = "; ".join(f"{file.lfn}: {err.diag}" for file, err in failed.items())
    raise StorageError(words, first.code)
