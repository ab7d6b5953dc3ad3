"""Jobs, updates and workers in one SQLite file; thread-safe."""

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields as row_fields
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilot_core.base.clock import Clock, SystemClock
from pilot_core.local import adder, definition, rules
from pilot_core.local.rows import JobRow, UpdateRow, WorkerRow

__all__ = ["NoSuchJob", "Store"]

#: Longest text an operator can send to a pilot.
COMMAND_LENGTH = 250
#: Candidates of one request are tried in this order.
_NEXT_JOBS = "SELECT * FROM jobs WHERE status = 'activated' AND queue = ? ORDER BY priority DESC, panda_id"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    panda_id INTEGER PRIMARY KEY, queue TEXT, definition TEXT, status TEXT, attempt INTEGER, label TEXT,
    priority INTEGER, columns TEXT, command TEXT, debug INTEGER, final TEXT, report TEXT, metadata TEXT,
    pilot_log TEXT, stdout TEXT, archived INTEGER, created_s REAL, sent_s REAL, started_s REAL, ended_s REAL,
    modified_s REAL);
CREATE INDEX IF NOT EXISTS jobs_by_queue ON jobs (status, queue, priority DESC, panda_id);
CREATE TABLE IF NOT EXISTS updates (
    time_s REAL, panda_id INTEGER, fields TEXT, code INTEGER, command TEXT, dialect TEXT);
CREATE INDEX IF NOT EXISTS updates_by_job ON updates (panda_id);
CREATE TABLE IF NOT EXISTS workers (
    time_s REAL, harvester_id TEXT, worker_id TEXT, status TEXT, node TEXT, site TEXT);
