"""Debug commands stay in the job's folders and never reach a shell."""

import os
from pathlib import Path
from typing import cast

import pytest

from container.contract import Container
from container.errors import EngineError
from pilot_core.debugging import LIMIT, MOST_ENTRIES, DebugMode, debug_output
from pilot_core.errors import PayloadError
from pilot_core.model.payload import JobPaths


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    work = tmp_path / "home" / "PanDA_Pilot-1"
    shared = tmp_path / "shared" / "1"
    work.mkdir(parents=True)
    shared.mkdir(parents=True)
    (work / "payload.stdout").write_text("a" * 5000 + "END")
    (work / "pilotlog.txt").write_text("the pilot's own")
    (shared / "payload-log.json").write_text('{"message": "shared"}')
    (tmp_path / "secret.txt").write_text("hunter2")
    return JobPaths(home=tmp_path / "home", work=work, shared=shared)


def test_debug_shows_the_end_of_the_youngest_log(paths: JobPaths) -> None:
    os.utime(paths.shared / "payload-log.json", (1, 1))
    text = debug_output("debug", paths)
    assert text.endswith("END")
    assert len(text) <= LIMIT


def test_tail_follows_a_link_into_the_shared_folder_only(paths: JobPaths) -> None:
    (paths.work / "payload-log.json").symlink_to(paths.shared / "payload-log.json")
    assert "shared" in debug_output("tail payload-log.json", paths)
    (paths.work / "evil.txt").symlink_to(paths.home.parent / "secret.txt")
    with pytest.raises(PayloadError, match=r"evil\.txt"):
        debug_output("tail evil.txt", paths)


@pytest.mark.parametrize("command", ["debug", "tail *", "ls *", "du *"])
def test_a_link_in_a_loop_is_no_obstacle(paths: JobPaths, command: str) -> None:
    (paths.work / "loop.log").symlink_to("loop.log")
    os.utime(paths.shared / "payload-log.json", (1, 1))
    os.utime(paths.work / "pilotlog.txt", (1, 1))
    assert "payload.stdout" in debug_output(command, paths)


def test_what_an_image_payload_wrote_is_found_in_its_own_folder(paths: JobPaths) -> None:
    assert "shared" in debug_output("tail payload-log.json", paths)
    assert "payload-log.json" in debug_output("ls", paths)
    assert "payload.stdout" in debug_output("ls", paths)
    assert "payload-log.json" in debug_output("du *.json", paths)
    gone = JobPaths(home=paths.home, work=paths.work, shared=paths.shared / "gone")
    assert "payload.stdout" in debug_output("ls", gone)


@pytest.mark.parametrize(
    "command",
    [
        "tail ../../secret.txt",
        "tail /etc/passwd",
        "ls ..",
        "du /",
        "cat payload.stdout",
        "tail 'unclosed",
        "rm -rf .",
        "gdb 1",
    ],
)
def test_what_leaves_the_job_is_refused(paths: JobPaths, command: str) -> None:
    with pytest.raises(PayloadError):
        debug_output(command, paths)


def test_nothing_is_run_by_a_shell(paths: JobPaths) -> None:
    debug_output("ls", paths)
    with pytest.raises(PayloadError):
        debug_output("tail $(touch${IFS}made)", paths)
    debug_output("ls ; touch made", paths)
    assert not (paths.work / "made").exists()


def test_ls_and_du_tell_sizes(paths: JobPaths) -> None:
    assert "5003 payload.stdout" in debug_output("ls", paths)
    assert "5003 payload.stdout" in debug_output("du payload.stdout", paths)


