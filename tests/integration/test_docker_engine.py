"""The Docker engine on a real daemon: what a payload gets, and how it ends."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from container.contract import KILL_S
from container.errors import StartError
from container.spec import Mount
from tests.fakes.docker_bench import Bench, docker
from tests.fakes.patience import stated

pytestmark = pytest.mark.docker


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench


# What the payload gets


def test_only_the_declared_environment_and_mounts(bench: Bench, tmp_path: Path) -> None:
    shared = tmp_path / "shared folder"
    shared.mkdir()
    container = bench.start(
        f"env; echo hello > '{shared}/file'",
        environment={"PATH": "/bin", "AWKWARD": "a b\n$c"},
        mounts=(Mount(str(shared), str(shared)),),
    )
    end = container.wait(20)
    assert end is not None
    assert end.code == 0, bench.stderr.read_text()
    assert (shared / "file").read_text() == "hello\n"
    names = {line.partition("=")[0] for line in bench.stdout.read_text().splitlines() if "=" in line}
    # HOME and HOSTNAME are Docker's, PWD and SHLVL the shell's.
    assert names - {"HOME", "HOSTNAME", "PWD", "SHLVL", "OLDPWD"} == {"PATH", "AWKWARD"}
    assert "AWKWARD=a b\n$c" in bench.stdout.read_text()
    container.remove()


def test_limits_reach_the_kernel(bench: Bench) -> None:
    container = bench.start("echo up; exec sleep 100", memory_bytes=64_000_000, cpus=0.5, processes=20)
    host = docker(
        "inspect",
        "--format",
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}",
        container.id,
    )
    assert host == "64000000 500000000 20"
    container.stop(0)
    container.remove()


# Output


def test_output_is_complete_raw_and_in_order(bench: Bench) -> None:
    # 300 kB without a line end, half a UTF-8 character, NULs, then 5 MB on one
    # line.
    script = (
        "head -c 300000 /dev/zero | tr '\\0' x; printf '\\303'; printf 'a\\0b' >&2;"
        "head -c 5000000 /dev/zero | tr '\\0' y; echo end"
    )
    container = bench.start(script)
    assert container.wait(20)
    assert bench.stdout.read_bytes() == b"x" * 300_000 + b"\303" + b"y" * 5_000_000 + b"end\n"
    assert bench.stderr.read_bytes() == b"a\0b"
    container.remove()


def test_a_long_output_leaves_nothing_at_the_daemon(bench: Bench) -> None:
    container = bench.start("head -c 50000000 /dev/zero")
    assert container.wait(60)
    assert bench.stdout.stat().st_size == 50_000_000
    assert docker("inspect", "--format", "{{.HostConfig.LogConfig.Type}}{{.LogPath}}", container.id) == "none"
    container.remove()


def test_output_after_sigterm_is_kept(bench: Bench) -> None:
    container = bench.start("trap 'echo last words; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    bench.up()
    assert container.stop(10).code == 0
    assert bench.stdout.read_bytes() == b"up\nlast words\n"
    container.remove()


def test_a_full_disk_costs_output_not_the_payload(bench: Bench) -> None:
    container = bench.start("head -c 1000000 /dev/zero; exit 3", stdout=Path("/dev/full"))
    end = container.wait(20)
    assert end is not None
    assert (end.code, end.lost) == (3, "")
    container.remove()


# Stopping and ends


@pytest.mark.parametrize("init", [True, False])
def test_first_process_ignoring_sigterm_is_killed(bench: Bench, init: bool) -> None:
    container = bench.start("trap '' TERM; echo up; while :; do sleep 0.05; done", init=init)
    bench.up()
    begun = time.monotonic()
    end = container.stop(0.5)
    assert time.monotonic() - begun < stated(0.5 + KILL_S)
    assert (end.code, end.lost) == (137, "")
    container.remove()
    assert not bench.all()


def test_first_process_without_a_handler_hears_with_init(bench: Bench) -> None:
    # Without an init a plain shell as process 1 is deaf: the trap of `docker
    # run`.
    container = bench.start("echo up; sleep 100; echo not here")
    bench.up()
    begun = time.monotonic()
    assert container.stop(20).code == 143
    assert time.monotonic() - begun < stated(5)
    container.remove()


def test_removed_behind_our_back_is_lost(bench: Bench) -> None:
    container = bench.start("echo up; exec sleep 100")
    bench.up()
    docker("rm", "-f", container.id)
    end = container.wait(20)
    assert end is not None
    assert end.code == 137
    assert "removed by somebody else" in end.lost
    assert container.stop(10) == end
    container.remove()


@pytest.mark.parametrize(("how", "code", "signum"), [("kill", 137, "9"), ("stop", 143, "15")])
def test_killed_behind_our_back_is_said(bench: Bench, how: str, code: int, signum: str) -> None:
    container = bench.start("echo up; exec sleep 100")
    bench.up()
    docker(how, container.id)
    end = container.wait(20)
    assert end is not None
    assert end.code == code
    assert f"not by us (signal {signum})" in end.lost
    container.remove()


def test_out_of_memory_is_seen(bench: Bench) -> None:
    # The shell doubles a string until the kernel says no.
    container = bench.start("x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done", memory_bytes=30_000_000)
    end = container.wait(30)
    assert end is not None
    assert end.out_of_memory
    assert end.code == 137
    container.remove()


def test_out_of_memory_of_a_child_is_seen(bench: Bench) -> None:
    script = "sh -c 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done'; exit 5"
    container = bench.start(script, memory_bytes=30_000_000)
    end = container.wait(30)
    assert end is not None
    assert end.out_of_memory
    assert end.code == 5
    container.remove()


def test_cpu_time_is_the_kernel_s(bench: Bench) -> None:
    # `time` asks the kernel about its child, not the cgroup.
    loop = "i=0; while [ $i -lt 1500000 ]; do i=$((i+1)); done"
    container = bench.start(f"time -f '%U %S' sh -c '{loop}'; echo up; exec sleep 100")
    bench.up()
    user, system = bench.stderr.read_text().split()
    stats = container.stats()
    # Starting the container and the shells costs some time, too.
    assert stats.cpu_s == pytest.approx(float(user) + float(system), rel=0.05, abs=0.1)
    end = container.stop(0)
    assert end.cpu_s == pytest.approx(stats.cpu_s, rel=0.05, abs=0.05)
    container.remove()


def test_what_is_used_up_to_the_very_end_counts(bench: Bench) -> None:
    """Nobody asks while it runs: the kernel's limit ends each loop after 1 s."""
    burn = "(ulimit -t 1; while :; do :; done)"
    container = bench.start(f"{burn}; {burn}; {burn}; exit 3")
    end = container.wait(30)
    assert end is not None
    assert end.code == 3
    assert end.cpu_s == pytest.approx(3.0, rel=0.05)
    container.remove()