"""

_JOB_COLUMNS = [field.name for field in row_fields(JobRow)]
_AS_JSON = ("definition", "columns")
_AS_BOOL = ("debug", "archived")


class NoSuchJob(KeyError):
    """There is no job of that number."""


class Store:
    """Everything the server knows of jobs.

    One connection behind one lock: each method is a transaction, and a
    condition that is signalled after each change lets tests and the console
    wait instead of asking again and again.

    Parameters
    ----------
    path
        The database file; made if it is not there.
    adder_delay_s
        Seconds a reported end waits in `holding` for the Adder. A real server
        takes up to 10 s; 0 settles the job within the same request.
    queue_status
        Status of a queue by name: one in `test` gives out other jobs.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        adder_delay_s: float = 0.0,
        queue_status: Callable[[str], str] = lambda _: "online",
    ) -> None:
        self._clock = clock or SystemClock()
        self._adder_delay_s = adder_delay_s
        self._queue_status = queue_status
        self._changed = threading.Condition(threading.RLock())
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # A record of tests and of one person's jobs: losing the last
        # moments in a power cut is fine, 10 ms of fsync per heartbeat is not.
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + _SCHEMA)

    def close(self) -> None:
        """Close the database; a second call is harmless."""
        with self._changed:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._changed:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            self._changed.notify_all()

    # -- jobs in, jobs out -------------------------------------------------

    def submit(self, job: Mapping[str, object]) -> int:
        """Add a job, activated at once; returns its PandaID.

        What the definition leaves out is filled in; a PandaID in it is kept if
        it is still free.

        Raises
        ------
        ValueError
            It is not, or a number that the server needs is none.
        """
        full = definition.complete(job)
        queue = str(full.pop(definition.QUEUE_KEY))
        with self._transaction() as db:
            panda_id = int(str(full["PandaID"] or 0)) or self._next_id(db)
            if self._read(db, panda_id) is not None:
                raise ValueError(f"PandaID={panda_id} is taken")
            full["PandaID"] = panda_id
            full["jobName"] = full["jobName"] or f"local_job.{panda_id}"
            now = self._clock.time()
            self._write(
                db,
                JobRow(
                    panda_id=panda_id,
                    queue=queue,
                    definition=full,
                    attempt=int(str(full["attemptNr"])),
                    label=str(full["prodSourceLabel"]),
                    priority=int(str(full["currentPriority"])),
                    debug=full.get("debug") == "True",
                    created_s=now,
                    modified_s=now,
                ),
                insert=True,
            )
        return panda_id

    def _next_id(self, db: sqlite3.Connection) -> int:
        """The next number; a new database begins somewhere in ten digits, with
        ...001.

        Folders and containers on the node carry the PandaID in their names, so
        two servers on one machine should not number their jobs alike.
        """
        top = db.execute("SELECT max(panda_id) FROM jobs").fetchone()[0]
        return 10**9 + secrets.randbelow(9 * 10**6) * 1000 + 1 if top is None else int(top) + 1

    def acquire(self, wanted: Mapping[str, object]) -> list[Mapping[str, object]]:
        """Hand out jobs: activated becomes sent.

        Parameters
        ----------
        wanted
            Parameters of acquire_jobs under their v1 names.
        """
        site = str(wanted["site_name"])
        timeout = wanted.get("timeout")
        if isinstance(timeout, int) and timeout <= 10:
            return []  # the server keeps 10 s for itself, and nothing is left to look for a job
        in_test = self._queue_status(site) == "test"
        given: list[Mapping[str, object]] = []
        with self._transaction() as db:
            for row in db.execute(_NEXT_JOBS, (site,)).fetchall():
                if len(given) >= int(str(wanted.get("n_jobs") or 1)):
                    break
                job = _job(row)
                if not _fits(job, wanted, queue_in_test=in_test):
                    continue
                sent = {**job.definition, "nSent": _number(job.definition, "nSent") + 1}
                columns = {
                    **job.columns,
                    **({"modificationHost": wanted["node"]} if wanted.get("node") else {}),
                    **({"schedulerID": wanted["scheduler_id"]} if wanted.get("scheduler_id") else {}),
                    **({"harvesterID": wanted["harvester_id"]} if wanted.get("harvester_id") else {}),
                    **({"workerID": wanted["worker_id"]} if wanted.get("worker_id") else {}),
                }
                now = self._clock.time()
                self._write(
                    db,
                    replace(job, status="sent", definition=sent, columns=columns, sent_s=now, modified_s=now),
                )
                given.append(sent)
        return given

    def update(self, fields: Mapping[str, object], *, dialect: str = "v1") -> rules.Verdict:
        """A pilot's update, judged, stored, recorded; a final one settles the
        job.
        """
        panda_id = int(str(fields["job_id"]))
        with self._transaction() as db:
            job = self._read(db, panda_id)
            now = self._clock.time()
            if job is not None:
                job = self._settled(job, now)
            verdict = rules.update(job, fields, now=now, dialect=dialect)
            after = verdict.job or job
            if after is not None:
                self._write(db, self._settled(after, now))
            db.execute(
                "INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?)",
                (now, panda_id, json.dumps(dict(fields)), verdict.code, verdict.command, dialect),
            )
        return verdict

    def _settled(self, job: JobRow, now: float) -> JobRow:
        due = job.final and not job.archived and now - job.modified_s >= self._adder_delay_s
        return adder.settle(job, now=now) if due else job

    # -- what operators do -------------------------------------------------

    def kill(self, panda_id: int, *, code: int | None = None, who: str = "local user") -> bool:
        """Kill a job; False if it does not exist or has ended."""
        with self._transaction() as db:
            job = self._read(db, panda_id)
            if job is None or job.archived:
                return False
            self._write(db, rules.cancel(job, code=code, who=who, now=self._clock.time()))
        return True

    def set_command(self, panda_id: int, text: str) -> bool:
        """Text for the pilot in each reply; False once the job is being
        killed.

        `tobekilled` is the server's own way to say kill. Empty takes it back.
        """
        with self._transaction() as db:
            job = self._require(db, panda_id)
            if job.command == "tobekilled":
                return False
            self._write(db, replace(job, command=text[:COMMAND_LENGTH]))
        return True

    def set_debug(self, panda_id: int, on: bool) -> None:
        """Switch debug mode: each reply says `debug` while it is on."""
        with self._transaction() as db:
            self._write(db, replace(self._require(db, panda_id), debug=on))

    def watch(self, now: float | None = None) -> list[int]:
        """Fail jobs that were silent too long, settle those that wait; the
        failed ones.

        A real server does this every 40 minutes.
        """
        now = self._clock.time() if now is None else now
        failed = []
        with self._transaction() as db:
            for row in db.execute("SELECT * FROM jobs WHERE NOT archived").fetchall():
                before = _job(row)
                job = self._settled(before, now)
                late = None if job.archived else rules.overdue(job, now=now)
                if late is not None:
                    failed.append(job.panda_id)
                if (late or job) != before:
                    self._write(db, late or job)
        return failed

    def worker(self, row: WorkerRow) -> None:
        """Remember a worker's word about itself."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?)",
                (row.time_s, row.harvester_id, row.worker_id, row.status, row.node, row.site),
            )

    # -- looking -----------------------------------------------------------

    def find(self, panda_id: int) -> JobRow | None:
        """The job, or None."""
        with self._changed:
            job = self._read(self._db, panda_id)
            return None if job is None else self._settled(job, self._clock.time())

    def job(self, panda_id: int) -> JobRow:
        """The job.

        Raises
        ------
        NoSuchJob
        """
        found = self.find(panda_id)
        if found is None:
            raise NoSuchJob(panda_id)
        return found

    def jobs(self) -> list[JobRow]:
        """All jobs in the order of their numbers."""
        with self._changed:
            rows = self._db.execute("SELECT * FROM jobs ORDER BY panda_id").fetchall()
            now = self._clock.time()
            return [self._settled(_job(row), now) for row in rows]

    def updates(self, panda_id: int) -> list[UpdateRow]:
        """Each update of a job in the order of arrival, refused ones included."""
        with self._changed:
            rows = self._db.execute(
                "SELECT * FROM updates WHERE panda_id = ? ORDER BY rowid", (panda_id,)
            ).fetchall()
        return [UpdateRow(**{**dict(row), "fields": json.loads(row["fields"])}) for row in rows]

    def workers(self) -> list[WorkerRow]:
        """Each word of a worker in the order of arrival."""
        with self._changed:
            rows = self._db.execute("SELECT * FROM workers ORDER BY rowid").fetchall()
        return [WorkerRow(**dict(row)) for row in rows]

    def wait_for(self, check: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `check` is true; False when the time is over."""
        end = self._clock.monotonic() + timeout_s
        with self._changed:
            while not check():
                left = end - self._clock.monotonic()
                if left <= 0:
                    return False
                # Time alone changes things too: the Adder's delay runs out.
                self._changed.wait(min(left, 0.2))
            return True

    def wait_status(self, panda_id: int, status: str | Sequence[str], timeout_s: float) -> JobRow:
        """Wait until a job has a status, or one of several.

        Raises
        ------
        TimeoutError
            Saying in which status it stayed.
        """
        wanted = (status,) if isinstance(status, str) else tuple(status)
        if not self.wait_for(lambda: self.job(panda_id).status in wanted, timeout_s):
            stayed = self.job(panda_id).status
            raise TimeoutError(f"job {panda_id} is {stayed}, not {' or '.join(wanted)}, after {timeout_s} s")
        return self.job(panda_id)

    # -- rows --------------------------------------------------------------

    def _read(self, db: sqlite3.Connection, panda_id: int) -> JobRow | None:
        row = db.execute("SELECT * FROM jobs WHERE panda_id = ?", (panda_id,)).fetchone()
        return None if row is None else _job(row)

    def _require(self, db: sqlite3.Connection, panda_id: int) -> JobRow:
        job = self._read(db, panda_id)
        if job is None:
            raise NoSuchJob(panda_id)
        return job

    def _write(self, db: sqlite3.Connection, job: JobRow, *, insert: bool = False) -> None:
        values: dict[str, Any] = {name: getattr(job, name) for name in _JOB_COLUMNS}
        values |= {name: json.dumps(dict(values[name])) for name in _AS_JSON}
        marks = ", ".join(f":{name}" for name in _JOB_COLUMNS)
        verb = "INSERT" if insert else "INSERT OR REPLACE"
        db.execute(f"{verb} INTO jobs ({', '.join(_JOB_COLUMNS)}) VALUES ({marks})", values)


