"""A defect in the main thread: no payload stays behind, and the server hears
of the job.

And whatever else of the world is broken, a killed pilot keeps to its time.
"""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from container.spec import Stats
from pilot_core.base.budget import Budget
from pilot_core.errors import ServerUnreachable
from pilot_core.jobtools import JobTools, Signal
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.report import JobReport, JobState, Reply
from tests.fakes.world import PilotInWorld, Twist, World, WorldServer


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
