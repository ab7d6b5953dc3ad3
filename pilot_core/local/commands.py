"""Commands of the console that need a server which runs already: submit,
work, cancel; and status and logs, which can do without. Each returns the exit
code.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pilot_core.base.text import words
from pilot_core.errors import BadJob
from pilot_core.experiments.environment import BATCH_SITE, LSST_SITE, select
from pilot_core.local.client import Client, NoServer, Unanswered, find_url
from pilot_core.local.folder import DATABASE, DEFAULT_FOLDER, Shelf
from pilot_core.local.shared import check_shared, shared_root
from pilot_core.local.submission import check, from_options, parse, unread
from pilot_core.local.views import (
    job_folder,
    jobs_table,
    live_logs,
    log_folder,
    no_logs,
    one_job,
    split_logs,
    tail,
)
from pilot_core.local.worker import WorkerPlan, config_text, worker_environment

__all__ = ["cancel", "folder_of", "logs", "status", "submit", "work"]

#: Starts a pilot without a word in PYTHONPATH, which is the payload's.
_PILOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); import pilot_core.pilot as p; sys.exit(p.main())"
_PACKAGES = Path(__file__).resolve().parents[2]


def folder_of(options: argparse.Namespace) -> Path:
    """Where everything of the server is kept."""
    folder: Path = options.folder or DEFAULT_FOLDER
    return folder.expanduser().resolve()


def _client(options: argparse.Namespace) -> Client:
    return Client(options.url or find_url(folder_of(options)), options.cacert)


def _looking(options: argparse.Namespace) -> Client | Shelf:
    """The server, or what it left in its folder if it does not run."""
    folder = folder_of(options)
    try:
        client = _client(options)
        client.queues()
        return client
    except NoServer:
        if options.url or not (folder / DATABASE).is_file():
            raise
    print(f"no server runs on {folder}: this is what the last one left", file=sys.stderr)
    return Shelf(folder)


def _need_queue(client: Client, name: str) -> None:
    known = client.queues()
    if name not in known:
        raise Unanswered(f"there is no queue {name!r}: the server has {', '.join(known)}")


def submit(options: argparse.Namespace) -> int:
    """Submit a job and print its PandaID."""
    client = _client(options)
    if options.file is None and options.command is None:
        raise Unanswered("what is the job? Give --command or --file")
    try:
        part = parse(options.file.read_bytes()) if options.file else {}
    except (OSError, ValueError) as err:
        why = f": {err.strerror}" if isinstance(err, OSError) else f" {err}"
        raise Unanswered(f"{options.file}{why}") from None
    for line in unread(part):
        print(f"pilot-local: {options.file}: {line}", file=sys.stderr)
    try:
        definition = from_options(
            part,
            url=client.url,
            queue=options.queue,
            name=options.name,
            image=options.image,
            transformation=options.transformation,
            command=options.command,
        )
        queue = check(definition)
    except (BadJob, ValueError) as err:
        raise Unanswered(str(err)) from None
    _need_queue(client, queue)
    print(client.submit(definition))
    return 0


def work(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Become a pilot that runs the jobs of one queue until none is left."""
    client = _client(options)
    _need_queue(client, options.queue)
    plan = WorkerPlan(
        url=client.url,
        folder=folder_of(options) / "work",
        queue=options.queue,
        engine=options.engine,
        jobs=options.jobs,
        shared=shared_root(options.shared_root, environment),
        environment=environment,
    )
    check_shared(plan.shared, engine=plan.engine, environment=environment)
    # As on a batch node, where the pilot sees all of these.
    passed = select(environment, (*BATCH_SITE, *LSST_SITE, *words(options.pass_environment)))
    own = {"TERM": environment.get("TERM", "dumb"), "PYTHONPATH": environment.get("PYTHONPATH", "")}
    (plan.folder / "tmp").mkdir(parents=True, exist_ok=True)
    (plan.folder / "pilot.cfg").write_text(config_text(plan))
    command = [sys.executable, "-c", _PILOT, str(_PACKAGES)]
    command += ["-q", plan.queue, "--url", plan.url, "--pilot-user", "rubin"]
    # Who started it sees it fail: no hours of patience with a server that is
    # gone, five minutes to start it again for the report of a job.
    command += ["--getjobrequests", "1", "--getjobfailures", "1", "--final-timeout", "300"]
    command += ["--realtime-interval", "0.5", "--max-jobs", str(plan.jobs)]
    command += ["--pass-environment", options.pass_environment] if options.pass_environment else []
    if options.cacert is not None:
        command += ["--cacert", str(options.cacert.absolute())]
    os.chdir(plan.folder)
    os.execve(sys.executable, command, {**passed, **worker_environment(plan), **own})


def status(options: argparse.Namespace) -> int:
    """Print all jobs, or one of them closely."""
    source = _looking(options)
    if options.id is None:
        lines = jobs_table(source.jobs())
    else:
        job = source.job(options.id)
        lines = one_job(job, job_folder(job, folder_of(options)))
    print("\n".join(lines))
    return 0


def cancel(options: argparse.Namespace) -> int:
    """Cancel a job."""
    client = _client(options)
    if not client.cancel(options.id):
        raise Unanswered(f"job {options.id} does not exist or has ended")
    gone = client.job(options.id)["state"] == "cancelled"
    later = "will be cancelled: its pilot hears of it with the next heartbeat"
    print(f"job {options.id} {'is cancelled' if gone else later}")
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print the end of each log of a job, the last one if none is named; of
    one that runs here, what it has written so far.
    """
    source = _looking(options)
    panda_id = options.id or max((int(job["id"]) for job in source.jobs()), default=None)
    if panda_id is None:
        raise Unanswered("there is no job yet: `pilot-local submit --command 'echo hello'` makes one")
    job = source.job(panda_id)
    folder = log_folder(job, folder_of(options))
    files, monitors = split_logs(folder)
    here = job_folder(job, folder_of(options))
    if not files and not monitors and here is not None:
        files = live_logs(here)
    if not files and not monitors:
        raise Unanswered(no_logs(job, folder))
    for path in [*files, *monitors] if options.all else files:
        print(f"==> {path} ({path.stat().st_size} bytes)")
        for line in tail(path, options.lines):
            print(line)
    if monitors and not options.all:
        print(f"==> with --all also {', '.join(path.name for path in monitors)}")
    return 0