def _job(row: sqlite3.Row) -> JobRow:
    values = dict(row)
    values |= {name: json.loads(values[name]) for name in _AS_JSON}
    values |= {name: bool(values[name]) for name in _AS_BOOL}
    return JobRow(**values)


def _number(definition: Mapping[str, object], key: str) -> int:
    """A number of a definition; 0 for none, and for what is no number: that
    job goes to a pilot, which says what is wrong with it.
    """
    try:
        return int(float(str(definition.get(key))))
    except (ValueError, OverflowError):
        return 0


def _fits(job: JobRow, wanted: Mapping[str, object], *, queue_in_test: bool) -> bool:
    limits = (("memory", "minRamCount"), ("disk_space", "maxDiskCount"))
    for asked, key in limits:
        if wanted.get(asked) and _number(job.definition, key) > int(str(wanted[asked])):
            return False
    remaining = wanted.get("remaining_time")
    if remaining is not None and _number(job.definition, "maxWalltime") > float(str(remaining)):
        return False
    exact = (("task_id", "taskID"), ("resource_type", "resource_type"), ("prod_user_id", "prodUserID"))
    if any(wanted.get(a) and str(wanted[a]) != str(job.definition.get(k)) for a, k in exact):
        return False
    label = wanted.get("prod_source_label")
    return rules.accepts_label(str(label) if label else None, job.label, queue_in_test=queue_in_test)
