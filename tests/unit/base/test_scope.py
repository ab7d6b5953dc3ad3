"""A scope that is left in a hurry, and threads that die or never live."""

import errno
import threading
import time

import pytest

from pilot_core.base.scope import Scope


def test_the_last_joins_can_be_cut_short() -> None:
    free = threading.Event()
    began = time.monotonic()
    with Scope("test", join_s=60.0) as scope:
        thread = scope.spawn("stuck", free.wait, 60.0)
        scope.stop(0.05)
    assert time.monotonic() - began < 10.0, "an abandoned thread was waited for again"
    free.set()
    thread.join(10)


def test_what_a_death_means_is_said_at_the_start_of_the_thread() -> None:
    heard: list[str] = []

    def break_() -> None:
        raise ZeroDivisionError("a defect")

    with Scope("test", on_death=lambda name, _: heard.append(f"scope: {name}")) as scope:
        scope.spawn("a", break_).join(10)
        scope.spawn("b", break_, on_death=lambda name, err: heard.append(f"own: {name}: {err}")).join(10)
    assert heard == ["scope: test-a", "own: test-b: a defect"]
    with pytest.raises(ZeroDivisionError), Scope("test") as scope:
        scope.spawn("c", break_)


def test_a_system_that_has_no_thread_for_us_is_an_error_of_the_system() -> None:
    before = threading.stack_size(1 << 47)
    try:
        with Scope("test") as scope, pytest.raises(OSError, match="can't start new thread") as raised:
            scope.spawn("a", print)
    finally:
        threading.stack_size(before)
    assert (raised.value.errno, raised.value.filename) == (errno.EAGAIN, "test-a")
