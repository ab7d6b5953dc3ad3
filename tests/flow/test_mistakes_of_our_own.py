"""A defect in the main thread: no payload stays behind, and the server hears
of the job.

And whatever else of the world is broken, a killed pilot keeps to its time.
"""

import errno
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from container.contract import Container
from container.spec import Stats
from pilot_core import __version__
from pilot_core.base.budget import Budget
from pilot_core.errors import ServerUnreachable
from pilot_core.experiments.generic import GenericExperiment
from pilot_core.jobtools import JobTools, Signal
from pilot_core.ledger import FILE_NAME, HeldJob, Ledger
from pilot_core.limits import Judge, limits_for
from pilot_core.logship.contract import Sink
from pilot_core.logship.shipper import LogShipper
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadResult, PayloadSpec
from pilot_core.model.queue import Queue
from pilot_core.model.report import JobReport, JobState, Reply
from pilot_core.model.sample import Limits, Sample, Verdict
from pilot_core.monitor.container import ContainerMonitor
from pilot_core.monitor.prmon_writer import PrmonWriter
from pilot_core.monitor.sampler import Sampler
from pilot_core.signals import ENDING_SIGNALS
from pilot_core.watch import Watch
from tests.fakes.world import PilotInWorld, Twist, World, WorldServer


def test_a_world_leaves_the_signals_of_this_process_alone(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (*ENDING_SIGNALS, signal.SIGUSR2)]
    World(tmp_path).run()
    assert [signal.getsignal(number) for number in (*ENDING_SIGNALS, signal.SIGUSR2)] == before


class BreaksWhileRunning(PilotInWorld):
    """Its main loop breaks once the payload runs."""

    def _tools(self) -> JobTools:
        tools = super()._tools()

        def alive() -> None:
            if any(one.stats() != Stats() for one in self._world.engine.containers.values()):
                raise ZeroDivisionError("a defect in the loop")
            tools.alive()

        return replace(tools, alive=alive)


class BreaksBeforeTheLoop(PilotInWorld):
    """It breaks when the job was taken and nothing was started."""

    def _shipper(self, job: Job, paths: JobPaths) -> None:
        raise ZeroDivisionError("a defect before the loop")


class BreaksBeforeThat(PilotInWorld):
    """It breaks when the job is taken and no run of it has been made."""

    def _tools(self) -> JobTools:
        def owner() -> dict[str, str]:
            raise ZeroDivisionError("a defect before all that")

        return replace(super()._tools(), owner=owner)


@pytest.mark.parametrize("kind", [BreaksWhileRunning, BreaksBeforeTheLoop, BreaksBeforeThat])
def test_a_defect_costs_the_pilot_and_not_the_report(kind: type[PilotInWorld], tmp_path: Path) -> None:
    world = World(tmp_path, jobs=[{"payload": {"FAKE_SLEEP": "inf"}}])
    with kind(world, world._inbox) as pilot:
        assert pilot.agent.run() is ErrorCode.UNKNOWNEXCEPTION
    row = world.server.store.job(world.ids[0])
    assert row.status == "failed"
    assert row.pilot_error[0] == ErrorCode.INTERNALPILOTPROBLEM
    assert "a defect" in row.pilot_error[1]
    assert world.held() is None
    assert all(one.stats() == Stats() for one in world.engine.containers.values())


def test_a_job_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.home / f"PanDA_Pilot-{world.ids[0]}").write_text("in the way")
    assert world.run() is ErrorCode.MKDIR
    assert world.server.store.job(world.ids[0]).pilot_error[0] == ErrorCode.MKDIR


class Failing(Ledger):
    """On a disk that fails."""

    def look(self) -> HeldJob | None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class OnABadDisk(PilotInWorld):
    """What it owes cannot be read."""

    def _tools(self) -> JobTools:
        return replace(super()._tools(), ledger=Failing(self._world.home))


def test_what_is_owed_is_not_known_and_no_job_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    path = world.home / FILE_NAME
    path.write_text("what an earlier pilot owes")
    with OnABadDisk(world, world._inbox) as pilot:
        assert pilot.agent.run() is ErrorCode.GENERALERROR
    assert f"{path} cannot be read: Input/output error" in caplog.text
    assert not world.server.store.updates(world.ids[0])
    assert path.read_text() == "what an earlier pilot owes"


class LooksAndBreaks(PilotInWorld):
    """A defect in what an operator looks at a job with."""

    def _tools(self) -> JobTools:
        return replace(super()._tools(), debug_output=lambda *_: _break())


def _break() -> str:
    raise ZeroDivisionError("a defect in the look")


def test_a_look_costs_no_job(tmp_path: Path) -> None:
    world = World(tmp_path, jobs=[{"debug": "True"}])
    with LooksAndBreaks(world, world._inbox) as pilot:
        assert pilot.agent.run() is ErrorCode.NONE
    assert world.server.store.job(world.ids[0]).status == "finished"
    shown = [update.fields.get("stdout") for update in world.server.store.updates(world.ids[0])]
    assert "a defect in the look" in shown


