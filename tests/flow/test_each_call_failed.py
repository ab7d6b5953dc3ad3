"""Every call of every contract fails in turn, once and for good: no job is
lost by it.

The list is made from the contracts, so that a new method is in it by itself.
"""

import inspect
import logging
import threading
from pathlib import Path

import pytest

from container.contract import Container, Engine
from container.spec import Stats
from pilot_core.info.contract import Information
from pilot_core.logship.contract import Sink
from pilot_core.model.codes import ErrorCode, exit_code
from pilot_core.server.contract import Server
from pilot_core.storage.contract import CopyTool
from tests.fakes.world import Twist, World

CONTRACTS = (Server, Engine, Container, Information, CopyTool, Sink)
CALLS = [
    f"{contract.__name__}.{name}"
    for contract in CONTRACTS
    for name, _ in inspect.getmembers(contract, inspect.isfunction)
    if not name.startswith("_")
]

#: By contract these never fail in a way that a caller could see.
SILENT = {
    "Server.close",
    "Engine.close",
    "Container.stats",
    # An end that is not seen comes as `lost`: see the scenarios.
    "Container.wait",
    "Container.stop",
    "CopyTool.public_url",
    "Sink.close",
}
#: The starter's call.
NOT_OURS = {"Server.upload_worker_log"}

INPUTS = {
    "inFiles": "a.fits", "GUID": "g", "fsize": "5", "checksum": "NULL", "scopeIn": "lsst",
    "ddmEndPointIn": "WORLD_LOGS", "realDatasetsIn": "images", "prodDBlockToken": "NULL",
}  # fmt: skip

#: The payload runs until it is stopped for its walltime, so that `stop` is
#: called too.
LONG = {"payload": {"FAKE_SLEEP": "inf", "FAKE_STDOUT": "hello\n"}, "maxWalltime": 300}
SHORT = {**INPUTS, "payload": {"FAKE_SLEEP": "90", "FAKE_STDOUT": "hello\n"}}
#: What an operator has to ask for.
ASKED = {"Container.processes": "ps", "Container.backtrace": "gdb"}
REALTIME = {"realtime": {"enabled": True, "interval_s": 10.0}}


def live(folder: Path, call: str, deed: str, times: int) -> World:
    """A world in which a call fails, and one pilot's life in it."""
    job = LONG if call == "Container.stop" else SHORT
    if call in ASKED:
        job = {**job, "debug": "True", "debug_command": ASKED[call]}
    world = World(
        folder,
        jobs=[job],
        settings=REALTIME,
        twists=[Twist(call, deed, times=times)],
    )
    world.leave_container()
    world.run()
    return world


def test_the_lists_are_of_real_calls() -> None:
    assert set(CALLS) >= SILENT | NOT_OURS
    assert len(CALLS) > 20


@pytest.mark.parametrize("times", [1, 0], ids=["once", "for good"])
@pytest.mark.parametrize("call", [call for call in CALLS if call not in SILENT | NOT_OURS])
def test_a_call_fails(call: str, times: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    with caplog.at_level(logging.INFO):
        world = live(tmp_path, call, "fail", times)
    assert world.moments[call], "the pilot did not get so far"
    check_nothing_lost(world)
    assert [r.getMessage() for r in caplog.records if r.exc_info] == [], "a trace for the user"
    assert exit_code(world.codes[0]) in range(256)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "call",
    [
        call
        for call in CALLS
        if call not in NOT_OURS and not call.endswith((".close", ".public_url", ".stats"))
    ],
)
def test_a_defect_in_a_call(call: str, tmp_path: Path) -> None:
    """What no contract foresees may cost the pilot its life, but no job its
    report.
    """
    before = set(threading.enumerate())
    world = live(tmp_path, call, "break", 0)
    assert world.moments[call], "the pilot did not get so far"
    check_nothing_lost(world)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("call", sorted(NOT_OURS))
def test_calls_that_the_pilot_does_not_make(call: str, tmp_path: Path) -> None:
    assert not live(tmp_path, call, "fail", 0).moments[call]


def check_nothing_lost(world: World) -> None:
    """One final state, or a report in the ledger, or nobody took the job."""
    row = world.server.store.job(world.ids[0])
    finals = [
        u.status for u in world.server.store.updates(row.panda_id) if u.status in ("finished", "failed")
    ]
    held = world.held()
    if row.status == "activated":
        assert held is None
        assert not finals
        return
    assert len(finals) + (held is not None) == 1, (row.status, finals, held)
    if held is not None:
        assert held.report.panda_id == row.panda_id
        assert held.report.state.final
    if finals == ["failed"]:
        assert row.pilot_error[0] != ErrorCode.NONE
        assert row.pilot_error[1]
    running = [name for name, one in world.engine.containers.items() if one.stats() != Stats()]
    assert not running, "a payload still runs"
