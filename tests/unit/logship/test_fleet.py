"""Very many shippers and one quota: real ones, and those of the benchmark."""

import random

import pytest

from benchmarks.fleet_logging import MIX, Fleet, Pilot, Service
from tests.fakes.fleet import live, share

PILOTS, MINUTES = 40, 12
QUIET, NOISY = MIX[0][1], MIX[-1][1]
#: 120,000 requests a minute of 200,000 pilots.
REQUESTS = PILOTS * 120_000 // 200_000
#: Of these 40: 30 quiet ones, 8 usual, 2 noisy. By chance it could be none.
RATES = [rate for share_of, rate in MIX for _ in range(round(share_of * PILOTS))]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Each of them says that it is refused."""
    caplog.set_level("CRITICAL", logger="pilot_core.logship")


@pytest.mark.parametrize("megabytes", [4_800, 300])
def test_the_benchmark_does_what_shippers_do(megabytes: int) -> None:
    volume = megabytes * 1_000_000 * PILOTS // 200_000
    random.seed(5)
    fleet = Fleet(PILOTS, MINUTES, Service(REQUESTS, volume))
    for pilot, rate in zip(fleet.pilots, RATES, strict=True):
        pilot.rate = rate
    twins = [Pilot(pilot.rate, pilot.start, pilot.end) for pilot in fleet.pilots]
    fleet.run()
    counts = live(twins, Service(REQUESTS, volume))
    for _, rate in MIX:
        assert share(twins, rate) == pytest.approx(share(fleet.pilots, rate), abs=0.15)
    for pilot, told in zip(twins, counts, strict=True):
        assert told.sent == pilot.sent
        assert bool(told.left_bytes) == (pilot.sent < pilot.written(pilot.end))
    assert share(twins, QUIET) > (0.95 if megabytes == 4_800 else 4 * share(twins, NOISY))
