"""SIGTERM to the starter in each phase of a pilot's life, on real processes
and Docker.

Prints a table: seconds to the final report at the server, seconds until the
worker and everything of it are gone, and what the log says was left out.

    python benchmarks/preemption.py [--repeat 3] [WORDS]

With WORDS only the phases whose name holds them. Docker is needed for some.
"""

import argparse
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fakes.preemption import SCENARIOS, Measured, Scenario
from tests.fakes.site import metadata, new_site

#: Left out, as the log says it: what to look for, words for the table.
LEFT_OUT = (
    (r"is kept for .*PanDA_Pilot-", "logs of the job (folder kept)"),
    (r"pilotlog.txt could not be stored at last", "last lines of the job's log"),
    ("the final report of job", "final report (kept for the next pilot)"),
    ("upload: http", "upload of the worker log"),
    ("worker status finished not delivered", "worker status"),
    ("did not end within its time", "the pilot's own end (killed; last will)"),
)


def measure(scenario: Scenario) -> Measured:
    """One worker in that phase, on a node that is being preempted."""
    with (
        tempfile.TemporaryDirectory(prefix="preemption-") as folder,
        new_site(Path(folder)) as site,
        metadata(b"TRUE") as url,
    ):
        site.environment.update(K8S_JOB_ID="worker-1", PILOT_METADATA_URL=url)
        return Measured.take(scenario, site)


def left_out(seen: Sequence[Measured]) -> str:
    """What the log names as not done."""
    lines = [line for one in seen for line in one.log.splitlines() if "| INFO" not in line]
    found = [said for words, said in LEFT_OUT if any(re.search(words, line) for line in lines)]
    return ", ".join(found) or "nothing"


def spread(values: Sequence[float]) -> str:
    """Median, and the largest behind it."""
    return f"{statistics.median(values):.1f} ({max(values):.1f})" if values else "-"


def row(scenario: Scenario, seen: Sequence[Measured]) -> str:
    """A line of the table."""
    reports = [one.report_s for one in seen if one.report_s is not None]
    codes = sorted({str(one.code) for one in seen if one.finals and one.code})
    ends = sorted({str(one.exit_code) for one in seen})
    left = sum(len(one.left) for one in seen)
    cells = (
        scenario.name,
        spread(reports),
        " ".join(codes) or "-",
        spread([one.gone_s for one in seen]),
        " ".join(ends),
        left_out(seen) if not left else f"{left} PROCESSES OR CONTAINERS WERE LEFT",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("words", nargs="?", default="")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print("| phase | final report, s | code | all gone, s | exit code | left out |")
    print("| --- | --- | --- | --- | --- | --- |")
    for scenario in SCENARIOS:
        if options.words in scenario.name:
            print(row(scenario, [measure(scenario) for _ in range(options.repeat)]), flush=True)


if __name__ == "__main__":
    main()
