"""Makes pilot tarballs, good ones and bad ones."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FAKE_PILOT = Path(__file__).with_name("fake_pilot.py")


def member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    archive.addfile(info, io.BytesIO(data))


def make_tarball(
    path: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    links: Sequence[tuple[str, str]] = (),
    version: str = "3.99.0.1",
) -> str:
    """Write `pilot3.tar.gz` with the fake pilot and more; returns its SHA-256."""
    content = {"pilot3/pilot.py": FAKE_PILOT.read_bytes(), "pilot3/PILOTVERSION": version.encode()}
    content.update(files or {})
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            member(archive, name, data)
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()
