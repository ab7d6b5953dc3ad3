"""The one line that says why: on real output, on awkward output, on any bytes."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.experiments.diagnose import LONGEST, TAIL_BYTES, find_reason, names_refused_fork
from pilot_core.experiments.exits import explain_exit

# Shape of a failing quantum's stderr under `--long-log` (ctrl_mpexec 30.2026).
QUANTUM = """\
WARNING 2026-11-21T05:02:44.100+00:00 lsst.calibrate (calibrate:{detector: 2})(tasks.py:150) - flagged
Traceback (most recent call last):
  File "tasks.py", line 59, in _blow_up
    raise ValueError("handled")
ValueError: handled and of no interest
ERROR 2026-11-21T05:02:45.838+00:00 lsst.pipe.base.mp_graph_executor ()(executor.py:690) - Failed
Traceback (most recent call last):
  File "linalg.py", line 647, in inv
    ainv = inv(a)
           ^^^^^^
numpy.linalg.LinAlgError: Singular matrix

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "tasks.py", line 59, in _blow_up
    raise RuntimeError(
RuntimeError: calibrate: cannot invert the 3×3 covariance matrix
  rows: [0. 0. 0.]
INFO 2026-11-21T05:02:45.838+00:00 lsst.pipe.base ()(mp_graph_executor.py:740) - Executed 24 quanta
ERROR 2026-11-21T05:02:45.838+00:00 lsst.daf.butler.cli.utils ()(utils.py:218) - Caught an exception:
Traceback (most recent call last):
  File "mp_graph_executor.py", line 750, in _execute_quanta_in_process
    raise MPGraphExecutorError("One or more tasks failed during execution.")
lsst.pipe.base.mp_graph_executor.MPGraphExecutorError: One or more tasks failed during execution.
""".encode()


@pytest.mark.parametrize(
    ("code", "stderr", "stdout", "expected"),
    [
        (1, QUANTUM, b"", "RuntimeError: calibrate: cannot invert the 3×3 covariance matrix"),
        (1, b"Traceback (most recent call last):\n  File 'x'\nKeyError: 'a'\n", b"", "KeyError: 'a'"),
        (1, b"Traceback (most recent call last):\n  File 'x'\nKeyboardInterrupt\n", b"", "KeyboardInterrupt"),
        (
            1,
            b"INFO 2026-01-01T00:00:00Z a ()(b:1) - m\nTraceback (most recent call last):\n x\nOSError: no\n",
            b"",
            "OSError: no",
        ),
        (
            2,
            b"ERROR 2026-01-01T00:00:00Z lsst.x (L)(b.py:1) - no such collection\n",
            b"",
            "lsst.x: no such collection",
        ),
        (3, b"2026-01-01 00:00:00,123 | ERROR    | mod | it broke\nbye\n", b"", "mod | it broke"),
        (3, b"ERROR:root:it broke\n", b"", "root:it broke"),
        (3, b"main - CRITICAL - it broke\n", b"", "it broke"),
        (3, b"found no ERROR in here\ncp: error: no room\n", b"", "cp: error: no room"),
        (3, b"", b"ERROR: only in stdout\n", "only in stdout"),
        (3, b"giving up\n\n \n", b"", "giving up"),
        (3, b"", b"hello\n", ""),
        (
            127,
            b"bash: line 1: pipetask: command not found\nTraceback?\n",
            b"",
            "bash: line 1: pipetask: command not found",
        ),
        (
            125,
            b"ERROR: old\ndocker: Error response from daemon: pull access denied for x.\nSee help.\n",
            b"",
            "docker: Error response from daemon: pull access denied for x.",
        ),
        (1, b"10%\r50%\r\x1b[31merror: \x1b[1mdisk\x07 full\x1b[0m\r\n", b"", "error: disk full"),
        (1, b"\xff\xfe\x00error: bad \xe2\x82 byte\n", b"", "error: bad byte"),
        (1, b"", b"", ""),
    ],
)
def test_the_line_that_says_why(code: int, stderr: bytes, stdout: bytes, expected: str) -> None:
    assert find_reason(code, [stderr, stdout]) == expected


@pytest.mark.parametrize(
    ("reason", "named"),
    [
        ("/bin/sh: can't fork: Resource temporarily unavailable", True),
        ("sh: 1: Cannot fork", True),
        ("bash: fork: retry: Resource temporarily unavailable", True),
        ("RuntimeError: can't start new thread", True),
        ("libgomp: Thread creation failed: Resource temporarily unavailable", True),
        (
            "OpenBLAS blas_thread_init: pthread_create failed for thread 3: Resource temporarily unavailable",
            True,
        ),
        ("java.lang.OutOfMemoryError: unable to create native thread", True),
        ("runtime: failed to create new OS thread (have 5 already; errno=11)", True),
        ("BlockingIOError: [Errno 11] write could not complete: Resource temporarily unavailable", False),
        ("butler: no fork of this registry", False),
        ("ERROR: cannot create threads.json", False),
        ("", False),
    ],
)
def test_a_refused_fork_is_told_from_other_words(reason: str, named: bool) -> None:
    assert names_refused_fork(reason) is named


@given(st.integers(1, 255), st.binary(max_size=4000), st.binary(max_size=400))
def test_any_bytes_give_a_printable_line(code: int, stderr: bytes, stdout: bytes) -> None:
    reason = find_reason(code, [stderr, stdout])
    assert len(reason) <= LONGEST
    assert not reason or reason.isprintable()
    reason.encode("utf-8")  # raises for a lone surrogate


@pytest.mark.parametrize(
    "unit",
    [
        b"a: ",
        b"ERROR ",
        b"- ",
        b"(a)(",
        b"INFO 2026-01-01T0 x (",
        b"Traceback (most recent call last):\n",
        b"a.",
        b"\x1b[",
    ],
)
def test_no_output_takes_long(unit: bytes) -> None:
    data = (unit * TAIL_BYTES)[:TAIL_BYTES]
    lines = data.replace(b" ", b"\n")
    started = time.process_time()
    for text in (data, lines):
        find_reason(127, [text, text])
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "exit code 1"),
        (125, "exit code 125, docker refused to run the container"),
        (126, "exit code 126, command found but not executable"),
        (127, "exit code 127, command not found"),
        (137, "exit code 137, killed by signal 9 (SIGKILL)"),
        (139, "exit code 139, killed by signal 11 (SIGSEGV)"),
        (143, "exit code 143, killed by signal 15 (SIGTERM)"),
        (160, "exit code 160, killed by signal 32"),
        (168, "exit code 168, killed by signal 40 (SIGRTMIN+6)"),
        (255, "exit code 255"),
    ],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert explain_exit(code) == words
