"""The pilot's shipper, with every guarantee that it has in a pilot."""

import threading
from collections.abc import Callable
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.logship.record import JobContext, PayloadRecords
from pilot_core.logship.shipper import LogShipper, ShipSettings
from pilot_core.logship.sinks.google import GoogleSink
from pilot_core.logship.target import Target

INTERVAL_S = 0.1


def ours(path: Path, url: str, ended: threading.Event, _: Path | None) -> Callable[[], None]:
    clock = SystemClock()
    sink = GoogleSink(Target("google", url), "Panda-RubinLog")
    context = JobContext("77", "4242", "9", "harvester", 5)
    redactor = Redactor(["a-secret-of-the-job"])
    shipper = LogShipper(
        [path],
        lambda source: PayloadRecords(
            context, source, entry_bytes=sink.limits.entry_bytes, redactor=redactor, now=clock.time
        ),
        sink,
        checkpoint=path.with_name("positions.json"),
        clock=clock,
        settings=ShipSettings(interval_s=INTERVAL_S),
    )

    def run() -> None:
        thread = threading.Thread(target=shipper.run, args=(threading.Event(),))
        thread.start()
        ended.wait()
        shipper.finish(Budget(clock, 600.0, "drain"))
        thread.join()
        sink.close()

    return run