def test_a_peak_that_nobody_asked_for_is_known_and_holds_no_page_cache(bench: Bench) -> None:
    cache = "dd if=/dev/zero of=/f bs=1M count=200 2>/dev/null; cat /f >/dev/null"
    # Holds the last 50 MB until somebody reads them.
    memory = "head -c 60000000 /dev/zero | tail -c 50000000 | { sleep 1.5; cat >/dev/null; }"
    container = bench.start(f"{cache}; {memory}")
    end = container.wait(60)
    assert end is not None
    assert end.code == 0, bench.stderr.read_text()
    assert 45_000_000 < (end.max_rss_bytes or 0) < 150_000_000
    container.remove()


def test_stats_from_the_daemon_agree_with_the_cgroup(bench: Bench) -> None:
    from container.docker_api import Daemon
    from container.docker_stats import Meter

    container = bench.start("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo up; exec sleep 100")
    bench.up()
    daemon = Daemon(None, 10.0)
    # A pid that is not the container's, as in another pid namespace.
    blind = Meter(daemon, container.id, os.getpid())
    assert blind.fileno() < 0
    asked, read = blind.stats(), container.stats()
    assert asked.source == "docker stats"
    assert asked.cpu_s == pytest.approx(read.cpu_s, rel=0.05, abs=0.05)
    assert asked.rss == pytest.approx(read.rss, rel=0.2, abs=300_000)
    daemon.close()
    container.stop(0)
    container.remove()


# Failures of the start and of the daemon


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "pilot-test/none:1"}, "No such image"),
        ({"mounts": (Mount("/no/such/folder", "/x"),)}, "/no/such/folder"),
        ({"argv": ("/no/such/program",), "init": False}, "/no/such/program"),
        ({"network": "no-such-network"}, "no-such-network"),
    ],
)
def test_a_refused_start_says_why_and_leaves_nothing(
    bench: Bench, change: Mapping[str, object], words: str
) -> None:
    with pytest.raises(StartError, match=words) as error:
        bench.start("true", **change)
    assert "\n" not in str(error.value)
    assert not bench.all()


def test_a_name_in_use_does_not_cost_its_owner(bench: Bench) -> None:
    spec = bench.spec("exec sleep 100")
    container = bench.engine.start(spec)
    with pytest.raises(StartError, match="in use"):
        bench.engine.start(spec)
    assert container.wait(0) is None
    container.stop(0)
    container.remove()