def test_a_killed_job_does_not_wait_for_its_inputs(tmp_path: Path) -> None:
    one = {"inFiles": "a.fits", "GUID": "g", "fsize": "5", "checksum": "NULL", "scopeIn": "lsst"}
    one |= {"ddmEndPointIn": "WORLD_LOGS", "realDatasetsIn": "images", "prodDBlockToken": "NULL"}
    twists = [Twist("CopyTool.get", "kill"), Twist("CopyTool.get", "wait", value=3000.0)]
    world = World(tmp_path, jobs=[one], settings={"heartbeat": {"period_s": 60.0}}, twists=twists)
    began = world.clock.monotonic()
    world.run()
    took_s = world.clock.monotonic() - began
    world.clock.wait(threading.Event(), 3000.0)  # for the transfer that was given up
    assert took_s < 300.0
    assert world.server.store.job(world.ids[0]).pilot_error[0] == ErrorCode.PANDAKILL
    assert not world.engine.started


class Blind(Judge):
    """A defect in the watch: so many looks raise."""

    def __init__(self, limits: Limits, deaths: int) -> None:
        super().__init__(limits)
        self._deaths = deaths

    def look(self, sample: Sample) -> Verdict | None:
        self._deaths -= 1
        if self._deaths >= 0:
            raise ZeroDivisionError("a defect in the watch")
        return super().look(sample)


class LosesItsWatch(PilotInWorld):
    """Its watch dies, as often as `deaths` says."""

    deaths = 1

    def _watch(
        self, job: Job, queue: Queue, paths: JobPaths, container: Container, started_s: float
    ) -> Watch:
        return Watch(
            Sampler([ContainerMonitor(container.stats)], started=started_s, clock=self.clock),
            Blind(limits_for(job, queue, self.config.monitor, remaining_s=None), self.deaths),
            writer=PrmonWriter(paths.work),
            period_s=10.0,
            clock=self.clock,
        )


class LosesItsWatchForGood(LosesItsWatch):
    """It dies at each look."""

    deaths = 1_000


