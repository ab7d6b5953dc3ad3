"""Find, download, check and unpack the pilot; never leave half of one behind."""

import hashlib
import logging
import os
import re
import shutil
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from pilot_core.base.attended import attended
from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.download import DownloadFailed, download, worth_another_try
from pilot_core.base.retry import RetryPolicy, retry
from pilot_core.errors import SetupError
from pilot_starter.config import PilotSource
from pilot_starter.errors import FetchError
from pilot_starter.signature import check_signature

__all__ = ["FetchError", "fetch_pilot", "unpack"]

log = logging.getLogger(__name__)

T = TypeVar("T")

TOP = "pilot3"
# A pilot has a few MB; more than this is something else.
_MOST_BYTES = 256 * 1024 * 1024
_MOST_UNPACKED = 1024 * 1024 * 1024
_LONGEST_SIGNATURE = 8192
# Waits of at most 2 + 4 + 8 s between four attempts, all inside the budget.
_POLICY = RetryPolicy(attempts=4, first_s=2.0, cap_s=10.0)
_CHUNK = 1024 * 1024


def fetch_pilot(
    source: PilotSource,
    *,
    home: Path,
    cache: Path,
    clock: Clock,
    stop: threading.Event,
    ca: Path | None = None,
) -> bool:
    """Put `pilot3/` into `home`; False if the installed pilot is to be used
    instead.

    Raises
    ------
    FetchError
        If it cannot be had and there is no falling back.
    """
    if not source.url:
        return False
    try:
        tarball = _cached(source, cache)
        if tarball is None:
            tarball = _download(source, cache=cache, clock=clock, stop=stop, ca=ca)
        if source.public_key is not None:
            signature = _signature(source, clock=clock, stop=stop, ca=ca)
            check_signature(tarball, signature, source.public_key)
        unpack(tarball, home)
    except (FetchError, OSError) as err:
        if not source.fallback:
            raise FetchError(f"{source.url}: {err}" if isinstance(err, OSError) else err.diag) from err
        log.error("FALLBACK: %s; the pilot installed beside the starter is used instead", err)
        return False
    version = home / TOP / "PILOTVERSION"
    log.info("pilot %s from %s", version.read_text().strip() if version.exists() else "", source.url)
    return True


def _signature(source: PilotSource, *, clock: Clock, stop: threading.Event, ca: Path | None) -> bytes:
    """The detached signature: beside the tarball, `<url>.sig`."""
    parts = urlsplit(source.url)
    url = parts._replace(path=f"{parts.path}.sig").geturl()

    def get(budget: Budget) -> bytes:
        data = bytearray()
        _copy(url, data.extend, most_bytes=_LONGEST_SIGNATURE, budget=budget, stop=stop, ca=ca)
        return bytes(data)

    return _insist(url, get, seconds=source.timeout_s, clock=clock, stop=stop)


def _insist(
    url: str, get: Callable[[Budget], T], *, seconds: float, clock: Clock, stop: threading.Event
) -> T:
    budget = Budget(clock, seconds, f"download of {url}")
    try:
        return retry(
            lambda: get(budget),
            policy=_POLICY,
            again=worth_another_try,
            clock=clock,
            budget=budget,
            stop=stop,
            what=f"download of {url}",
        )
    except (DownloadFailed, BudgetSpent) as err:
        raise FetchError(f"{url}: {err}") from err


def _cached(source: PilotSource, cache: Path) -> Path | None:
    # Only what has a checksum can be known again.
    if not source.sha256:
        return None
    path = _cache_path(cache, source.sha256)
    if not path.is_file():
        return None
    if _digest(path) != source.sha256:
        log.warning("%s is damaged and is downloaded again", path)
        path.unlink(missing_ok=True)
        return None
    log.info("pilot taken from the cache: %s", path)
    return path


def _cache_path(cache: Path, sha256: str) -> Path:
    return cache / f"{TOP}-{sha256}.tar.gz"


