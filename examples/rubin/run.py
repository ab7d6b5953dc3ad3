"""`make run-rubin`: real pipetask jobs through server, starter, wrapper and
pilot.

Prepares a repository and a quantum graph, submits five jobs to a PanDA server
of
its own, starts one worker as Harvester would, follows the jobs, and compares
what
`pipetask` wrote into its logs with what arrived. Exit code 0 if each job ended
as
it should and every log record arrived once.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobs import LOG_FILE, definition, plan, read_quanta
from stack import CHECKOUT, NoStack, make_payload
from verdict import Result, judge, shipped_by_job

from pilot_core.local.rows import ARCHIVED_STATES
from pilot_core.local.server import LocalPanda
from pilot_core.local.worker import Worker, WorkerPlan

TASK_ID = 1
LIMIT_S = 300.0
"""For all jobs: each takes 3 to 5 s, most of it imports."""


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, flush=True)


def follow(panda: LocalPanda, worker: Worker, ids: Sequence[int]) -> None:
    """Tell how the jobs go until the worker has gone, or the time is over."""
    begin = time.monotonic()
    seen: dict[int, str] = dict.fromkeys(ids, "activated")

    def changed() -> bool:
        return any(panda.store.job(panda_id).status != seen[panda_id] for panda_id in ids)

    while worker.poll() is None and time.monotonic() - begin < LIMIT_S:
        panda.store.wait_for(changed, 0.5)
        for panda_id in ids:
            job = panda.store.job(panda_id)
            if job.status == seen[panda_id]:
                continue
            seen[panda_id] = job.status
            ending = f", exit code {job.exit_code}" if job.status in ARCHIVED_STATES else ""
            say(f"{time.monotonic() - begin:6.1f} s  {panda_id}  {job.name}: {job.status}{ending}")


def run(folder: Path, *, cache: Path, engine: str) -> list[Result]:
    """Everything from an empty folder to the verdicts."""
    payload = make_payload(folder, cache=cache, engine=engine, say=say)
    steps = plan(read_quanta((payload.data / "quanta.jsonl").read_text(encoding="utf-8")))
    say(f"prepared  repository and quantum graph in {payload.data}")
    with LocalPanda(folder / "panda") as panda:
        say(f"server    {panda.url}, everything below {folder}")
        trf = f"{panda.url}/trf"
        # Milliseconds: another server on this machine may count, too.
        first = time.time_ns() // 1_000_000
        ids = [
            panda.store.submit(
                definition(payload, step, panda_id=number, transformations=trf, task_id=TASK_ID)
            )
            for number, step in enumerate(steps, start=first)
        ]
        for panda_id, step in zip(ids, steps, strict=True):
            say(f"submitted {panda_id}  {step.name}, {len(step.quanta)} quanta")
        worker = Worker(
            WorkerPlan(
                url=panda.url,
                folder=panda.folder / "worker",
                engine="docker" if payload.image else "process",
                jobs=len(ids),
                logfiles=LOG_FILE,
                environment=os.environ,
            )
        )
        worker.start()
        say(f"started   pilot-starter, its log is {worker.plan.output}")
        try:
            follow(panda, worker, ids)
        finally:
            code = worker.stop()
        say(f"ended     pilot-starter, exit code {code}")
        arrived = shipped_by_job(worker.plan.records)
        jobs = [panda.store.job(panda_id) for panda_id in ids]
        return [
            judge(
                step,
                job,
                panda.folder / "logs" / job.queue / f"PandaJob_{job.panda_id}",
                arrived.get(job.panda_id, ""),
            )
            for step, job in zip(steps, jobs, strict=True)
        ]


def report(results: Sequence[Result]) -> None:
    """A table, and what is wrong."""
    say(
        f"\n{'PandaID':14} {'job':20} {'state':9} {'exit':>4} {'time':>7} {'written':>8} {'shipped':>8}  logs"
    )
    for result in results:
        job = result.job
        seconds = (job.ended_s or 0.0) - (job.started_s or job.ended_s or 0.0)
        say(
            f"{job.panda_id:<14} {result.step.name:20} {job.status:9} {job.exit_code!s:>4} {seconds:5.1f} s"
            f" {result.written:8} {result.shipped:8}  {result.logs}"
        )
    for result in results:
        if result.complaint:
            say(f"\n{result.step.name}: {result.complaint}")
    if not any(result.complaint for result in results):
        total = sum(result.written for result in results)
        say(f"\neach job ended as it should, and each of {total} records arrived once")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Run real Rubin jobs through the pilot, on this machine.")
    parser.add_argument(
        "--engine", choices=("auto", "docker", "process"), default="auto", help="[%(default)s]"
    )
    parser.add_argument(
        "--cache", type=Path, default=CHECKOUT / ".run", help="kept between runs [%(default)s]"
    )
    options = parser.parse_args()
    cache = options.cache.resolve()
    folder = cache / "rubin" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    try:
        results = run(folder, cache=cache, engine=options.engine)
    except NoStack as err:
        print(f"run-rubin: {err}", file=sys.stderr)
        return 1
    report(results)
    return 1 if any(result.complaint for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
