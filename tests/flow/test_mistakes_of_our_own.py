"""A defect in the main thread: no payload stays behind, and the server hears
of the job.

And whatever else of the world is broken, a killed pilot keeps to its time.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from container.spec import Stats
from pilot_core.jobtools import JobTools
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from tests.fakes.world import PilotInWorld, Twist, World


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