@pytest.mark.parametrize(
    ("kind", "code", "told"),
    [
        (LosesItsWatch, ErrorCode.PAYLOADEXCEEDMAXMEM, "diedThreads=watch"),
        (LosesItsWatchForGood, ErrorCode.NONE, "diedThreads=watch,watch"),
    ],
)
def test_a_watch_that_dies_begins_again_once_and_costs_no_job(
    kind: type[PilotInWorld], code: ErrorCode, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    payload = {"FAKE_SLEEP": "3000", "FAKE_RSS": "999000000"}
    world = World(tmp_path, jobs=[{"payload": payload}], queue={"maxrss_mb": 100})
    with kind(world, world._inbox) as pilot:
        pilot.agent.run()
    row = world.server.store.job(world.ids[0])
    assert row.pilot_error[0] == code
    assert row.status == ("failed" if code else "finished")
    assert str(row.columns["jobMetrics"]).split()[-1] == told
    assert ("nobody watches the payload any more" in caplog.text) is not bool(code)


class ShipsAndBreaks(LogShipper):
    """A defect in the log shipper."""

    def ship_once(self, *, ending: bool = False) -> bool:
        raise ZeroDivisionError("a defect in the shipper")


class LosesItsShipper(PilotInWorld):
    """Its log shipper dies at its first look."""

    def _shipper(self, job: Job, paths: JobPaths) -> tuple[LogShipper, Sink] | None:
        made = super()._shipper(job, paths)
        if made is not None:
            made[0].__class__ = ShipsAndBreaks
        return made


def test_a_shipper_that_dies_is_told_and_not_waited_for(tmp_path: Path) -> None:
    payload = {"FAKE_SLEEP": "100", "FAKE_STDOUT": "hello\n"}
    world = World(tmp_path, jobs=[{"payload": payload}], settings={"realtime": {"enabled": True}})
    began = world.clock.monotonic()
    with LosesItsShipper(world, world._inbox) as pilot:
        assert pilot.agent.run() is ErrorCode.NONE
    assert world.clock.monotonic() - began < 115.0
    row = world.server.store.job(world.ids[0])
    assert row.status == "finished"
    assert str(row.columns["jobMetrics"]).split()[-1] == "diedThreads=logship"


class QuitsBefore(GenericExperiment):
    """Ends the thread that prepares the payload."""

    def payload(self, *_: object) -> PayloadSpec:
        raise SystemExit("a defect before the payload")


class QuitsAfter(GenericExperiment):
    """Ends the thread that waits for the payload."""

    def judge(self, *_: object, **__: object) -> PayloadResult:
        raise SystemExit("a defect after the payload")


@pytest.mark.parametrize("kind", [QuitsBefore, QuitsAfter])
def test_a_job_whose_payload_s_thread_dies_is_not_waited_for(
    kind: type[GenericExperiment], tmp_path: Path
) -> None:
    class Quits(PilotInWorld):
        def _tools(self) -> JobTools:
            return replace(super()._tools(), experiment=kind(pass_environment=()))

    world = World(tmp_path)
    with Quits(world, world._inbox) as pilot:
        pilot.agent.run()
    row = world.server.store.job(world.ids[0])
    assert row.pilot_error[0] == ErrorCode.INTERNALPILOTPROBLEM
    assert "thread job-" in row.pilot_error[1]
    assert "a defect" in row.pilot_error[1]
    assert all(one.stats() == Stats() for one in world.engine.containers.values())


class BreaksWhileStarting(PilotInWorld):
    """Its main loop breaks while the engine starts the payload."""

    def _tools(self) -> JobTools:
        tools = super()._tools()

        def alive() -> None:
            if self._world.moments["Engine.start"] and not self._world.engine.started:
                raise ZeroDivisionError("a defect in the loop")
            tools.alive()

        return replace(tools, alive=alive)


def test_a_payload_that_is_just_being_started_is_stopped_then(tmp_path: Path) -> None:
    slow = Twist("Engine.start", "wait", value=300.0)
    world = World(tmp_path, jobs=[{"payload": {"FAKE_SLEEP": "inf"}}], twists=[slow])
    with BreaksWhileStarting(world, world._inbox) as pilot:
        assert pilot.agent.run() is ErrorCode.UNKNOWNEXCEPTION
    world.clock.wait(threading.Event(), 600.0)
    (started,) = world.engine.started
    assert started.stats() == Stats(), "nobody ends it any more"


class HangsAtLast(WorldServer):
    """The first final report gets no answer, and the pilot is killed then."""

    left_s = 0.0
    hung = False

    def update_job(self, report: JobReport, *, budget: Budget, stop: threading.Event) -> Reply:
        if report.state is JobState.FINISHED and not self.hung:
            self.hung = True
            self._world._inbox.put(Signal(15))
            while not budget.spent:
                self._world.clock.wait(threading.Event(), 0.5)
            raise ServerUnreachable("no answer")
        self.left_s = budget.left
        return super().update_job(report, budget=budget, stop=stop)


def test_a_report_that_hangs_leaves_time_for_another(tmp_path: Path) -> None:
    world = World(tmp_path)
    server = HangsAtLast(world)
    server.store, world.server = world.server.store, server
    world.run()
    assert world.server.store.job(world.ids[0]).status == "finished"
    assert server.hung
    assert server.left_s > world.config.wrapup.preempt_s / 2
    assert world.held() is None


def test_a_job_given_back_while_asking_names_the_pilot_and_its_log(tmp_path: Path) -> None:
    twists = [Twist("Server.acquire_job", "signal", value=15), Twist("Server.acquire_job", "wait", value=1)]
    world = World(
        tmp_path, twists=twists, settings={"worker": {"log_url": "https://logs/wid", "version_tag": "PR"}}
    )
    world.run()
    row = world.server.store.job(world.ids[0])
    assert row.pilot_error[0] == ErrorCode.SIGTERM
    assert row.columns["pilotID"] == f"https://logs/wid|PR|{__version__}"
    assert row.log_url == "https://logs/wid"


def test_a_log_service_that_hangs_does_not_keep_a_killed_pilot(tmp_path: Path) -> None:
    twists = [
        Twist("Sink.write", "wait", value=3_000.0, times=0),
        Twist("Container.wait", "signal", value=15),
    ]
    payload = {"FAKE_SLEEP": "100", "FAKE_STDOUT": '{"message": "hello"}\n'}
    settings = {"realtime": {"enabled": True, "interval_s": 0.1}}
    world = World(tmp_path, jobs=[{"payload": payload}], settings=settings, twists=twists)
    began = world.clock.monotonic()
    world.run()
    took_s = world.clock.monotonic() - began
    world.clock.wait(threading.Event(), 6_000.0)  # for the request that was given up
    assert world.server.store.job(world.ids[0]).pilot_error[0] == ErrorCode.SIGTERM
    assert took_s < world.config.wrapup.preempt_s / 2


@pytest.mark.parametrize(("number", "longest_s"), [(15, 12.0), (0, 30.0)])
def test_a_daemon_that_is_away_is_waited_for_but_not_by_a_killed_pilot(
    number: int, longest_s: float, tmp_path: Path
) -> None:
    end = Twist("Container.wait", "signal" if number else "wait", value=number)
    world = World(tmp_path, twists=[end, Twist("Engine.leftovers", "fail", after=1, times=0)])
    began = world.clock.monotonic()
    world.run()
    assert world.clock.monotonic() - began < longest_s
    assert world.held() is None
