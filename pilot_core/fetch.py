"""Fetch the transformation: from an allowed place, over verified TLS, or not
at all.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.download import DownloadFailed, download, worth_another_try
from pilot_core.base.files import write_atomic
from pilot_core.base.retry import RetryPolicy, retry
from pilot_core.errors import NodeError, PayloadError, PilotError
from pilot_core.model.codes import ErrorCode

__all__ = ["allowed", "fetch_script"]

log = logging.getLogger(__name__)

# Two repeats within about 3 s: a node that cannot reach the store should fail
# the job quickly, since the server gives it to another node.
POLICY = RetryPolicy(attempts=3, first_s=1.0, cap_s=4.0)

#: A transformation is a script; whatever is larger is not what was asked for.
MAX_BYTES = 64 * 1024 * 1024


def _key(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


def allowed(url: str, base_urls: Sequence[str]) -> bool:
    """True if `url` lies below one of `base_urls`: same scheme, exact host and
    port, path by whole segments.
    """
    try:
        parts = urlsplit(url)
        key = _key(url)
        if parts.username or parts.password or key[0] not in ("http", "https") or not key[1]:
            return False
        path = unquote(parts.path).split("/")
        if ".." in path or "." in path:
            return False
        for base in base_urls:
            prefix = unquote(urlsplit(base).path).rstrip("/").split("/")
            if _key(base) == key and path[: len(prefix)] == prefix and len(path) > len(prefix):
                return True
    except ValueError:
        return False
    return False


def fetch_script(
    url: str,
    target: Path,
    *,
    base_urls: Sequence[str],
    ca: Path | None,
    budget: Budget,
    clock: Clock,
    stop: threading.Event,
) -> None:
    """Store the script at `url` as the executable file `target`; nothing to do
    if it is there.

    Raises
    ------
    PilotError
        TRFDOWNLOADFAILURE, naming the URL and the reason; CHMODTRF if the file
        cannot be written.
    """
    if target.exists():
        return
    if not allowed(url, base_urls):
        raise PayloadError(
            f"transformation {url!r} is not below an allowed base URL ({', '.join(base_urls)})",
            ErrorCode.TRFDOWNLOADFAILURE,
        )

    def once() -> bytes:
        body = bytearray()
        # What was allowed is this URL, not where it might lead to.
        download(url, body.extend, most_bytes=MAX_BYTES, budget=budget, stop=stop, ca=ca, redirects=False)
        return bytes(body)

    try:
        body = retry(
            once,
            policy=POLICY,
            again=worth_another_try,
            clock=clock,
            budget=budget,
            stop=stop,
            what=f"fetching {url}",
        )
    except DownloadFailed as err:
        # What may pass is the node's affair: another one may get it.
        owner = PayloadError if err.again_s is None else NodeError
        raise owner(f"{url}: {err}", ErrorCode.TRFDOWNLOADFAILURE) from err
    except BudgetSpent as err:
        raise NodeError(f"{url}: {err}", ErrorCode.TRFDOWNLOADFAILURE) from err
    except InterruptedError as err:
        raise PilotError("cancelled while the transformation was being fetched", ErrorCode.PANDAKILL) from err
    if body[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise PayloadError(f"{url}: an HTML page came instead of a script", ErrorCode.TRFDOWNLOADFAILURE)
    try:
        write_atomic(target, body, mode=0o755)
    except OSError as err:
        raise PilotError(f"{target}: {err.strerror or err}", ErrorCode.CHMODTRF) from err
    log.info("transformation %s fetched from %s (%d bytes)", target.name, url, len(body))
