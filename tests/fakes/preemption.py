"""Workers that are preempted: each phase of a pilot's life, with real
processes.
"""

import gzip
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pilot_core.local.faults import FaultKind
from pilot_core.local.store import Store
from tests.fakes.images import busybox_image
from tests.fakes.patience import stated
from tests.fakes.site import LIMIT_S, Site

__all__ = ["SCENARIOS", "Measured", "Scenario"]

#: A payload that hears no SIGTERM and has a child.
STUBBORN = "trap '' TERM; sleep 300 & while :; do sleep 0.5; done"


def _idle(site: Site) -> None:
    site.start()
    site.until(lambda: "no job for us" in site.text(), "the first answer without a job")


def _asking(site: Site) -> None:
    site.fault("acquire_jobs", FaultKind.HANG, count=None)
    site.start()
    site.until(site.struck, "a request for a job")


def _handed_out(site: Site) -> None:
    site.submit("true")
    site.fault("acquire_jobs", FaultKind.SLOW, seconds=1.0)
    site.start()
    site.until(site.struck, "a request for a job")


def _handed_out_late(site: Site) -> None:
    site.submit("true")
    site.fault("acquire_jobs", FaultKind.SLOW, seconds=4.0)
    site.start()
    site.until(site.struck, "a request for a job")


def _queue_data(site: Site) -> None:
    site.fault("cric", FaultKind.HANG, count=None)
    site.fault("cache", FaultKind.HANG, count=None)
    site.start()
    site.until(site.struck, "a request for queue data")


def _transformation(site: Site) -> None:
    site.submit("true")
    site.fault("transformation", FaultKind.HANG, count=None)
    site.start()
    site.until(site.struck, "a request for the transformation")


def _pulling(site: Site) -> None:
    site.engine = "docker"
    site.submit("true", image=f"{site.quiet}/nothing:1")
    site.start()
    site.until(site.called.is_set, "the daemon's call to the registry")


def _starting(site: Site) -> None:
    site.engine = "docker"
    site.submit(STUBBORN, image=busybox_image())
    site.start()
    site.until_status("starting", "running")


def _running(site: Site) -> None:
    site.submit("echo started; sleep 300")
    site.start()
    site.until_status("running")


def _stubborn(site: Site) -> None:
    site.submit(STUBBORN)
    site.start()
    site.until_status("running")


def _image(site: Site) -> None:
    site.engine = "docker"
    site.submit(STUBBORN, image=busybox_image())
    site.start()
    site.until_status("running")
    site.until(site.containers, "its container")


def _inner(site: Site) -> None:
    site.engine = "docker"
    place = site.folder / "shared"
    inner = f'docker run --rm -v $D:$D --network host {busybox_image()} /bin/sh -c "{STUBBORN}"'
    site.submit(f"D={place}/$PANDAID; mkdir -p $D; {inner}")
    site.start()
    site.until_status("running")
    site.until(site.containers, "the container that it starts")


def _uploading(site: Site) -> None:
    site.queue = "DOMA_LSST_DEV"
    site.environment["STORAGE_EMULATOR_HOST"] = f"http://{site.quiet}"
    site.submit("echo done")
    site.start()
    site.until(site.called.is_set, "the upload")


def _reporting(site: Site) -> None:
    site.submit("echo done")
    site.fault("update_job", FaultKind.SLOW, seconds=1.0, where={"job_status": "finished"})
    site.start()
    site.until(site.struck, "the final report")


def _down(site: Site) -> None:
    _stubborn(site)
    site.panda.stop()


def _hanging(site: Site) -> None:
    _stubborn(site)
    site.fault("*", FaultKind.HANG, count=None)


