"""PURE: the one line of a payload's output that says why it failed.

The ends of stderr and stdout are searched; every byte sequence is welcome.
In order of what they tell:

1. for exit codes 125 and 127, docker's or the shell's own complaint;
2. the last uncaught Python exception, `Type: message`;
3. the last line that a logger marked ERROR, CRITICAL or FATAL;
4. the last line that starts like an error, then the last line of stderr.

pilot3 takes the first line with CRITICAL or `Error:` anywhere in the whole
output instead, which is often an early, harmless one, and fails a payload that
exited 0 for such a line. Here the output explains a failure and never makes
one.
"""

import re
from collections.abc import Callable, Iterable, Iterator

__all__ = ["LONGEST", "TAIL_BYTES", "clean_line", "find_reason", "last_line", "names_refused_fork"]

#: How much of the end of each file is looked at, bytes.
TAIL_BYTES = 64 * 1024

#: Longest diagnosis, characters (the server's column for pilotErrorDiag is
#: 500).
LONGEST = 500

# Lines beyond this are cut before any expression looks at them.
_LONGEST_LINE = 2_000

# Rubin's `--long-log`: LEVEL, ISO time, logger, (MDC)(file:line) - message
# (lsst.daf.butler cli/cliLog.py). Its default format has the logger second.
_LOG_LINE = re.compile(
    r"(?P<level>CRITICAL|FATAL|ERROR|WARNING|WARN|INFO|VERBOSE|DEBUG|TRACE) "
    r"\d{4}-\d\d-\d\dT\S+ (?P<logger>\S+) \(.*?\)\([^()]*:\d+\) - (?P<message>.*)"
)
# Other loggers: the level at the start, after a time, or between dashes.
_PLAIN_LEVEL = re.compile(
    r"(?:[\d:.,TZ+|\[\] -]*|.* - )\[?(?:CRITICAL|FATAL|ERROR)\]?(?=[\s:|-])[\s:|-]+(?P<message>\S.*)"
)
_SEVERE = frozenset({"CRITICAL", "FATAL", "ERROR"})

_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z_a-z]\w*(?:: \S.*)?")

# Exceptions that only say that another one happened.
_ENVELOPES = ("MPGraphExecutorError", "CalledProcessError", "SystemExit")

_ERROR_LIKE = re.compile(r"(?:\S+: )?(?:fatal )?error\b\s*:\s*\S|.*\b(?:Error|Exception): \S", re.IGNORECASE)
_DOCKER = re.compile(r"docker: .*|.*Error response from daemon: .*")
_NOT_FOUND = re.compile(r".*(?:command not found|: not found|No such file or directory)")

# busybox, dash, bash; Python, Java, Go; libgomp, OpenBLAS.
_REFUSED_FORK = re.compile(
    r"\b(?:can't|cannot|failed to|unable to) (?:fork|start new thread|create (?:new OS |native )?thread)\b"
    r"|\b(?:v?fork|clone|thread\w*|pthread_create)\b.*Resource temporarily unavailable",
    re.IGNORECASE,
)

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def clean_line(text: str) -> str:
    """One readable line: no escape sequences, no control or undecodable
    characters.
    """
    text = _ANSI.sub("", text)
    kept = "".join(c if c.isprintable() and c != "\ufffd" else " " for c in text)
    return " ".join(kept.split())


def find_reason(exit_code: int, outputs: Iterable[bytes]) -> str:
    """Why a payload failed, at most `LONGEST` characters; empty if its output
    is.

    Parameters
    ----------
    outputs
        Ends of stderr and stdout, in this order. A first line that is cut in
        the middle does no harm.
    """
    given = list(outputs)
    texts = [list(_lines(data)) for data in given]
    for finder in _finders(exit_code):
        for lines in texts:
            reason = finder(lines)
            if reason:
                return clean_line(reason)[:LONGEST]
    # The last line of stdout is as a rule no complaint.
    return "".join(last_line(data) for data in given[:1])


def names_refused_fork(reason: str) -> bool:
    """Whether a reason says that there was no room for one more process or
    thread.

    The kernel counts refusals too, but what dies of its first one takes the
    count along before anybody has read it.
    """
    return bool(_REFUSED_FORK.search(reason))


def _finders(exit_code: int) -> tuple[Callable[[list[str]], str], ...]:
    """How to look, the most telling way first."""
    own = {125: (_last(_DOCKER),), 126: (_last(_DOCKER),), 127: (_last(_DOCKER), _last(_NOT_FOUND))}
    return (*own.get(exit_code, ()), _exception, _severe_line, _last(_ERROR_LIKE))


def _lines(data: bytes) -> Iterator[str]:
    """Lines without their ends; of a progress display only what is seen at its
    end.
    """
    for raw in data.decode("utf-8", "replace").split("\n"):
        line = raw.rstrip("\r").rpartition("\r")[2]
        yield _ANSI.sub("", line[:_LONGEST_LINE])


def _last(pattern: re.Pattern[str]) -> Callable[[list[str]], str]:
    def find(lines: list[str]) -> str:
        return next((line for line in reversed(lines) if pattern.match(line)), "")

    return find


def last_line(output: bytes) -> str:
    """The last line that says anything, at most `LONGEST` characters."""
    cleaned = (clean_line(line) for line in reversed(list(_lines(output))))
    return next((line for line in cleaned if line), "")[:LONGEST]


def _exception(lines: list[str]) -> str:
    """`Type: message` of the exception that ended it.

    A traceback below a log line of a level under ERROR was handled and does
    not count, unless nothing was logged after it. An exception that only
    wraps others gives way to the one before it.
    """
    level, last_log = "", -1
    found: list[tuple[bool, int, str]] = []
    inside = False
    for number, line in enumerate(lines):
        logged = _LOG_LINE.match(line)
        if logged:
            level, last_log, inside = logged["level"], number, False
        elif line.strip() == _TRACEBACK:
            inside = True
        elif inside and line.strip() and not line.startswith((" ", "\t")):
            inside = False
            if _EXCEPTION.fullmatch(line):
                found.append((level in _SEVERE or not level, number, line))
    serious = [line for counts, number, line in found if counts or number > last_log]
    telling = [line for line in serious if not line.partition(":")[0].endswith(_ENVELOPES)]
    return (telling or serious or [""])[-1]


def _severe_line(lines: list[str]) -> str:
    """Message of the last line that a logger marked ERROR or worse."""
    for line in reversed(lines):
        logged = _LOG_LINE.match(line)
        if logged and logged["level"] in _SEVERE:
            return f"{logged['logger']}: {logged['message']}"
        plain = None if logged else _PLAIN_LEVEL.match(line)
        if plain:
            return plain["message"]
    return ""
