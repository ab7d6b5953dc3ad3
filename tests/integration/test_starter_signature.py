"""A pilot's tarball is signed with openssl, as docs/howto-deploy-gke.md says,
and runs only if the signature is good.
"""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot_core.base.clock import SystemClock
from pilot_starter.config import PilotSource
from pilot_starter.fetch import FetchError, fetch_pilot
from tests.fakes.pilot.process import Starter
from tests.fakes.pilot.tarball import make_tarball
from tests.fakes.pilot.web import Web, serve

EC = ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("RSA",)
ED25519 = ("ed25519",)


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


class Signer:
    """A private key and its public half."""

    def __init__(self, folder: Path, kind: tuple[str, ...] = EC) -> None:
        folder.mkdir()
        self.key, self.public = folder / "key.pem", folder / "pilot.pub.pem"
        openssl("genpkey", "-algorithm", *kind, "-out", self.key)
        openssl("pkey", "-in", self.key, "-pubout", "-out", self.public)

    def sign(self, path: Path) -> bytes:
        target = path.with_name(path.name + ".sig")
        openssl("dgst", "-sha256", "-sign", self.key, "-out", target, path)
        return target.read_bytes()


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        yield running


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    make_tarball(tmp_path / "pilot3.tar.gz")
    return tmp_path / "pilot3.tar.gz"


def fetch(tmp_path: Path, web: Web, key: Path, *, sha256: str = "", fallback: bool = False) -> bool:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return fetch_pilot(
        PilotSource(
            url=f"{web.url}/p.gz?a=b", sha256=sha256, public_key=key, fallback=fallback, timeout_s=10.0
        ),
        home=home,
        cache=tmp_path / "cache",
        clock=SystemClock(),
        stop=threading.Event(),
    )


@pytest.mark.parametrize("kind", [EC, RSA], ids=["EC", "RSA"])
def test_a_good_signature(kind: tuple[str, ...], web: Web, tarball: Path, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "keys", kind)
    web.routes = {"/p.gz": (200, tarball.read_bytes()), "/p.gz.sig": (200, signer.sign(tarball))}
    assert fetch(tmp_path, web, signer.public)
    assert (tmp_path / "home/pilot3/pilot.py").exists()


def other_bytes(web: Web, tarball: Path, _tmp: Path) -> None:
    make_tarball(tarball, files={"pilot3/evil": b"evil"})
    web.routes["/p.gz"] = (200, tarball.read_bytes())


def other_key(web: Web, tarball: Path, tmp: Path) -> None:
    web.routes["/p.gz.sig"] = (200, Signer(tmp / "other").sign(tarball))


def body(data: bytes) -> Callable[[Web, Path, Path], None]:
    return lambda web, _tarball, _tmp: web.routes.update({"/p.gz.sig": (200, data)})


def absent(web: Web, _tarball: Path, _tmp: Path) -> None:
    del web.routes["/p.gz.sig"]


BAD: dict[str, tuple[Callable[[Web, Path, Path], None], str]] = {
    "other bytes": (other_bytes, "the signature is not of"),
    "another key": (other_key, "the signature is not of"),
    "no signature": (absent, r"p\.gz\.sig.*HTTP 404"),
    "an empty one": (body(b""), "the signature is not of"),
    "an error page": (body(b"<html>sign in</html>"), "the signature is not of"),
    "something huge": (body(b"x" * 100_000), "more than 8192 bytes"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_one_is_never_run(what: str, web: Web, tarball: Path, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "keys")
    web.routes = {"/p.gz": (200, tarball.read_bytes()), "/p.gz.sig": (200, signer.sign(tarball))}
    BAD[what][0](web, tarball, tmp_path)
    with pytest.raises(FetchError, match=BAD[what][1]):
        fetch(tmp_path, web, signer.public)
    assert not list((tmp_path / "home").iterdir())


def test_a_pilot_from_the_cache_needs_one_as_well(web: Web, tarball: Path, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "keys")
    sha = make_tarball(tarball)
    web.routes = {"/p.gz": (200, tarball.read_bytes()), "/p.gz.sig": (200, signer.sign(tarball))}
    assert fetch(tmp_path, web, signer.public, sha256=sha)
    with pytest.raises(FetchError, match="the signature is not of"):
        fetch(tmp_path, web, Signer(tmp_path / "new").public, sha256=sha)
    assert web.seen.count("/p.gz") == 1


@pytest.mark.parametrize(
    "content", [None, b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_key_that_cannot_be_used(content: bytes | None, web: Web, tarball: Path, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "keys")
    web.routes = {"/p.gz": (200, tarball.read_bytes()), "/p.gz.sig": (200, signer.sign(tarball))}
    key = tmp_path / "key.pem"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(FetchError, match="no public key to check the signature with"):
        fetch(tmp_path, web, key)
    assert not list((tmp_path / "home").iterdir())


def test_a_key_of_another_kind(web: Web, tarball: Path, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "keys", ED25519)
    web.routes = {"/p.gz": (200, tarball.read_bytes()), "/p.gz.sig": (200, b"x" * 64)}
    with pytest.raises(FetchError, match="neither an elliptic curve nor an RSA key"):
        fetch(tmp_path, web, signer.public)


def test_the_fallback_is_loud(
    web: Web, tarball: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web.routes = {"/p.gz": (200, tarball.read_bytes())}
    assert not fetch(tmp_path, web, Signer(tmp_path / "keys").public, fallback=True)
    assert "FALLBACK" in caplog.text
    assert "p.gz.sig" in caplog.text


@pytest.mark.parametrize("good", [True, False])
def test_a_worker_with_a_key(good: bool, tmp_path: Path) -> None:
    starter = Starter(tmp_path)
    ours, theirs = Signer(tmp_path / "ours"), Signer(tmp_path / "theirs")
    (ours if good else theirs).sign(tmp_path / "pilot3.tar.gz")
    try:
        code = starter.run(PILOT_PUBLIC_KEY=str(ours.public))
    finally:
        starter.kill()
    assert bool(starter.notes("up")) == good
    assert (code == 0) == good
    if not good:
        assert "the signature is not of" in (tmp_path / "termination-log").read_text()
