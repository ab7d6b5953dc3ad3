"""Sums over parts that do not all know everything."""

from container.payload_containers import total
from container.spec import Stats


def test_sum() -> None:
    script = Stats(cpu_s=1.0, rss=10, pss=5, processes=2, threads=2, source="proc")
    inner = Stats(cpu_s=2.0, rss=100, threads=7, source="cgroup v1")
    assert total(script, inner, inner) == Stats(
        cpu_s=5.0, rss=210, pss=5, processes=2, threads=16, source="proc + cgroup v1"
    )


def test_what_nobody_knows_stays_unknown() -> None:
    assert total(Stats()) == Stats()
    assert total(Stats(rss=0)).rss == 0