def _stopped(site: Site) -> None:
    _running(site)
    os.kill(site.pilot(), signal.SIGSTOP)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One phase in which the signal comes.

    Attributes
    ----------
    reach
        Brings a site into that phase.
    state
        The job's final state at the server; empty if there is no job, or no
        server.
    report_s
        Seconds from the signal to the final report, at most.
    says
        Words of the log about what was left out.
    """

    name: str
    reach: Callable[[Site], None]
    state: str = "failed"
    docker: bool = False
    report_s: float = 2.0
    says: tuple[str, ...] = ()


_UNTOLD = ("was not delivered", "is kept for pilot_job_state.json")

SCENARIOS = (
    Scenario("idle", _idle, state=""),
    Scenario("fetching queue data (hangs)", _queue_data, state=""),
    Scenario("asking (server hangs)", _asking, state=""),
    Scenario("asking, a job comes after 1 s", _handed_out),
    Scenario("asking, a job comes after 4 s", _handed_out_late, report_s=6.0),
    Scenario("fetching the transformation (hangs)", _transformation),
    Scenario("pulling an image (registry hangs)", _pulling, docker=True),
    Scenario("starting", _starting, docker=True),
    Scenario("running, process", _running),
    Scenario("running, process ignores SIGTERM", _stubborn),
    Scenario("running, image", _image, docker=True),
    Scenario("running, docker run in a script", _inner, docker=True),
    Scenario(
        "uploading (storage hangs)",
        _uploading,
        says=("pilotlog.txt could not be stored", "is kept for PanDA_Pilot-"),
    ),
    Scenario("final report in flight", _reporting, state="finished"),
    Scenario("running, server down", _down, state="", says=_UNTOLD),
    Scenario("running, server hangs", _hanging, state="", says=_UNTOLD),
    Scenario(
        "running, the pilot itself hangs",
        _stopped,
        report_s=12.0,
        says=("did not end within its time", "its last will follows"),
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen after SIGTERM; seconds from it.

    Attributes
    ----------
    report_s
        The final report was at the server; None if none came.
    gone_s
        The starter had ended and nothing was left.
    left
        What still ran then.
    finals, code, diag
        What the server has of the job's end.
    log, shipped, uploaded
        The worker's log: the file, what its sink got, what Harvester's readers
        find.
    """

    scenario: Scenario
    report_s: float | None
    exit_s: float
    gone_s: float
    exit_code: int | None
    left: tuple[str, ...]
    finals: tuple[str, ...]
    code: int | None
    diag: str
    log: str
    shipped: str
    uploaded: str

    @classmethod
    def take(cls, scenario: Scenario, site: Site, *, again_s: float | None = None) -> "Measured":
        """Reach the phase, send SIGTERM (once more after `again_s`), and look."""
        scenario.reach(site)
        assert site.worker is not None
        sent, began = time.time(), time.monotonic()
        os.kill(site.pid, signal.SIGTERM)
        pause = threading.Event()
        if again_s is not None:
            pause.wait(again_s)
            os.kill(site.pid, signal.SIGTERM)
        while site.worker.poll() is None and time.monotonic() - began < LIMIT_S:
            pause.wait(0.02)
        exit_s = time.monotonic() - began
        left = site.left()
        while left and time.monotonic() - began < max(exit_s, stated(12.0)):
            pause.wait(0.2)
            left = site.left()
        gone_s = time.monotonic() - began
        finals, code, diag = _finals(site)
        records = site.folder / "worker" / "worker-records.jsonl"
        uploaded = site.panda.folder / "cache" / "local_1_gz.out"
        return cls(
            scenario=scenario,
            report_s=finals[0][1] - sent if finals else None,
            exit_s=exit_s,
            gone_s=gone_s if left or gone_s - exit_s > 0.3 else exit_s,
            exit_code=site.worker.poll(),
            left=tuple(left),
            finals=tuple(status for status, _ in finals),
            code=code,
            diag=diag,
            log=site.text(),
            shipped=records.read_text() if records.exists() else "",
            uploaded=gzip.decompress(uploaded.read_bytes()).decode() if uploaded.exists() else "",
        )


def _finals(site: Site) -> tuple[list[tuple[str, float]], int | None, str]:
    if not site.job:
        return [], None, ""
    # A server that was stopped has closed its store; another one reads the
    # file.
    store = Store(site.panda.folder / "panda.sqlite", clock=site.panda.clock)
    try:
        rows = [u for u in store.updates(site.job) if u.status in ("finished", "failed")]
        code, diag = store.job(site.job).pilot_error
        return [(row.status, row.time_s) for row in rows], code, diag
    finally:
        store.close()