def _digest(path: Path) -> str:
    with path.open("rb") as src:
        return hashlib.file_digest(src, "sha256").hexdigest()


def _download(
    source: PilotSource, *, cache: Path, clock: Clock, stop: threading.Event, ca: Path | None
) -> Path:
    """Download to the cache, under the digest's name, once it is whole and
    right.
    """
    if source.sha256 and not re.fullmatch(r"[0-9a-f]{64}", source.sha256):
        raise SetupError(f"SHA-256 of the pilot is not 64 hex digits: {source.sha256!r}")
    cache.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".pilot-", dir=cache)
    part = Path(name)
    try:
        os.close(handle)
        _insist(
            source.url,
            lambda budget: _get(source.url, part, budget=budget, stop=stop, ca=ca),
            seconds=source.timeout_s,
            clock=clock,
            stop=stop,
        )
        digest = _digest(part)
        if source.sha256 and digest != source.sha256:
            raise FetchError(f"{source.url}: SHA-256 is {digest}, not {source.sha256}")
        if not source.sha256:
            log.warning("no SHA-256 was given for %s; it has %s", source.url, digest)
        target = _cache_path(cache, digest)
        part.replace(target)
        return target
    finally:
        part.unlink(missing_ok=True)


def _get(url: str, target: Path, *, budget: Budget, stop: threading.Event, ca: Path | None) -> None:
    with target.open("wb") as out:
        _copy(url, out.write, most_bytes=_MOST_BYTES, budget=budget, stop=stop, ca=ca)
    with target.open("rb") as src:
        start = src.read(2)
    if start != b"\x1f\x8b":
        raise FetchError(f"{url}: what came is no gzip file (is it an error page?)")


def _copy(
    url: str,
    take: Callable[[bytes], object],
    *,
    most_bytes: int,
    budget: Budget,
    stop: threading.Event,
    ca: Path | None,
) -> None:
    """One attempt at a download, or at a file that may be on a slow share."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        download(url, take, most_bytes=most_bytes, budget=budget, stop=stop, ca=ca)
        return
    if parts.scheme != "file":
        raise FetchError(f"{url}: only http, https and file URLs are understood")

    def read() -> None:
        size = 0
        try:
            with open(unquote(parts.path), "rb") as src:
                while piece := src.read(_CHUNK):
                    size += len(piece)
                    if size > most_bytes:
                        raise FetchError(f"{url}: more than {most_bytes} bytes")
                    take(piece)
        except OSError as err:
            raise FetchError(f"{url}: {err.strerror}") from err

    attended(read, name="download", budget=budget, clock=budget.clock, stop=stop)


def unpack(tarball: Path, home: Path) -> None:
    """Unpack `pilot3/` into `home`: whole, or not at all.

    Raises
    ------
    FetchError
        If the archive is cut short, holds anything outside `pilot3/` (absolute
        names, `..`, links that lead out, devices), or no `pilot3/pilot.py`.
    """
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=home) as name:
        aside = Path(name)
        try:
            with tarfile.open(tarball, "r:gz") as archive:
                members = list(_safe_members(archive))
                archive.extractall(aside, members, filter="data")
        except (tarfile.TarError, EOFError, zlib.error, OSError) as err:
            raise FetchError(f"{tarball.name}: {err}") from err
        if not (aside / TOP / "pilot.py").is_file():
            raise FetchError(f"{tarball.name}: there is no {TOP}/pilot.py in it")
        old = home / TOP
        if old.exists():
            shutil.rmtree(old)
        (aside / TOP).rename(old)


def _safe_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    total = 0
    for member in archive:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if not parts:
            continue
        if parts[0] != TOP or ".." in parts or member.name.startswith("/"):
            raise FetchError(f"{member.name!r} is outside {TOP}/")
        total += member.size
        if total > _MOST_UNPACKED:
            raise FetchError(f"unpacked it has more than {_MOST_UNPACKED} bytes")
        yield member
