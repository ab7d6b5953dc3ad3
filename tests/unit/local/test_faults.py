"""Faults strike the calls they are meant for, as often as they should."""

from pilot_core.local.faults import Fault, FaultKind, Faults


def hits(faults: Faults, calls: int, name: str = "update_job", **args: object) -> list[bool]:
    return [faults.strike(name, args, now=float(n)) is not None for n in range(calls)]


def test_once_by_default() -> None:
    faults = Faults()
    faults.add(Fault("update_job"))
    assert hits(faults, 1, "acquire_jobs") == [False]
    assert hits(faults, 3) == [True, False, False]
    assert [(struck.time_s, struck.call) for struck in faults.done] == [(0.0, "update_job")]


def test_every_after_and_until_cleared() -> None:
    faults = Faults()
    faults.add(Fault("*", FaultKind.RESET, count=None, every=2, after=1))
    assert hits(faults, 6) == [False, False, True, False, True, False]
    faults.clear()
    assert hits(faults, 3) == [False, False, False]


def test_clear_one_call() -> None:
    faults = Faults()
    faults.add(Fault("update_job", count=None))
    faults.add(Fault("acquire_jobs", count=None))
    faults.clear("update_job")
    assert hits(faults, 1) == [False]
    assert hits(faults, 1, "acquire_jobs") == [True]


def test_where() -> None:
    faults = Faults()
    faults.add(Fault("update_job", where={"job_status": "finished"}))
    assert hits(faults, 1, job_status="running") == [False]
    assert hits(faults, 1, job_status="finished") == [True]


def test_the_first_added_strikes_first() -> None:
    faults = Faults()
    faults.add(Fault("update_job", status=500))
    faults.add(Fault("update_job", status=503))
    found = [faults.strike("update_job", {}, now=0.0) for _ in range(3)]
    assert [fault.status if fault else None for fault in found] == [500, 503, None]
