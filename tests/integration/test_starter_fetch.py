"""The pilot's tarball over real HTTP: right, wrong, half, hostile, absent."""

import gzip
import io
import ssl
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot_core.base.clock import SystemClock
from pilot_starter.config import PilotSource
from pilot_starter.fetch import FetchError, fetch_pilot
from tests.fakes.drip import DRIPS, dripping
from tests.fakes.patience import stated
from tests.fakes.pilot.tarball import make_tarball, member
from tests.fakes.pilot.web import Web, serve
from tests.fakes.pki import make_pki


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def fetch(
    home: Path,
    url: str,
    *,
    sha256: str = "",
    fallback: bool = False,
    timeout_s: float = 20.0,
    ca: Path | None = None,
) -> bool:
    return fetch_pilot(
        PilotSource(url=url, sha256=sha256, fallback=fallback, timeout_s=timeout_s),
        home=home,
        cache=home.parent / "cache",
        clock=SystemClock(),
        stop=threading.Event(),
        ca=ca,
    )


def nothing_installed(home: Path) -> bool:
    return not list(home.iterdir())


def test_good_tarball_is_installed_whole(web: Web, home: Path, tmp_path: Path) -> None:
    sha = make_tarball(tmp_path / "t.gz", files={"pilot3/pilot_core/x.py": b"x = 1\n"})
    web.routes["/pilot3.tar.gz"] = (200, (tmp_path / "t.gz").read_bytes())
    assert fetch(home, f"{web.url}/pilot3.tar.gz", sha256=sha)
    assert (home / "pilot3/pilot_core/x.py").read_text() == "x = 1\n"
    assert [entry.name for entry in home.iterdir()] == ["pilot3"]


def test_pilot_with_a_checksum_is_downloaded_once(web: Web, home: Path, tmp_path: Path) -> None:
    sha = make_tarball(tmp_path / "t.gz")
    web.routes["/p"] = (200, (tmp_path / "t.gz").read_bytes())
    assert fetch(home, f"{web.url}/p", sha256=sha)
    assert fetch(home, f"{web.url}/p", sha256=sha)
    assert web.seen == ["/p"]
    # A damaged copy in the cache is noticed.
    (cached,) = (home.parent / "cache").glob("pilot3-*.tar.gz")
    cached.write_bytes(b"rubbish")
    assert fetch(home, f"{web.url}/p", sha256=sha)
    assert web.seen == ["/p", "/p"]


def test_server_trouble_is_tried_again(web: Web, home: Path, tmp_path: Path) -> None:
    sha = make_tarball(tmp_path / "t.gz")
    body = (tmp_path / "t.gz").read_bytes()
    web.routes["/p"] = lambda attempt: (503, b"busy") if attempt == 1 else (200, body)
    assert fetch(home, f"{web.url}/p", sha256=sha)
    assert web.seen == ["/p", "/p"]


