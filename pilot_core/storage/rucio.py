"""Rucio: CRIC's copytool `rucio`, with Rucio's own client library.

A file is `rucio://<RSE>/<scope>/<name>`; which protocol and which path that
means is Rucio's affair. The library is configured as everywhere, by `rucio.cfg`
(RUCIO_HOME, RUCIO_CONFIG) and RUCIO_*.

Rucio's names are for ever: a name that is taken by other bytes is an error.
"""

import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import Insistent, TransferFailed, direction, one_line
from pilot_core.storage.checksum import matches
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.programs import run_program
from pilot_core.storage.source import summed

__all__ = ["RucioTool"]

_URL = re.compile(r"rucio://(?P<rse>[^/\x00-\x20]*)/(?P<scope>[^/:\x00-\x20]+)/(?P<name>[^:\x00-\x1f\x7f]+)")

_CHILD = Path(__file__).with_name("rucio_client.py")

# What the library's exceptions and a trace's clientState mean, in the words of
# `attempt.direction`; anything else failed in a way that may pass.
_KINDS: Mapping[str, str] = {
    "AccessDenied": "refused",
    "CannotAuthenticate": "refused",
    "CannotAuthorize": "refused",
    "DataIdentifierNotFound": "missing",
    "FILE_NOT_FOUND": "missing",
    "FAIL_VALIDATE": "mismatch",
    "NoSpaceLeft": "full",
    "RSEAccessDenied": "refused",
    "ReplicaNotFound": "missing",
    "SourceNotFound": "missing",
}
# No use to try these again: what is asked for is not there, or not set up.
_SETUP = frozenset({"ConfigNotFound", "MissingClientParameter"})
_FINAL = _SETUP | {"InputValidationError", "InvalidRSEExpression", "RSENotFound"}
_NO_USE = frozenset({"full", "missing", "refused"})

# Words of the protocols below Rucio, which it hands on as they are.
_WORDS = (
    (re.compile("No space left|File too large|Disk quota"), "full"),
    (re.compile("Permission denied|HTTP 403|HTTP 401"), "refused"),
)


@dataclass(frozen=True, slots=True)
class _Did:
    """A file in Rucio's terms; an empty RSE means any."""

    rse: str
    scope: str
    name: str


class RucioTool(Insistent):
    """Stores and fetches files through rucio-clients.

    Nothing is registered: the PanDA server does that when it has the job's
    report. Progress is told at the end only.
    """

    name = "rucio"

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",  # noqa: ARG002 - Rucio knows no content types
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`; `url` of the result is the storage's own (PFN).

        Raises
        ------
        StorageError
            FILEEXISTS if the name is taken by other bytes.
        """
        did, what = _split(target), f"upload of {source.name} to {target}"

        def once() -> Stored:
            size, sums = summed(source, budget)
            with tempfile.TemporaryDirectory(prefix="pilot-rucio-") as folder:
                answer = _ask(
                    what,
                    budget,
                    put=True,
                    order={
                        "do": "put",
                        "path": str(source.absolute()),
                        "rse": did.rse,
                        "scope": did.scope,
                        "name": did.name,
                        "summary": f"{folder}/summary.json",
                    },
                )
            theirs = (answer.get("bytes", ""), answer.get("adler32", ""))
            if theirs[0] != str(size) or not matches(theirs[1], sums):
                said = f"{what}: the storage has {theirs[0]} bytes with adler32 {theirs[1]}"
                code = ErrorCode.FILEEXISTS if "taken" in answer else ErrorCode.PUTADMISMATCH
                raise StorageError(f"{said}, the file {size} with {sums}", code)
            return Stored(answer.get("pfn") or target, "", size, sums)

        return self._insist(once, what=what, put=True, budget=budget, progress=progress)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        did, what = _split(source), f"download of {source}"

        def once() -> Stored:
            # Beside the target: it is renamed, not copied.
            with tempfile.TemporaryDirectory(prefix=".rucio.", dir=target.absolute().parent) as folder:
                order = {"do": "get", "folder": folder, "rse": did.rse, "scope": did.scope, "name": did.name}
                _ask(what, budget, put=False, order=order)
                found = Path(folder, did.name)
                size, sums = summed(found, budget)
                os.replace(found, target)
            return Stored(source, "", size, sums)

        return self._insist(once, what=what, put=False, budget=budget, progress=progress)

    def public_url(self, target: str) -> str:
        """Nowhere that we know of. Raises for what is no such URL."""
        _split(target)
        return ""


def _ask(what: str, budget: Budget, *, put: bool, order: Mapping[str, str]) -> dict[str, str]:
    """The child's answer; its refusals are `TransferFailed`s."""
    if importlib.util.find_spec("rucio") is None:
        raise StorageError(
            "copytool rucio needs the package rucio-clients (pip install rubin-panda-pilot[rucio])",
            ErrorCode.MIDDLEWAREIMPORTFAILURE,
        )
    lines = bytearray()
    seconds = max(1, int(budget.timeout(86_400.0)))
    argument = json.dumps({**order, "timeout": seconds})
    # -P: in the folder of the child lies a `rucio.py` of ours.
    done = run_program((sys.executable, "-P", str(_CHILD), argument), budget=budget, drain=lines.extend)
    try:
        answer = {key: str(value) for key, value in json.loads(lines.splitlines()[-1]).items()}
    except (ValueError, IndexError, AttributeError) as err:
        said = one_line(f"{what}: the Rucio client ended with {done.code}: {done.said}")
        raise TransferFailed(said, direction("failed", put=put), again_s=0.0) from err
    if done.code == 0:
        return answer
    raise _failed(what, answer, put=put)


def _failed(what: str, answer: Mapping[str, str], *, put: bool) -> TransferFailed:
    error, state, text = (answer.get(key, "") for key in ("error", "state", "text"))
    words = next((kind for pattern, kind in _WORDS if pattern.search(text)), "")
    kind = _KINDS.get(state) or _KINDS.get(error) or words or "failed"
    code = ErrorCode.MISSINGCREDENTIALS if error in _SETUP else direction(kind, put=put)
    final = kind in _NO_USE or error in _FINAL
    return TransferFailed(one_line(f"{what}: {error}: {text}"), code, again_s=None if final else 0.0)


def _split(url: str) -> _Did:
    found = _URL.fullmatch(url)
    if found is None or any(part in ("", ".", "..") for part in found["name"].split("/")):
        raise StorageError(f"{url!r} is no rucio://<RSE>/<scope>/<name>", ErrorCode.NOSTORAGEPROTOCOL)
    return _Did(found["rse"], found["scope"], found["name"])
