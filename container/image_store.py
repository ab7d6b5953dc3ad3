"""Images that pilots have pulled, removed again when the store grows too
large: longest unused first.

A small file on the node, shared by all owners there and locked, says which
images one of us has pulled, when each was last asked for, and by whom. Only
those are ever removed, and of those none that

- is asked for by an owner that lives (its lock says so, see `reaper.py`), our
  own earlier ones left out;
- any container on the node was made of, running or not.

What was on the node before, what somebody else pulls and what payloads pull
themselves is not in the file and stays.
"""

import contextlib
import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from container.docker_api import Daemon, Refused
from container.errors import EngineError
from container.reaper import Owner
from pilot_core.base.clock import Clock
from pilot_core.base.files import open_regular, write_atomic

__all__ = ["DockerImages", "ImageStore", "Images", "Usage"]

log = logging.getLogger(__name__)

_FILE = ".container-images.json"
_LOCK = ".container-images.lock"
_LONGEST = 4 * 1024 * 1024
# Seconds to wait for another owner that is just removing an image.
_LOCK_S = 60.0
_LOOK_S = 0.1
# The daemon adds up all layers and containers for it.
_USAGE_S = 60.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What the images of an engine take.

    Attributes
    ----------
    total_bytes
        All layers, shared ones once.
    ids
        Id by name of every image.
    in_use
        Ids of images that containers were made of, running or not.
    """

    total_bytes: int
    ids: Mapping[str, str]
    in_use: frozenset[str]


class Images(Protocol):
    """The images of an engine; calls raise EngineError."""

    def usage(self) -> Usage:
        """What there is now."""
        ...

    def remove(self, name: str) -> None:
        """Take this name from its image, and delete what has none left;
        refused while a container needs it.
        """
        ...


class DockerImages:
    """The images of a Docker daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def usage(self) -> Usage:
        found: dict[str, Any] = self._daemon.call("usage", lambda api: api.df(), within_s=_USAGE_S)
        images = found.get("Images") or ()
        return Usage(
            total_bytes=int(found.get("LayersSize") or 0),
            ids={name: image["Id"] for image in images for name in image.get("RepoTags") or ()},
            in_use=frozenset(row["ImageID"] for row in found.get("Containers") or ()),
        )

    def remove(self, name: str) -> None:
        try:
            self._daemon.call(f"remove {name}", lambda api: api.remove_image(name), within_s=_USAGE_S)
        except Refused as err:
            if not err.missing:
                raise


class ImageStore:
    """Keeps an engine's images below a size.

    Parameters
    ----------
    images
        Of the engine.
    owner
        We; its folder is where the file is.
    limit_bytes
        For all images of the engine, also those that are not ours.
    """

    def __init__(self, images: Images, owner: Owner, limit_bytes: int, *, clock: Clock) -> None:
        self._images = images
        self._owner = owner
        self._limit = limit_bytes
        self._clock = clock
        self._path = owner.folder / _FILE

    def claim(self, name: str) -> None:
        """We are about to use it: nobody removes it as long as we live.

        To be called before looking whether the image is there.
        """
        self._note(name, pulled=False)

    def pulled(self, name: str) -> None:
        """We have pulled it: it may be removed one day. Makes room for it."""
        self._note(name, pulled=True)
        try:
            self._trim(name)
        except (EngineError, OSError) as err:
            log.warning("the image store is not kept below its limit: %s", err)

    def _note(self, name: str, *, pulled: bool) -> None:
        try:
            with self._locked():
                rows = self._read()
                row = rows.get(name, {})
                owners = [token for token in row.get("owners", ()) if self._owner.lives(token)]
                rows[name] = {
                    "used": self._clock.time(),
                    "pulled": pulled or bool(row.get("pulled")),
                    "owners": sorted({*owners, self._owner.token}),
                }
                self._write(rows)
        except OSError as err:
            log.warning("%s: the use of image %s is not noted: %s", self._path, name, err.strerror or err)

    def _trim(self, keep: str) -> None:
        """Remove images until the store is small enough, or none may go."""
        usage = self._images.usage()
        tried = {keep}
        while usage.total_bytes > self._limit:
            # Held while the image goes: who claims it waits, and then finds
            # it missing.
            with self._locked():
                rows = self._read()
                name = self._oldest(rows, usage, tried)
                if not name:
                    log.warning(
                        "images take %.1f GB, limit %.1f GB, and none of ours may go",
                        usage.total_bytes / 1e9,
                        self._limit / 1e9,
                    )
                    return
                tried.add(name)
                try:
                    self._images.remove(name)
                except Refused as err:
                    log.info("image %s stays: %s", name, err)
                    continue
                rows.pop(name)
                self._write(rows)
            before, usage = usage, self._images.usage()
            freed = (before.total_bytes - usage.total_bytes) / 1e6
            log.info("image %s removed, longest unused of ours: %.1f MB freed", name, freed)

    def _oldest(self, rows: Mapping[str, Mapping[str, Any]], usage: Usage, tried: set[str]) -> str:
        """The one to go; empty if none may."""
        free = [
            (row["used"], name)
            for name, row in rows.items()
            if name not in tried
            and row.get("pulled")
            and usage.ids.get(name) not in usage.in_use
            and not any(self._protects(token) for token in row.get("owners", ()))
        ]
        return min(free)[1] if free else ""

    def _protects(self, token: str) -> bool:
        return token != self._owner.token and self._owner.lives(token)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._owner.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            end, pause = self._clock.monotonic() + _LOCK_S, threading.Event()
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock.monotonic() >= end:
                        raise
                    self._clock.wait(pause, _LOOK_S)
            yield
        finally:
            os.close(fd)

    def _read(self) -> dict[str, dict[str, Any]]:
        """The rows by image; none if the file is missing or no use."""
        try:
            with open_regular(self._path) as src:
                # The folder is open to all: others' words remove no image.
                if os.fstat(src.fileno()).st_uid not in (0, os.geteuid()):
                    raise ValueError("it belongs to somebody else")
                rows = json.loads(src.read(_LONGEST))
            return {
                name: row
                for name, row in rows.items()
                if isinstance(row, dict) and isinstance(row.get("used"), (int, float))
            }
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, RecursionError) as err:
            log.warning("%s cannot be read and is begun anew: %s", self._path, err)
            return {}

    def _write(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        write_atomic(self._path, json.dumps(rows), mode=0o644)