def half(tmp_path: Path) -> bytes:
    make_tarball(tmp_path / "t.gz", files={"pilot3/big": bytes(range(256)) * 4000})
    body = (tmp_path / "t.gz").read_bytes()
    return body[: len(body) // 2]


def with_member(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member(archive, "pilot3/pilot.py", b"print()\n")
        member(archive, name, b"evil\n")
    return out.getvalue()


def with_link(tmp_path: Path, target: str) -> bytes:
    make_tarball(tmp_path / "l.gz", links=[("pilot3/link", target)])
    return (tmp_path / "l.gz").read_bytes()


def through_link(tmp_path: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member(archive, "pilot3/pilot.py", b"print()\n")
        info = tarfile.TarInfo("pilot3/out")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(info)
        member(archive, "pilot3/out/evil", b"evil\n")
    return out.getvalue()


BAD: dict[str, Callable[[Path], bytes]] = {
    "half a tarball": half,
    "a name with ..": lambda tmp: with_member("pilot3/../../evil"),
    "a name above": lambda tmp: with_member("../evil"),
    "an absolute name": lambda tmp: with_member(f"{tmp}/evil"),
    "another top folder": lambda tmp: with_member("other/evil"),
    "a link that leads out": lambda tmp: with_link(tmp, "../../../etc/passwd"),
    "an absolute link": lambda tmp: with_link(tmp, "/etc/passwd"),
    "a file through a link": through_link,
    "an error page with status 200": lambda tmp: b"<html>sign in</html>",
    "gzip that is no tar": lambda tmp: gzip.compress(b"hello" * 1000),
    "nothing": lambda tmp: b"",
}


@pytest.mark.parametrize("what", BAD)
def test_bad_tarballs_are_refused_and_nothing_is_left(
    what: str, web: Web, home: Path, tmp_path: Path
) -> None:
    web.routes["/p"] = (200, BAD[what](tmp_path))
    with pytest.raises(FetchError) as caught:
        fetch(home, f"{web.url}/p")
    assert len(str(caught.value).splitlines()) == 1
    assert nothing_installed(home)
    assert not list(tmp_path.rglob("evil"))


def test_tarball_without_a_pilot_is_refused(web: Web, home: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member(archive, "pilot3/README", b"hello\n")
    web.routes["/p"] = (200, out.getvalue())
    with pytest.raises(FetchError, match=r"no pilot3/pilot\.py"):
        fetch(home, f"{web.url}/p")
    assert nothing_installed(home)


def test_wrong_checksum_names_both(web: Web, home: Path, tmp_path: Path) -> None:
    sha = make_tarball(tmp_path / "t.gz")
    web.routes["/p"] = (200, (tmp_path / "t.gz").read_bytes())
    with pytest.raises(FetchError, match=rf"SHA-256 is {sha}, not {'0' * 64}"):
        fetch(home, f"{web.url}/p", sha256="0" * 64)
    assert nothing_installed(home)
    assert not list((home.parent / "cache").iterdir())


def test_404_with_html_is_an_error_and_not_repeated(web: Web, home: Path) -> None:
    with pytest.raises(FetchError, match="HTTP 404"):
        fetch(home, f"{web.url}/p")
    assert web.seen == ["/p"]
    assert nothing_installed(home)


def test_answer_shorter_than_announced_is_no_pilot(web: Web, home: Path, tmp_path: Path) -> None:
    make_tarball(tmp_path / "t.gz")
    web.routes["/p"] = (200, (tmp_path / "t.gz").read_bytes())
    web.lie_about_length.add("/p")
    with pytest.raises(FetchError):
        fetch(home, f"{web.url}/p", timeout_s=1.0)
    assert nothing_installed(home)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/p", "https://127.0.0.1:9/p", "ftp://x/p", "file:///no"])
def test_no_network_or_no_such_place_says_so(url: str, home: Path) -> None:
    began = time.monotonic()
    with pytest.raises(FetchError, match=url):
        fetch(home, url, timeout_s=1.0)
    assert time.monotonic() - began < stated(5.0)


def test_fallback_is_loud(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not fetch(home, "http://127.0.0.1:9/p", fallback=True, timeout_s=1.0)
    assert "FALLBACK" in caplog.text
    assert nothing_installed(home)


def test_https_is_verified(home: Path, tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    sha = make_tarball(tmp_path / "t.gz")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.tls.cert, pki.tls.key)
    with serve(context) as web:
        web.routes["/p"] = (200, (tmp_path / "t.gz").read_bytes())
        with pytest.raises(FetchError, match="TLS"):
            fetch(home, f"{web.url}/p", sha256=sha)
        assert nothing_installed(home)
        assert fetch(home, f"{web.url}/p", sha256=sha, ca=pki.ca)


def test_new_pilot_replaces_an_old_one_whole(web: Web, home: Path, tmp_path: Path) -> None:
    make_tarball(tmp_path / "a.gz", files={"pilot3/old": b""})
    make_tarball(tmp_path / "b.gz", files={"pilot3/new": b""})
    for name in ("a", "b"):
        web.routes[f"/{name}"] = (200, (tmp_path / f"{name}.gz").read_bytes())
        assert fetch(home, f"{web.url}/{name}")
    assert (home / "pilot3/new").exists()
    assert not (home / "pilot3/old").exists()


@pytest.mark.parametrize("drip", DRIPS)
def test_a_server_that_answers_byte_by_byte_has_no_more_time_than_others(home: Path, drip: str) -> None:
    with dripping(DRIPS[drip]) as url:
        began = time.monotonic()
        with pytest.raises(FetchError, match="are over"):
            fetch(home, f"{url}/p", timeout_s=0.6)
        assert time.monotonic() - began < stated(3.0)
    assert nothing_installed(home)
