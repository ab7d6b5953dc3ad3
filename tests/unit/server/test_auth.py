"""Credentials: read again when they change, named when missing, never shown."""

import base64
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.config import ServerConfig
from pilot_core.errors import NotAuthorised, SetupError
from pilot_core.server.auth import Auth, Credential
from pilot_core.server.expiry import pem_expiry, pem_owner, token_expiry

URL = "https://panda.example.org"


def config(token: Path | None = None, **more: object) -> ServerConfig:
    return ServerConfig(URL, token_file=token, token_origin="Rubin.pilot", **more)  # type: ignore[arg-type]


def jwt(**claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{middle}.c2ln"


ROBOT = (x509.NameAttribute(NameOID.COMMON_NAME, "Robot Pilot"),)


def certificate(
    end: datetime.datetime,
    key: ec.EllipticCurvePrivateKey | None = None,
    names: Sequence[x509.NameAttribute[str]] = ROBOT,
) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(names)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    begin = end - datetime.timedelta(days=1)
    signed = builder.serial_number(7).not_valid_before(begin).not_valid_after(end).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def test_a_token_with_its_origin(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc.def.ghi\n")
    assert Auth(config(token)).headers() == {"Authorization": "Bearer abc.def.ghi", "Origin": "Rubin.pilot"}


def test_a_token_is_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first-token")
    auth = Auth(config(token))
    auth.headers()
    fresh = tmp_path / "fresh"
    fresh.write_text("other-token")
    os.replace(fresh, token)
    assert auth.headers()["Authorization"] == "Bearer other-token"


def test_no_token_without_an_origin(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="origin"):
        Auth(ServerConfig(URL, token_file=tmp_path / "token"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        ("", "empty"),
        (" \n", "empty"),
        ("a b", "not a token"),
        ("a\nHost: x", "not a token"),
    ],
)
def test_a_bad_token_is_named_and_not_shown(tmp_path: Path, content: str | None, why: str) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    with pytest.raises(NotAuthorised, match=why) as caught:
        Auth(config(token)).headers()
    assert str(token) in caught.value.diag
    assert "Host" not in caught.value.diag


def test_a_directory_is_no_token(tmp_path: Path) -> None:
    with pytest.raises(NotAuthorised, match="directory"):
        Auth(config(tmp_path)).headers()


def test_a_token_comes_before_a_proxy(tmp_path: Path) -> None:
    proxy = tmp_path / "proxy"
    proxy.write_bytes(b"")
    assert Auth(config(tmp_path / "token", proxy_file=proxy)).proxy() is None
    both = Auth(config(proxy_file=proxy))
    assert both.headers() == {}
    found = both.proxy()
    assert found is not None
    assert found[0] == proxy


def test_a_missing_proxy_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAuthorised, match=r"X\.509 proxy .*proxy: No such file"):
        Auth(config(proxy_file=tmp_path / "proxy")).proxy()


def test_a_fresh_token_is_written_for_everybody(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    auth = Auth(config(token))
    auth.renew("new")
    assert auth.headers()["Authorization"] == "Bearer new"
    assert token.read_text() == "new\n"
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_fresh_token_is_kept_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    """A mount whose folder refuses new files; the next content on disk wins
    again.
    """
    folder = Path("/proc/self/fd")
    descriptor = os.open(tmp_path / "token", os.O_CREAT | os.O_RDWR)
    try:
        os.write(descriptor, b"old")
        auth = Auth(config(folder / str(descriptor)))
        auth.renew("new")
        assert auth.headers()["Authorization"] == "Bearer new"
        os.pwrite(descriptor, b"newest", 0)
        assert auth.headers()["Authorization"] == "Bearer newest"
    finally:
        os.close(descriptor)


def test_the_end_of_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(jwt(exp=1_795_236_792, sub="Robot Pilot"))
    assert Auth(config(token)).expires() == {Credential.TOKEN: 1_795_236_792}
    assert token_expiry("opaque") is None
    assert token_expiry(jwt(sub="x")) is None


def test_the_owner_of_a_proxy(tmp_path: Path) -> None:
    proxy, token = tmp_path / "proxy", tmp_path / "token"
    names = (
        (NameOID.DOMAIN_COMPONENT, "org"),
        (NameOID.COUNTRY_NAME, "CH"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Users"),
        (NameOID.COMMON_NAME, "Jané Doe 42"),
        (NameOID.TITLE, "Dr"),
    )
    owner = [x509.NameAttribute(kind, text) for kind, text in names]
    link = [x509.NameAttribute(NameOID.COMMON_NAME, text) for text in ("1234567890", "limited proxy")]
    proxy.write_bytes(certificate(SOON, names=[*owner, *link]) + certificate(SOON, names=owner))
    said = "/DC=org/C=CH/OU=Users/CN=Jané Doe 42/55040c=Dr"
    assert Auth(config(proxy_file=proxy)).owner() == said
    token.write_text("opaque")
    # This is what the server gets to see then.
    assert Auth(config(token, proxy_file=proxy)).owner() == ""


def test_the_end_of_a_proxy_is_that_of_its_first_link_to_end(tmp_path: Path) -> None:
    soon = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    late = datetime.datetime(2051, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    proxy = tmp_path / "proxy"
    proxy.write_bytes(certificate(late) + certificate(soon))
    assert Auth(config(proxy_file=proxy)).expires() == {Credential.PROXY: soon.timestamp()}
    assert pem_expiry(certificate(late).decode()) == late.timestamp()
    assert pem_expiry("") is None
    assert pem_expiry("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----") is None


def pair(end: datetime.datetime) -> str:
    """A certificate and its key in one file, as a proxy is."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate(end, key).decode() + private.decode()


SOON = datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)
LATER = datetime.datetime(2031, 1, 2, tzinfo=datetime.UTC)


def proxy_and_auth(tmp_path: Path, mode: int = 0o600) -> tuple[Path, Auth]:
    proxy = tmp_path / "mount" / "x509up"
    proxy.parent.mkdir()
    proxy.write_text(pair(SOON))
    proxy.chmod(mode)
    return proxy, Auth(config(proxy_file=proxy, spare_folder=tmp_path))


@pytest.mark.parametrize(("mode", "after"), [(0o600, 0o600), (0o400, 0o400), (0o644, 0o600)])
def test_a_fresh_proxy_is_written_for_everybody(tmp_path: Path, mode: int, after: int) -> None:
    proxy, auth = proxy_and_auth(tmp_path, mode)
    fresh = pair(LATER)
    before = auth.proxy()
    auth.renew_proxy(fresh)
    assert proxy.read_text() == fresh
    assert proxy.stat().st_mode & 0o777 == after
    found = auth.proxy()
    assert found is not None
    assert found[0] == proxy
    assert found != before
    assert auth.expires() == {Credential.PROXY: LATER.timestamp()}
    assert [p.name for p in tmp_path.iterdir()] == ["mount"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    proxy, _ = proxy_and_auth(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(proxy)
    Auth(config(proxy_file=link, spare_folder=tmp_path)).renew_proxy(fresh := pair(LATER))
    assert link.is_symlink()
    assert proxy.read_text() == fresh


def test_a_fresh_proxy_is_kept_elsewhere_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    """A mounted secret; what its owner puts there later wins again."""
    descriptor = os.open(tmp_path / "x509up", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.write(descriptor, pair(SOON).encode())
        (tmp_path / "x509up").unlink()
        # Its real path is no path any more, and its folder takes no files.
        proxy = Path(f"/proc/self/fd/{descriptor}")
        auth = Auth(config(proxy_file=proxy, spare_folder=tmp_path))
        auth.renew_proxy(fresh := pair(LATER))
        found = auth.proxy()
        assert found is not None
        assert found[0].parent == tmp_path
        assert found[0].read_text() == fresh
        assert found[0].stat().st_mode & 0o777 == 0o600
        assert auth.expires() == {Credential.PROXY: LATER.timestamp()}
        os.pwrite(descriptor, b"\n" + pair(SOON).encode(), 0)
        assert auth.expires() == {Credential.PROXY: SOON.timestamp()}
        found = auth.proxy()
        assert found is not None
        assert found[0] == proxy
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("handed_out", "why"),
    [
        ("", "something else"),
        ("<html>", "something else"),
        (pair(SOON - datetime.timedelta(days=1)), "no longer"),
        (pair(LATER).partition("-----BEGIN PRIVATE")[0], "cannot be used"),
    ],
)
def test_a_proxy_that_cannot_be_used_changes_nothing(tmp_path: Path, handed_out: str, why: str) -> None:
    proxy, auth = proxy_and_auth(tmp_path)
    before = proxy.read_text()
    with pytest.raises(NotAuthorised, match=why):
        auth.renew_proxy(handed_out)
    assert proxy.read_text() == before
    found = auth.proxy()
    assert found is not None
    assert found[0] == proxy
    assert [p.name for p in tmp_path.iterdir()] == ["mount"]


def test_beside_a_token_a_proxy_may_be_missing(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(jwt(exp=1_795_236_792))
    auth = Auth(config(token, proxy_file=tmp_path / "nothing"))
    assert auth.expires() == {Credential.TOKEN: 1_795_236_792}
    (tmp_path / "nothing").write_bytes(certificate(SOON))
    assert auth.expires()[Credential.PROXY] == SOON.timestamp()


def test_nothing_to_expire() -> None:
    assert Auth(ServerConfig(URL)).expires() == {}


@given(st.text(), st.binary(max_size=200))
def test_any_text_has_an_end_or_none(text: str, data: bytes) -> None:
    token_expiry(text)
    body = base64.b64encode(data).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----"
    end = pem_expiry(pem)
    assert end is None or end > 0
    pem_owner(pem)
