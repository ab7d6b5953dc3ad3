"""Jobs in and out of the database."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.base.scope import Scope
from pilot_core.local.definition import make
from pilot_core.local.store import NoSuchJob, Store

REPORT = '{"log.tgz": {"guid": "g", "fsize": 3, "adler32": "00000001"}}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "db")
    yield made
    made.close()


def ids(jobs: list[object]) -> list[object]:
    return [job["PandaID"] for job in jobs]  # type: ignore[index]


def test_submit_and_acquire_in_order_of_priority(store: Store) -> None:
    low = store.submit(make(currentPriority=100))
    first = store.submit(make())
    second = store.submit(make())
    got = [store.acquire({"site_name": "LOCAL"}) for _ in range(4)]
    assert [ids(list(jobs)) for jobs in got] == [[first], [second], [low], []]
    assert "computingSite" not in got[0][0]
    assert got[0][0]["nSent"] == 1
    assert store.job(first).status == "sent"


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ({}, True),
        ({"site_name": "ELSEWHERE"}, False),
        ({"memory": 1799}, False),
        ({"memory": 1800, "disk_space": 300}, True),
        ({"disk_space": 299}, False),
        ({"timeout": 10}, False),
        ({"task_id": 2}, False),
        ({"task_id": 1}, True),
        ({"remaining_time": 59}, False),
        ({"remaining_time": 60}, True),
        ({"prod_source_label": "user"}, False),
        ({"resource_type": "SCORE"}, True),
        ({"resource_type": "MCORE"}, False),
    ],
)
def test_what_a_pilot_can_take(store: Store, wanted: dict[str, object], given: bool) -> None:
    store.submit(make(maxWalltime=60))
    assert bool(store.acquire({"site_name": "LOCAL", **wanted})) is given


@pytest.mark.parametrize("value", ["ten", "1e999", None, [], {"a": 1}, True])
def test_no_definition_stands_in_the_way_of_others(store: Store, value: object) -> None:
    odd = dict.fromkeys(("maxWalltime", "minRamCount", "maxDiskCount", "nSent"), value)
    ids_given = {store.submit({**make(), **odd}), store.submit(make())}
    wanted = {"site_name": "LOCAL", "n_jobs": 2, "remaining_time": 60, "memory": 4000, "disk_space": 4000}
    assert {job["PandaID"] for job in store.acquire(wanted)} == ids_given


def test_a_number_that_is_taken(store: Store) -> None:
    panda_id = store.submit(make())
    with pytest.raises(ValueError, match=f"PandaID={panda_id} is taken"):
        store.submit(make(PandaID=panda_id))


def test_no_job_is_given_twice(store: Store) -> None:
    submitted = {store.submit(make()) for _ in range(40)}
    taken: list[object] = []

    def pilot() -> None:
        while jobs := store.acquire({"site_name": "LOCAL"}):
            taken.extend(ids(list(jobs)))

    with Scope("pilots") as scope:
        for number in range(8):
            scope.spawn(str(number), pilot)
        assert store.wait_for(lambda: len(taken) == 40, 10)
    assert set(taken) == submitted
    assert len(taken) == 40


def test_updates_are_remembered_refused_ones_too(store: Store) -> None:
    panda_id = store.submit(make())
    store.acquire({"site_name": "LOCAL"})
    store.update({"job_id": panda_id, "job_status": "running", "attempt_nr": 1})
    store.update({"job_id": panda_id, "job_status": "running", "pilot_timing": "x" * 101})
    store.update(
        {"job_id": panda_id, "job_status": "finished", "job_output_report": REPORT}, dialect="legacy"
    )
    assert [(u.status, u.code, u.command, u.dialect) for u in store.updates(panda_id)] == [
        ("running", 0, "NULL", "v1"),
        ("running", 30, "NULL", "v1"),
        ("finished", 0, "NULL", "legacy"),
    ]
    assert store.job(panda_id).status == "finished"


def test_the_adder_takes_its_time(tmp_path: Path) -> None:
    store = Store(tmp_path / "slow", adder_delay_s=0.3)
    panda_id = store.submit(make())
    final = {"job_id": panda_id, "job_status": "finished", "job_output_report": REPORT}
    assert store.update(final).command == "NULL"
    assert store.job(panda_id).status == "holding"
    assert store.update(final).command == "alreadydone"
    assert store.wait_status(panda_id, "finished", 5).archived
    assert store.update(final).command == "tobekilled"
    store.close()


def test_kill_command_debug(store: Store) -> None:
    panda_id = store.submit(make())
    running = {"job_id": panda_id, "job_status": "running"}
    store.acquire({"site_name": "LOCAL"})
    store.set_debug(panda_id, True)
    assert store.set_command(panda_id, "tail payload.stdout")
    assert store.update(running).command == "debug,tail payload.stdout"
    assert store.kill(panda_id)
    assert not store.set_command(panda_id, "ls")
    assert store.update(running).command == "tobekilled"
    assert store.update({**running, "job_status": "failed", "pilot_error_code": 1144}).command == "tobekilled"
    assert store.job(panda_id).status == "cancelled"
    assert not store.kill(panda_id)
    assert not store.kill(1)


def test_watch(store: Store) -> None:
    panda_id = store.submit(make())
    store.acquire({"site_name": "LOCAL"})
    sent = store.job(panda_id).modified_s
    assert store.watch(sent + 1000) == []
    assert store.watch(sent + 1801) == [panda_id]
    assert store.job(panda_id).columns["jobDispatcherErrorCode"] == 102
    assert store.update({"job_id": panda_id, "job_status": "finished"}).command == "tobekilled"


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    before = Store(tmp_path / "db")
    panda_id = before.submit(make(name="n"))
    before.close()
    after = Store(tmp_path / "db")
    assert after.job(panda_id).name == "n"
    assert after.submit(make()) == panda_id + 1
    after.close()


def test_waiting_ends(store: Store) -> None:
    panda_id = store.submit(make())
    with pytest.raises(TimeoutError, match=rf"job {panda_id} is activated, not running or sent"):
        store.wait_status(panda_id, ("running", "sent"), 0.05)
    timer = threading.Timer(0.05, store.kill, [panda_id])
    timer.start()
    assert store.wait_status(panda_id, "cancelled", 5).panda_id == panda_id
    timer.join()
    with pytest.raises(NoSuchJob):
        store.job(12)
