"""What the worker's end may take of its log's shipping."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.redact import Redactor
from pilot_core.logship.contract import Entry, Outcome
from pilot_starter.realtime import RealTimeLogger
from tests.fakes.sink import YES, MemorySink
from tests.fakes.virtual_clock import VirtualClock


@pytest.mark.parametrize(("hangs_s", "longest_s"), [(3_600.0, 3.5), (0.0, 0.5)])
def test_a_log_service_that_hangs_takes_no_more_than_its_time(
    hangs_s: float, longest_s: float, tmp_path: Path
) -> None:
    clock, over = VirtualClock(), threading.Event()
    path = tmp_path / "wrapper-wid.log"
    path.write_text("2026-11-21 08:51:00,123 | ERROR    | one line\n")

    def hang(_: Sequence[Entry]) -> Outcome:
        clock.wait(over, hangs_s)
        return YES

    sink = MemorySink(hang)
    logger = RealTimeLogger(
        path,
        state_dir=tmp_path,
        open_sink=lambda: sink,
        interval_s=1.0,
        hostname="node",
        redactor=Redactor(),
        clock=clock,
    )
    with logger:
        clock.wait(threading.Event(), 5.0)
        began = clock.monotonic()
        logger.finish(Budget(clock, 3.0, "test"))
    assert clock.monotonic() - began <= longest_s
    assert bool(sink.stored) == (not hangs_s)
    over.set()
