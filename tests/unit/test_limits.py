"""Limits of a job on a queue, and the verdicts on its samples."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.config import MonitorConfig
from pilot_core.limits import Judge, limits_for
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.queue import Queue
from pilot_core.model.sample import Limits, Sample, Verdict

MB = 1024 * 1024
JOB = Job(panda_id=1, attempt=1, transformation="t", parameters="")
QUEUE = Queue(name="Q", resource="Q", maxrss_mb=3200, maxwdir_mb=16336)
CONFIG = MonitorConfig()


def at(running_s: float, **fields: object) -> Sample:
    return Sample(time=1_000_000.0 + running_s, running_s=running_s, **fields)  # type: ignore[arg-type]


def judged(limits: Limits, *samples: Sample) -> list[Verdict | None]:
    judge = Judge(limits)
    return [judge.look(sample) for sample in samples]


def test_the_numbers_of_a_gke_queue() -> None:
    limits = limits_for(JOB, QUEUE, CONFIG, remaining_s=None)
    assert limits.memory_kb == 3200 * 1024
    assert limits.workdir_bytes == int(16336 * MB * 1.2)
    assert limits.free_bytes == 1024 * MB
    assert limits.walltime_s == 0.0
    assert limits.looping_s == 7200.0
    assert limits.origins["memory_kb"] == "maxrss of queue Q"


def test_a_queue_without_numbers_sets_no_limits() -> None:
    limits = limits_for(JOB, Queue(name="Q", resource="Q"), CONFIG, remaining_s=None)
    assert (limits.memory_kb, limits.workdir_bytes, limits.walltime_s) == (0, 0, 0.0)


def test_a_job_may_forbid_the_looping_check() -> None:
    assert limits_for(replace(JOB, looping_check=False), QUEUE, CONFIG, remaining_s=None).looping_s == 0.0


@pytest.mark.parametrize(
    ("cores", "asked_mb", "expected_mb", "origin"),
    [
        (1, 0, 8_000, "0.125 of the maxrss of queue Q"),
        (8, 0, 64_000, "maxrss of queue Q"),
        (16, 0, 64_000, "maxrss of queue Q"),
        (1, 16_000, 16_000, "minRamCount of the job"),
        (1, 99_000, 64_000, "minRamCount of the job"),
        (1, 2_000, 8_000, "0.125 of the maxrss of queue Q"),
    ],
)
def test_a_small_job_gets_its_share_of_a_large_slot(
    cores: int, asked_mb: int, expected_mb: int, origin: str
) -> None:
    queue = Queue(name="Q", resource="Q", maxrss_mb=64_000, corecount=8)
    limits = limits_for(replace(JOB, cores=cores, min_ram_mb=asked_mb), queue, CONFIG, remaining_s=None)
    assert (limits.memory_kb, limits.origins["memory_kb"]) == (expected_mb * 1024, origin)


@pytest.mark.parametrize(
    ("value", "factor"),
    [
        *((50, 1.5), ("50", 1.5), (" 50.0 ", 1.5), (0, 1.0)),
        *((value, 1.2) for value in ("much", -3, None, True, "²", "nan", float("inf"), 10**400, [50])),
    ],
)
def test_graces_of_the_queue_are_per_cent(value: object, factor: float) -> None:
    queue = replace(QUEUE, maxwdir_mb=1000, params={"pilot_maxwdir_grace": value})
    assert limits_for(JOB, queue, CONFIG, remaining_s=None).workdir_bytes == int(1000 * MB * factor)


@pytest.mark.parametrize(
    ("job_s", "queue_s", "remaining_s", "expected", "origin"),
    [
        (90_000, 0, None, 90_000, "maxWalltime of the job"),
        (90_000, 80_000, None, 80_000, "maxtime of queue Q"),
        (90_000, 80_000, 70_000.0, 70_000, "the pilot's remaining lifetime"),
        (0, 0, -5.0, 1, "the pilot's remaining lifetime"),
        (0, 0, None, 0, ""),
    ],
)
def test_the_shortest_time_wins(
    job_s: int, queue_s: int, remaining_s: float | None, expected: float, origin: str
) -> None:
    job, queue = replace(JOB, max_walltime_s=job_s), replace(QUEUE, maxtime_s=queue_s)
    limits = limits_for(job, queue, CONFIG, remaining_s=remaining_s)
    assert (limits.walltime_s, limits.origins["walltime_s"]) == (expected, origin)


def test_memory_is_judged_after_the_grace_only() -> None:
    limits = limits_for(JOB, QUEUE, CONFIG, remaining_s=None)
    high = {"rss_kb": 3412 * 1024, "memory_source": "cgroup"}
    verdicts = judged(limits, at(0, **high), at(30, **high), at(59, **high), at(75, **high))
    assert verdicts[:3] == [None, None, None]
    assert verdicts[3] == Verdict(
        ErrorCode.PAYLOADEXCEEDMAXMEM,
        "payload used 3412 MB of memory for 75 s (cgroup), limit 3200 MB (maxrss of queue Q)",
    )


def test_memory_below_the_limit_starts_the_grace_anew_and_a_gap_does_not() -> None:
    limits = Limits(memory_kb=100, memory_grace_s=60.0)
    high, low = {"rss_kb": 200}, {"rss_kb": 100}
    assert judged(limits, at(0, **high), at(40, **low), at(70, **high), at(129, **high)) == [None] * 4
    assert judged(limits, at(0, **high), at(40), at(70, **high))[2] is not None


def test_shared_pages_count_once() -> None:
    limits = Limits(memory_kb=100)
    assert judged(limits, at(0, rss_kb=500, pss_kb=90)) == [None]
    assert judged(limits, at(0, rss_kb=500, pss_kb=110))[0] is not None


@pytest.mark.parametrize(
    ("limits", "sample", "code", "words"),
    [
        (Limits(free_bytes=10 * MB), at(5, free_bytes=9 * MB), ErrorCode.NOLOCALSPACE, ("9 MB", "10 MB")),
        (Limits(workdir_bytes=MB), at(5, workdir_bytes=3 * MB), ErrorCode.USERDIRTOOLARGE, ("3 MB", "1 MB")),
        (
            Limits(output_bytes=MB),
            at(5, stdout_bytes=2 * MB, stderr_bytes=0),
            ErrorCode.STDOUTTOOBIG,
            ("payload.stdout", "2 MB"),
        ),
        (
            Limits(output_bytes=MB),
            at(5, stdout_bytes=0, stderr_bytes=2 * MB),
            ErrorCode.STDOUTTOOBIG,
            ("payload.stderr", "2 MB"),
        ),
        (
            Limits(processes=9),
            at(5, processes=10),
            ErrorCode.RESOURCEUNAVAILABLE,
            ("10 processes", "limit 9"),
        ),
        (
            Limits(tasks=18),
            at(5, threads=18),
            ErrorCode.RESOURCEUNAVAILABLE,
            ("18 processes and threads", "limit 18"),
        ),
        (
            Limits(tasks=18),
            at(5, threads=12, refused_forks=7),
            ErrorCode.RESOURCEUNAVAILABLE,
            ("12 processes and threads", "limit 18", "7 more were refused"),
        ),
        (Limits(walltime_s=4.0), at(5), ErrorCode.REACHEDMAXTIME, ("5 s", "4 s")),
    ],
)
def test_each_limit_says_number_limit_and_source(
    limits: Limits, sample: Sample, code: ErrorCode, words: tuple[str, ...]
) -> None:
    (verdict,) = judged(limits, sample)
    assert verdict is not None
    assert verdict.code is code
    assert all(word in verdict.diag for word in words)


def looping_samples(cores: float | None, *, mtime: float, until: int = 7_500) -> list[Sample]:
    return [
        at(t, newest_mtime=mtime, cpu_s=None if cores is None else 100.0 + cores * t)
        for t in range(0, until + 1, 30)
    ]


def test_silent_and_idle_is_looping() -> None:
    verdicts = judged(Limits(looping_s=7_200.0), *looping_samples(0.001, mtime=1_000_000.0))
    first = next(i for i, verdict in enumerate(verdicts) if verdict is not None)
    assert first * 30 == 7_230
    verdict = verdicts[first]
    assert verdict is not None
    assert verdict.code is ErrorCode.LOOPINGJOB
    assert "no file for 7230 s" in verdict.diag
    assert "0.001 cores" in verdict.diag


@pytest.mark.parametrize("step_s", [-10_800.0, 10_800.0])
def test_a_clock_that_is_set_makes_no_payload_silent(step_s: float) -> None:
    """The payload writes each minute; the last look at its files is older."""
    looks = []
    for n in range(0, 20_000, 30):
        written = n // 60 * 60 - 30
        newest = max(written + (step_s if written > 9_000 else 0.0), min(written, 9_000))
        sample = at(n, newest_mtime=1_000_000.0 + newest, cpu_s=n * 0.01)
        looks.append(replace(sample, time=sample.time + (step_s if n > 9_000 else 0.0)))
    assert not any(judged(Limits(looping_s=7_200.0), *looks))


def test_silent_and_busy_is_not_looping() -> None:
    assert not any(judged(Limits(looping_s=7_200.0), *looping_samples(0.9, mtime=1_000_000.0)))


def test_work_long_ago_does_not_excuse_silence_now() -> None:
    busy = [at(t, newest_mtime=1_000_000.0, cpu_s=float(t)) for t in range(0, 7_200, 30)]
    idle = [at(t, newest_mtime=1_000_000.0, cpu_s=7_200.0) for t in range(7_200, 15_000, 30)]
    verdicts = judged(Limits(looping_s=7_200.0), *busy, *idle)
    first = next(i for i, verdict in enumerate(verdicts) if verdict is not None) * 30
    assert 13_500 < first < 14_500


def test_silent_with_unknown_cpu_is_looping_and_says_so() -> None:
    verdict = judged(Limits(looping_s=7_200.0), *looping_samples(None, mtime=1_000_000.0))[-1]
    assert verdict is not None
    assert "unknown" in verdict.diag


def test_old_files_of_a_young_payload_are_not_looping() -> None:
    samples = looping_samples(0.0, mtime=0.0, until=7_200)
    assert not any(judged(Limits(looping_s=7_200.0), *samples))


def test_zero_switches_every_limit_off() -> None:
    worst = at(1e9, rss_kb=10**12, workdir_bytes=10**15, free_bytes=0, stdout_bytes=10**15, processes=10**6)
    assert judged(Limits(), replace(worst, newest_mtime=0.0, cpu_s=0.0)) == [None]


def test_what_was_not_measured_never_counts() -> None:
    limits = replace(limits_for(JOB, QUEUE, CONFIG, remaining_s=None), walltime_s=0.0)
    assert judged(limits, *(at(t) for t in range(0, 100_000, 1_000))) == [None] * 100


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e6),
            st.none() | st.integers(0, 2**50),
            st.none() | st.floats(0, 1e9),
            st.none() | st.floats(0, 2e9),
        ),
        max_size=50,
    )
)
def test_any_samples_give_a_verdict_or_none(
    rows: list[tuple[float, int | None, float | None, float | None]],
) -> None:
    judge = Judge(limits_for(JOB, QUEUE, CONFIG, remaining_s=1e5))
    for running_s, kb, cpu_s, mtime in rows:
        verdict = judge.look(at(running_s, rss_kb=kb, cpu_s=cpu_s, newest_mtime=mtime))
        assert verdict is None or 0 < len(verdict.diag) <= 500