def test_a_look_has_an_end_however_much_there_is(paths: JobPaths) -> None:
    for number in range(MOST_ENTRIES // 100):
        folder = paths.work / f"{number}"
        folder.mkdir()
        for name in range(100):
            (folder / f"{name}").touch()
    # A pattern that finds nothing has looked at everything.
    assert "there is more" in debug_output("ls **/nothing", paths)
    assert "+ PanDA_Pilot-1\n" in debug_output("du", paths)
    assert "there is more" in debug_output("du", paths)
    with pytest.raises(PayloadError, match="there is more"):
        debug_output("tail **/nothing", paths)
    assert "there is more" not in debug_output("ls 7", paths)
    assert "there is more" in debug_output("ls 7", paths, longest_s=0.0)
    assert "shared" in debug_output("debug", paths)


@pytest.mark.parametrize("command", ["ls **/**", "tail **/x/**/y", "du **/**/**"])
def test_a_pattern_that_multiplies_the_work_is_refused(paths: JobPaths, command: str) -> None:
    with pytest.raises(PayloadError, match=r"more than one \*\*"):
        debug_output(command, paths)


def test_patterns_find_what_they_name(paths: JobPaths) -> None:
    deep = paths.work / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "one.log").write_text("deep")
    (paths.work / "into").symlink_to(deep)
    for pattern in ("a/b/one.log", "**/one.log", "*/*/one.???", "a/**/*.log", "into/o*", "./a//b/[o]ne.log"):
        assert debug_output(f"tail {pattern}", paths) == "[one.log]\ndeep", pattern
    (deep / "one.log").unlink()
    assert debug_output("ls **/one.log", paths) == ""


class Payload:
    """A running payload that can be looked at."""

    def __init__(self, gdb: bool) -> None:
        self.gdb = gdb

    def processes(self) -> str:
        return "PID COMMAND\n 17 sleep"

    def backtrace(self, pid: int | None) -> str:
        if not self.gdb:
            raise EngineError("gdb is not installed here")
        return f"#0 of {pid}"


def shown(command: str, paths: JobPaths, payload: Payload | None) -> str:
    return debug_output(command, paths, cast(Container | None, payload))


def test_ps_and_gdb_look_at_the_payload_wherever_it_runs(paths: JobPaths) -> None:
    assert shown("ps -ef", paths, Payload(gdb=True)) == "PID COMMAND\n 17 sleep"
    assert shown("gdb", paths, Payload(gdb=True)) == "#0 of None"
    assert shown("gdb --pid 17", paths, Payload(gdb=True)) == "#0 of 17"
    with pytest.raises(PayloadError, match="gdb: gdb is not installed here"):
        shown("gdb 17", paths, Payload(gdb=False))


@pytest.mark.parametrize("command", ["ps", "gdb"])
def test_before_the_payload_there_is_nothing_to_look_at(paths: JobPaths, command: str) -> None:
    with pytest.raises(PayloadError, match="the payload does not run"):
        shown(command, paths, None)


def test_a_stack_is_taken_once_and_shown_until_something_else_is_asked_for() -> None:
    taken: list[str] = []

    def look(command: str) -> str:
        taken.append(command)
        if len(taken) == 1:
            raise PayloadError("the payload does not run")
        return f"{command} {len(taken)}"

    mode = DebugMode("", look)
    assert mode.text() == ""
    assert mode.ask("gdb 7")
    assert [mode.text() for _ in range(3)] == ["the payload does not run", "gdb 7 2", "gdb 7 2"]
    assert not mode.ask("gdb 7")
    assert mode.ask("ps")
    assert [mode.text() for _ in range(2)] == ["ps 3", "ps 4"]
    assert mode.ask("gdb 7")
    assert mode.text() == "gdb 7 5"


def test_what_is_seen_is_text() -> None:
    def look(command: str) -> str:
        if command == "ls":
            return "caf\udce9.log"
        raise RecursionError

    mode = DebugMode("ls", look)
    assert mode.text() == "caf?.log"
    mode.ask("du")
    assert mode.text() == "RecursionError"


def test_a_command_of_blanks_is_one_like_any_other() -> None:
    assert DebugMode("  ", lambda command: f"[{command}]").text() == "[  ]"
