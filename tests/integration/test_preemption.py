"""SIGTERM to the starter in each phase: what the server hears, and what is
left.
"""

from pathlib import Path

import pytest

from tests.fakes.patience import stated
from tests.fakes.preemption import SCENARIOS, Measured, Scenario
from tests.fakes.site import metadata, new_site

pytestmark = pytest.mark.slow

#: A Spot pod gets 15 s, of which the kubelet needs some.
GONE_S = 12.0


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(one, id=one.name, marks=[pytest.mark.docker] if one.docker else []) for one in SCENARIOS],
)
def test_the_report_goes_first_and_nothing_is_left(scenario: Scenario, tmp_path: Path) -> None:
    # The metadata server says no in half of them: then SIGTERM is just that.
    preempted = not scenario.docker
    with new_site(tmp_path) as site, metadata(b"TRUE" if preempted else b"FALSE") as url:
        site.environment.update(K8S_JOB_ID="worker-1", PILOT_METADATA_URL=url)
        seen = Measured.take(scenario, site)
    assert seen.exit_code == 143, seen.log
    assert seen.left == (), seen.log
    assert seen.gone_s < stated(GONE_S), seen.log
    assert seen.finals == ((scenario.state,) if scenario.state else ()), seen.log
    if scenario.state:
        assert seen.report_s is not None
        assert seen.report_s < stated(scenario.report_s), seen.log
    if scenario.state == "failed":
        assert seen.code == (1379 if preempted else 1201), seen.diag
    for words in scenario.says:
        assert words in seen.log
    last = "worker ends with exit code 143"
    assert last in seen.log
    assert last in seen.shipped
    assert seen.log[: seen.log.index(last)].count("\n") > 10
    if "server" not in scenario.name.split(", ")[-1]:
        assert last in seen.uploaded


def test_a_second_sigterm_shortens(tmp_path: Path) -> None:
    hangs = next(one for one in SCENARIOS if one.name == "running, server hangs")
    with new_site(tmp_path) as site:
        seen = Measured.take(hangs, site, again_s=1.0)
    assert seen.exit_code == 143, seen.log
    assert seen.left == ()
    # One second, the pilot's haste, the starter's end.
    assert seen.gone_s < stated(8.0), seen.log
