"""A certificate authority for one test session."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilot_core.local.server import TlsFiles

__all__ = ["Pki", "make_pki"]


@dataclass(frozen=True)
class Pki:
    """A CA, a server's certificate for 127.0.0.1 and for Google's hosts, and
    one that is over; a pilot's and a user's proxy; and the pilot's proxies of
    tomorrow and of yesterday.
    """

    ca: Path
    tls: TlsFiles
    tls_over: TlsFiles
    proxy: Path
    stranger: Path
    fresh: Path
    expired: Path


def _certificate(
    name: str,
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None,
    *,
    server: bool = False,
    hours: float = 12.0,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0] if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=hours))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if server:
        names = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("*.googleapis.com"))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


# ProxyCertInfo with the policy "inherit all" (RFC 3820), as voms-proxy-init
# makes it.
_PROXY_INFO = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"), bytes.fromhex("300c300a06082b06010505071501")
)


def _proxy(owner: x509.Certificate, owner_key: ec.EllipticCurvePrivateKey) -> bytes:
    """A grid proxy as one file: the proxy, its key, and the owner's
    certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number() >> 96
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*owner.subject, x509.NameAttribute(NameOID.COMMON_NAME, str(serial))]))
        .issuer_name(owner.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(owner.not_valid_before_utc)
        .not_valid_after(owner.not_valid_after_utc)
        .add_extension(_PROXY_INFO, critical=True)
    )
    cert, private = _pem(builder.sign(owner_key, hashes.SHA256()), key)
    return cert + private + owner.public_bytes(serialization.Encoding.PEM)


def make_pki(folder: Path) -> Pki:
    """Files of a fresh authority in `folder`."""
    ca, ca_key = _certificate("Test CA", None)
    issuer = (ca.subject, ca_key)
    paths = {
        name: folder / f"{name}.pem"
        for name in ("ca", "cert", "key", "cert_over", "key_over", "proxy", "stranger", "fresh", "expired")
    }
    paths["ca"].write_bytes(_pem(ca, ca_key)[0])
    for over, hours in (("", 12.0), ("_over", -0.5)):
        cert, key = _pem(*_certificate("127.0.0.1", issuer, server=True, hours=hours))
        paths[f"cert{over}"].write_bytes(cert)
        paths[f"key{over}"].write_bytes(key)
    paths["proxy"].write_bytes(_proxy(*_certificate("Robot Pilot", issuer)))
    paths["stranger"].write_bytes(_proxy(*_certificate("Plain User", issuer)))
    paths["fresh"].write_bytes(_proxy(*_certificate("Robot Pilot", issuer, hours=96.0)))
    paths["expired"].write_bytes(_proxy(*_certificate("Robot Pilot", issuer, hours=-0.5)))
    return Pki(
        ca=paths["ca"],
        tls=TlsFiles(paths["cert"], paths["key"], paths["ca"]),
        tls_over=TlsFiles(paths["cert_over"], paths["key_over"], paths["ca"]),
        proxy=paths["proxy"],
        stranger=paths["stranger"],
        fresh=paths["fresh"],
        expired=paths["expired"],
    )
