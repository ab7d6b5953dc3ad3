"""Local site mover: CRIC's copytool `lsm`, a site's own programs lsm-get and
lsm-put.

    lsm-put [-t TOKEN] --size N --checksum adler32:X SOURCE URL
    lsm-get URL DESTINATION

TOKEN is the storage's space token. Where CRIC names a setup script for the
queue's lsm, bash reads it first: the programs may be on no PATH without it.

How a file is stored is the site's affair: lsm-put promises with exit code 0
that it is there with the size and checksum it was given (pilot3
`copytool/lsm.py`). Its names are for ever: it refuses one that is taken.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import POLICY, Insistent
from pilot_core.storage.checksum import matches
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.programs import Finished, Runner
from pilot_core.storage.sink import beside
from pilot_core.storage.source import summed

__all__ = ["LsmTool"]

_URL = re.compile(r"[a-z0-9+]+://[^\x00-\x1f]*/[^/\x00-\x1f\x7f]+")

# Exit codes that the sites' programs agree on; 201 is "the copy failed".
_CODES: Mapping[int, str] = {204: "mismatch", 205: "mismatch", 206: "missing", 211: "taken"}
# The file is there already, and is the same.
_THERE = 212

# What the copy below said, where the code says no more than that it failed.
_WORDS = (
    (re.compile("No space left|File too large|Disk quota", re.IGNORECASE), "full"),
    (re.compile("No such file|not found", re.IGNORECASE), "missing"),
    (re.compile("Permission denied|not authorized|Authentication", re.IGNORECASE), "refused"),
    (re.compile("timeout|timed out", re.IGNORECASE), "timeout"),
)
# `size 123` and `adler32 01234567`, printed by some sites' lsm-put.
_TOLD = re.compile(r"\bsize[\s:]+(\d+)[\s:]+adler32[\s:]+([0-9a-fA-F]{1,8})\b")


class LsmTool(Insistent):
    """Stores and fetches files with lsm-put and lsm-get, found on PATH.

    Credentials are the programs' own. Progress is told at the end only.
    """

    name = "lsm"

    def __init__(
        self, *, clock: Clock, policy: RetryPolicy = POLICY, setup: str = "", token: str = ""
    ) -> None:
        super().__init__(clock=clock, policy=policy)
        self._setup = setup
        self._token = token

    def at(self, *, setup: str, token: str) -> "LsmTool":
        """See `SiteTool.at`."""
        return LsmTool(clock=self._clock, policy=self._policy, setup=setup, token=token)

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",  # noqa: ARG002 - site movers know no content types
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`.

        Raises
        ------
        StorageError
            FILEEXISTS if the name is taken by other bytes.
        """
        _check(target)
        run = self._runner(f"upload of {source.name} to {target}", budget, put=True)

        def once() -> Stored:
            size, sums = summed(source, budget)
            options = (*self._options(), "--size", str(size), "--checksum", f"adler32:{sums}")
            said = run("lsm-put", *options, str(source.absolute()), target)
            told = _TOLD.search(said)
            if told is not None and (int(told[1]) != size or not matches(told[2], sums)):
                wrong = f"{run.what}: lsm-put tells {told[1]} bytes with adler32 {told[2]}"
                raise StorageError(f"{wrong}, {size} with {sums} were sent", ErrorCode.PUTADMISMATCH)
            return Stored(target, "", size, sums)

        return self._insist(once, what=run.what, put=True, budget=budget, progress=progress)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        _check(source)
        run = self._runner(f"download of {source}", budget, put=False)

        def once() -> Stored:
            with beside(target) as temporary:
                run("lsm-get", source, str(temporary))
                size, sums = summed(temporary, budget)
                os.replace(temporary, target)
            return Stored(source, "", size, sums)

        return self._insist(once, what=run.what, put=False, budget=budget, progress=progress)

    def public_url(self, target: str) -> str:
        """Nowhere that we know of. Raises for what is no URL."""
        _check(target)
        return ""

    def _options(self) -> tuple[str, ...]:
        return ("-t", self._token) if self._token else ()

    def _runner(self, what: str, budget: Budget, *, put: bool) -> Runner:
        good = (0, _THERE) if put else (0,)
        if self._setup and not Path(self._setup).is_file():
            raise StorageError(
                f"copytool lsm: the queue's setup script {self._setup} is not here",
                ErrorCode.MIDDLEWAREIMPORTFAILURE,
            )
        return Runner(self.name, what, budget, put, _kind, setup=self._setup, good=good)


def _kind(done: Finished) -> str:
    return _CODES.get(done.code) or next(
        (kind for pattern, kind in _WORDS if pattern.search(done.said)), "failed"
    )


def _check(url: str) -> None:
    if _URL.fullmatch(url) is None or any(part in (".", "..") for part in url.split("/")):
        raise StorageError(f"{url!r} is no URL of a file", ErrorCode.NOSTORAGEPROTOCOL)
