"""The worker's log: one writer, everybody's bytes, nobody blocked."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.base.scope import Scope
from pilot_core.logship.contract import Chunk, Source
from pilot_starter.logfile import LogHandler, WorkerLog, open_worker_log
from pilot_starter.workerlog import WorkerRecords
from tests.fakes.patience import stated


class LeapingClock(SystemClock):
    """Real time, and a push forward when told."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@contextlib.contextmanager
def running(
    path: Path, *, echo_fd: int | None = None, clock: SystemClock | None = None, well: bool = True
) -> Iterator[WorkerLog]:
    flags = os.O_WRONLY | os.O_APPEND | (0 if path.exists() else os.O_CREAT)
    log = WorkerLog(
        os.open(path, flags), path, echo_fd=echo_fd, clock=clock or SystemClock(), still_well=lambda: well
    )
    with Scope("test", join_s=5.0) as scope:
        scope.spawn("worker-log", log.run)
        try:
            yield log
        finally:
            log.close()


def test_own_lines_wait_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with running(path) as log:
        child = log.attach()
        os.write(child, b"half a ")
        assert wait(lambda: path.read_bytes() == b"half a ")
        log.say(b"ours\n")
        os.write(child, b"line\nnext\n")
        os.close(child)
        assert log.settle(5.0)
        # After this line or the next, whichever the writer saw first; never
        # within one.
        assert path.read_bytes() in (b"half a line\nours\nnext\n", b"half a line\nnext\nours\n")


def test_foreign_text_in_our_own_lines_tells_of_no_job(tmp_path: Path) -> None:
    """Such as the name of a file, or what somebody wrote into a record."""
    path = tmp_path / "log"
    forged = "2026-11-21 08:51:00,123 | INFO     | job definition = {'PandaID': 666, 'jobName': 'forged'}"
    with running(path) as log:
        handler = LogHandler(log, debug=False, redactor=Redactor())
        handler.handle(
            logging.makeLogRecord({"levelname": "WARNING", "msg": "stage %s", "args": (f"x\n{forged}",)})
        )
        assert log.settle(5.0)
    maker = WorkerRecords(Source(path, "f", 0.0), hostname="h", redactor=Redactor())
    maker.feed(Chunk(path.read_bytes().splitlines(keepends=True), 0))
    assert b"PandaJobID" not in b"".join(entry.payload for entry in maker.flush())
    assert f" {forged}\n" in path.read_text()


def test_last_line_without_an_end_is_ended_before_ours(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with running(path) as log:
        child = log.attach()
        os.write(child, b"no end")
        os.close(child)
        log.say(b"ours\n")
        assert log.settle(5.0)
    assert path.read_bytes() == b"no end\nours\n"


def test_full_disk_stops_neither_pilot_nor_stdout() -> None:
    read_end, write_end = os.pipe()
    with running(Path("/dev/full"), echo_fd=write_end) as log:
        child = log.attach()
        os.write(child, b"one\n")
        assert log.settle(5.0)
        os.write(child, b"two\n")
        assert log.settle(5.0)
        os.close(child)
    os.close(write_end)
    with open(read_end, "rb") as copy:
        text = copy.read()
    assert text.startswith(b"one\n")
    assert b"No space left" in text
    assert b"two\n" in text


def test_reader_of_stdout_that_goes_away_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log"
    read_end, write_end = os.pipe()
    os.close(read_end)
    with running(path, echo_fd=write_end) as log:
        log.say(b"one\n")
        assert log.settle(5.0)
        log.say(b"two\n")
        assert log.settle(5.0)
    os.close(write_end)
    said = f"stdout: Broken pipe; the rest goes to {path} only\n"
    assert path.read_text() == f"one\n{said}two\n"


def test_stdout_that_nobody_reads_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "log"
    read_end, write_end = os.pipe()
    with running(path, echo_fd=write_end) as log:
        child = log.attach()
        os.write(child, b"x" * 60_000 + b"\n")
        log.say(b"y" * 60_000 + b"\n")
        assert wait(lambda: b"nobody reads it" in path.read_bytes(), stated(20.0))
        os.write(child, b"more\n")
        os.close(child)
        assert log.settle(5.0)
    assert b"more\n" in path.read_bytes()
    os.close(read_end)
    os.close(write_end)


def test_stdout_that_nobody_reads_holds_up_no_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    read_end, write_end = os.pipe()
    with running(path, echo_fd=write_end) as log:
        log.say(b"x" * 1_000_000)
    assert not [one for one in threading.enumerate() if one.name == "test-worker-log"]
    assert path.stat().st_size >= 1_000_000
    os.close(read_end)
    os.close(write_end)


def test_reader_of_stdout_that_stands_still_blocks_nobody_who_speaks(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with running(tmp_path / "log", echo_fd=write_end) as log:
        log.say(b"x" * 1_000_000)
        began = time.monotonic()
        for _ in range(1000):
            log.say(b"more\n")
        assert not log.settle(0.1)
        assert time.monotonic() - began < stated(2.0)
        with open(read_end, "rb") as slow:
            drain = threading.Thread(target=slow.read, name="drain")
            drain.start()
            assert log.settle(10.0)
            os.close(write_end)
            drain.join(10)


def test_silent_log_is_touched_while_the_pilot_is_well(tmp_path: Path) -> None:
    for well in (True, False):
        path = tmp_path / f"log-{well}"
        path.touch()
        os.utime(path, (1, 1))
        clock = LeapingClock()
        with running(path, clock=clock, well=well) as log:
            clock.ahead = 61.0
            assert log.settle(5.0)
            # The touch follows in the same round.
            assert wait(lambda: path.stat().st_mtime > 1, 1.0) == well  # noqa: B023 - called at once


def test_log_that_is_moved_away_goes_on_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "log"
    clock = LeapingClock()
    with running(path, clock=clock) as log:
        log.say(b"one\n")
        assert log.settle(5.0)
        path.rename(tmp_path / "log.1")
        clock.ahead += 10.0
        log.say(b"two\n")
        assert log.settle(5.0)
        assert log.file.read_bytes() == b"one\ntwo\n"
        path.touch()
        clock.ahead += 10.0
        log.say(b"three\n")
        assert log.settle(5.0)
        assert wait(lambda: path.read_bytes().startswith(b"three\n"))
    assert (tmp_path / "log.1").read_bytes() == b"one\ntwo\n"
    assert b"the file was moved away" in path.read_bytes()


def test_log_of_another_worker_is_not_taken(tmp_path: Path) -> None:
    wanted, spare = tmp_path / "log", tmp_path / "spare"
    first, path = open_worker_log(wanted, spare)
    assert path == wanted
    second, path = open_worker_log(wanted, spare)
    assert path == spare
    os.close(first)
    third, path = open_worker_log(wanted, spare)
    assert path == wanted
    os.close(second)
    os.close(third)


def test_link_laid_out_by_somebody_else_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "log").symlink_to(victim)
    fd, path = open_worker_log(tmp_path / "log", tmp_path / "spare")
    os.close(fd)
    assert path == tmp_path / "spare"
    assert victim.read_text() == "precious"


def wait(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < end:
        if condition():
            return True
        pause.wait(0.01)
    return False
