"""A job pushed as a file by Harvester: beside the pilot, or in a ConfigMap."""

import contextlib
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.config import JobsConfig
from pilot_core.errors import BadJob, NodeError, SetupError
from pilot_core.jobs.definition import read_definition
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job

__all__ = ["PushedSource", "parse_pushed"]

log = logging.getLogger(__name__)

#: Names Harvester may give the file, and where its ConfigMap is mounted.
NAMES = ("pandaJobData.out", "HPCJobs.json")
MOUNT = Path("/scratch/jobconfig")

# A ConfigMap holds 1 MiB at most, a file of HPCJobs.json a few.
_LONGEST = 16 * 1024 * 1024
_LOOK_S = 1.0
# Harvester writes in place: a file that was touched just now may be half of
# one, unless it has not changed between two looks.
_SETTLE_S = 2.0


class PushedSource:
    """Waits for one file with one job.

    Parameters
    ----------
    config
        `push_file` names the file or its folder; without it the pilot's home
        and the ConfigMap's mount are looked at. Waited for `push_wait_s`.
    home
        The pilot's main directory; a claim is left there, and beside the file
        where that can be written, so that no pilot started again on the same
        file runs the job again.
    """

    renewable = False

    def __init__(self, config: JobsConfig, *, home: Path, clock: Clock) -> None:
        self._home = home
        self._wait_s = config.push_wait_s
        self._clock = clock
        self._places = [home, MOUNT] if config.push_file is None else [config.push_file]
        self._done = False

    def next(self, *, budget: Budget, stop: threading.Event) -> Job | None:
        """See `contract.JobSource`; None after the first job, or when stopped.

        Raises
        ------
        SetupError
            JSONRETRIEVALTIMEOUT: no file came, or it cannot be read;
            JOBALREADYRUNNING: this job was begun here before.
        """
        if self._done:
            return None
        path = self._await_file(budget.part(self._wait_s, "waiting for a pushed job"), stop)
        if path is None:
            return None
        self._done = True
        job = read_definition(parse_pushed(self._read(path)))
        # Wrappers give each pilot a home of its own: what marks a job as begun
        # for the next one is a claim beside the file, where we may write
        # there.
        for folder in dict.fromkeys((path.parent, self._home)):
            self._claim(job, folder, needed=folder == self._home)
        self._remove(path)
        return job

    def _await_file(self, budget: Budget, stop: threading.Event) -> Path | None:
        seen: dict[Path, tuple[int, int]] = {}
        while not stop.is_set():
            for path in self._candidates():
                with contextlib.suppress(OSError):
                    info = path.stat()
                    now = info.st_size, info.st_mtime_ns
                    settled = seen.get(path) == now or self._clock.time() - info.st_mtime >= _SETTLE_S
                    seen[path] = now
                    if info.st_size and settled:
                        log.info("pushed job found: %s", path)
                        return path
            if budget.left <= _LOOK_S:
                where = ", ".join(str(place) for place in self._places)
                raise SetupError(
                    f"no pushed job within {budget.seconds:.0f} s in {where}", ErrorCode.JSONRETRIEVALTIMEOUT
                )
            self._clock.wait(stop, _LOOK_S)
        return None

    def _candidates(self) -> list[Path]:
        found: list[Path] = []
        for place in self._places:
            found += [place / name for name in NAMES] if place.is_dir() else [place]
        return found

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as src:
                data = src.read(_LONGEST + 1)
        except OSError as err:
            raise SetupError(f"pushed job {path}: {err.strerror}", ErrorCode.JSONRETRIEVALTIMEOUT) from err
        if len(data) > _LONGEST:
            raise BadJob(path.name, "", f"longer than {_LONGEST} bytes")
        return data

    def _claim(self, job: Job, folder: Path, *, needed: bool) -> None:
        """Leave a file that says: this job was begun here."""
        path = folder / f"pushed-{job.panda_id}.claim"
        try:
            with path.open("x", encoding="utf-8") as out:
                json.dump(
                    {"PandaID": job.panda_id, "attemptNr": job.attempt, "time": self._clock.time()}, out
                )
        except FileExistsError as err:
            raise SetupError(
                f"job {job.panda_id} was begun here before ({path}): it is not run a second time",
                ErrorCode.JOBALREADYRUNNING,
            ) from err
        except OSError as err:
            # A claim that is half there would keep the next pilot from the job.
            with contextlib.suppress(OSError):
                path.unlink()
            if needed:
                raise NodeError(
                    f"{path}: {err.strerror}", ErrorCode.MKDIR, panda_id=job.panda_id, attempt=job.attempt
                ) from err
            log.info("no claim beside the pushed job: %s: %s", path, err.strerror)

    def _remove(self, path: Path) -> None:
        """The file may hold secrets.

        Those of a ConfigMap are symbolic links, read-only, and not ours.
        """
        if path.is_symlink():
            return
        try:
            path.unlink()
        except OSError as err:
            log.info("the pushed job stays where it is: %s: %s", path, err.strerror)


def parse_pushed(data: bytes) -> Mapping[str, object]:
    """PURE: the first job of a file, whatever its format.

    JSON: one flat map, or `{"<PandaID>": {map}, ...}` (HPCJobs.json).
    Else urlencoded (`jobSpecFileFormat: cgi`), decoded once: values that were
    encoded twice are what the server sent.

    Raises
    ------
    BadJob
        It holds no job.
    """
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as err:
        raise BadJob("file", data[:40], "not UTF-8 text") from err
    try:
        found = json.loads(text) if text[:1] in ("{", "[") else dict(parse_qsl(text, keep_blank_values=True))
    except (ValueError, RecursionError) as err:
        raise BadJob("file", text[:40], f"neither JSON nor urlencoded: {str(err)[:80]}") from err
    if isinstance(found, dict) and "PandaID" not in found:
        jobs = [job for job in found.values() if isinstance(job, dict)]
        for other in jobs[1:]:
            log.warning("more than one job in the file: PandaID %s is not run", other.get("PandaID"))
        found = jobs[0] if jobs else None
    if not isinstance(found, dict):
        raise BadJob("file", text[:40], "holds no job")
    return found
