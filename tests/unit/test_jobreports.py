"""What a report is made of."""

from pathlib import Path

import pytest

from pilot_core.model.report import pilot_id, with_log_url
from tests.fakes.world import Twist, World

PLAIN = "https://storage.googleapis.com/bucket/logs/Q/PandaJob_1/pilotlog.txt"
SIGNED = f"{PLAIN}?X-Goog-Expires=604800&X-Goog-Signature={'0' * 512}"


def test_the_log_url_comes_first_and_empty_parts_are_left_out() -> None:
    assert pilot_id(PLAIN, "Kubernetes", "", "1.2.3") == f"{PLAIN}|Kubernetes|1.2.3"


def test_a_signature_that_has_no_room_is_left_out() -> None:
    assert pilot_id(f"{PLAIN}?a=b", "Kubernetes", "PR", "1") == f"{PLAIN}?a=b|Kubernetes|PR|1"
    assert pilot_id(SIGNED, "Kubernetes", "PR", "1") == f"{PLAIN}|Kubernetes|PR|1"
    long = f"https://{'x' * 300}/pilotlog.txt"
    assert pilot_id(long, "PR") == f"{long}|PR"


@pytest.mark.parametrize(
    ("before", "about"),
    [
        ("http://w/log|Kubernetes|PR|4.0", "|Kubernetes|PR|4.0"),
        ("unknown|Kubernetes|PR|4.0", "|Kubernetes|PR|4.0"),
        ("Kubernetes|PR|4.0", "|Kubernetes|PR|4.0"),
        (f"{SIGNED}|PR|4.0", "|PR|4.0"),
        ("http://w/log", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize(("url", "told"), [("gs://x", "gs://x"), (PLAIN, PLAIN), (SIGNED, PLAIN)])
def test_another_logs_address_takes_the_first_place(before: str, about: str, url: str, told: str) -> None:
    assert with_log_url(before, url) == f"{told}{about}"


def test_the_fifth_time_is_what_came_before_the_first_request(tmp_path: Path) -> None:
    """Slow queue data, once; the second job's pilot had no such setup."""
    slow = Twist("Information.queue", "wait", 40.0)
    world = World(tmp_path, jobs=[{}, {}], queue={"timefloor_s": 100_000}, twists=[slow])
    world.run()
    rows = [world.server.store.job(panda_id) for panda_id in world.ids]
    first, second = (str(row.columns["pilotTiming"]).split("|") for row in rows)
    assert 40 <= int(first[4]) < 80
    assert int(second[4]) < 40


@pytest.mark.parametrize(("cpu_s", "cores", "mean"), [("8000", 2, 2), ("1e9", 3, None)])
def test_more_cores_than_there_are_were_not_measured(
    tmp_path: Path, cpu_s: str, cores: int, mean: int | None
) -> None:
    payload = {"FAKE_CPU_S": cpu_s, "FAKE_SLEEP": "4000"}
    world = World(tmp_path, jobs=[{"coreCount": 3, "payload": payload}])
    world.run()
    last = world.server.store.updates(world.ids[0])[-1].fields
    assert (last["core_count"], last.get("mean_core_count")) == (cores, mean)
