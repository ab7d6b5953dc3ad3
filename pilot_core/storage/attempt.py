"""One attempt at a transfer, what its failure means, and when to begin again."""

import errno
import re
import threading
from collections.abc import Callable

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.httptime import epoch_s
from pilot_core.base.retry import RetryPolicy, retry
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.source import SourceChanged

__all__ = [
    "FULL",
    "POLICY",
    "Insistent",
    "TransferFailed",
    "again",
    "direction",
    "one_line",
    "skew",
]

# Attempts at a whole file; at most 1+2+4+8+15+15 = 45 s of waiting in all.
POLICY = RetryPolicy(attempts=7, first_s=1.0, cap_s=15.0)

#: What a file system says when there is no more room for us.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# A clock that is off by less is nobody's reason to refuse anything. Seconds.
_IN_TIME_S = 60.0

_MISMATCH = (ErrorCode.PUTADMISMATCH, ErrorCode.GETADMISMATCH)

# Codes that differ by direction: (stage-out, stage-in).
_CODES = {
    "failed": (ErrorCode.STAGEOUTFAILED, ErrorCode.STAGEINFAILED),
    "timeout": (ErrorCode.STAGEOUTTIMEOUT, ErrorCode.STAGEINTIMEOUT),
    "refused": (ErrorCode.STAGEOUTAUTHENTICATIONFAILURE, ErrorCode.STAGEINAUTHENTICATIONFAILURE),
    "mismatch": (ErrorCode.PUTADMISMATCH, ErrorCode.GETADMISMATCH),
    "missing": (ErrorCode.STAGEOUTFAILED, ErrorCode.MISSINGINPUTFILE),
    "full": (ErrorCode.NOREMOTESPACE, ErrorCode.NOLOCALSPACE),
    "taken": (ErrorCode.FILEEXISTS, ErrorCode.FILEEXISTS),
}


class TransferFailed(StorageError):
    """One attempt at a transfer failed.

    Attributes
    ----------
    again_s
        Seconds to wait before another attempt; None if it is no use.
    status
        HTTP status, 0 if there was no answer.
    """

    def __init__(self, diag: str, code: ErrorCode, *, again_s: float | None = None, status: int = 0) -> None:
        super().__init__(diag, code)
        self.again_s = again_s
        self.status = status


def direction(kind: str, *, put: bool) -> ErrorCode:
    """Code of a kind of failure (`failed`, `timeout`...) for stage-out or
    stage-in.
    """
    return _CODES[kind][0 if put else 1]


def again(err: Exception) -> float | None:
    """Judge a failure for `retry`: seconds to wait at least, or None if it is
    final.
    """
    if isinstance(err, TransferFailed):
        return err.again_s
    if isinstance(err, SourceChanged) or (isinstance(err, StorageError) and err.code in _MISMATCH):
        return 0.0
    return None


class Insistent:
    """What copy tools have in common: a clock, and another try at what failed.

    Parameters
    ----------
    policy
        Attempts at one file.
    """

    def __init__(self, *, clock: Clock, policy: RetryPolicy = POLICY) -> None:
        self._clock = clock
        self._policy = policy

    def _insist(
        self,
        once: Callable[[], Stored],
        *,
        what: str,
        put: bool,
        budget: Budget,
        progress: Progress | None = None,
    ) -> Stored:
        """Begin again what failed in a way that may pass.

        Parameters
        ----------
        progress
            Told once, at the end: for programs that tell nothing meanwhile.

        Raises
        ------
        StorageError
            The last failure; the end of the budget is a STAGEOUTTIMEOUT or
            STAGEINTIMEOUT, a full disk of this node NOLOCALSPACE.
        """
        try:
            stored = retry(
                once,
                policy=self._policy,
                again=again,
                clock=self._clock,
                budget=budget,
                stop=threading.Event(),
                what=what,
            )
        except TransferFailed as err:
            if err.again_s is None or not budget.spent:
                raise
            # A library stopped by the end of the budget calls it a broken
            # connection.
            raise StorageError(err.diag, direction("timeout", put=put)) from err
        except BudgetSpent as err:
            raise StorageError(f"{what}: {err}", direction("timeout", put=put)) from err
        except OSError as err:
            # A storage's failures have been put into words before: this is
            # the local file.
            code = ErrorCode.NOLOCALSPACE if err.errno in FULL else ErrorCode.FILEHANDLINGFAILURE
            raise StorageError(f"{what}: {err.strerror or err}", code) from err
        if progress is not None:
            progress(stored.size, stored.size)
        return stored


def skew(date: str, clock: Clock) -> str:
    """How far this node's clock is off, from the Date of an answer, in words;
    empty if it is right or there is no such date.
    """
    theirs = epoch_s(date)
    off_s = 0.0 if theirs is None else clock.time() - theirs
    if abs(off_s) < _IN_TIME_S:
        return ""
    return f"; the clock of this node is {abs(off_s):.0f} s {'fast' if off_s > 0 else 'slow'}"


def one_line(text: str, *, at_most: int = 300) -> str:
    """Foreign text as one line without the parts of a URL that are a right to
    write; of a long one the beginning and the end.
    """
    text = re.sub(
        r"(?i)((?:upload_id|signature|sig|token|authz)=)[^&\s'\")]+", r"\1***", " ".join(text.split())
    )
    if len(text) <= at_most:
        return text
    # A name may be as long as all of it, and the reason stands behind it.
    return f"{text[: at_most * 2 // 3 - 5]} ... {text[-(at_most // 3) :]}"
