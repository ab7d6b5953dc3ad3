"""PURE: until when a credential is good and whose it is, read from itself.

Done by hand because a certificate's end must be known on machines that have
nothing but the pilot's base dependencies.
"""

import base64
import binascii
import json
import re
import ssl
from datetime import UTC, datetime

__all__ = ["pem_expiry", "pem_owner", "token_expiry"]

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Tags of X.690 that occur on the way to the validity.
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
# Parts of names on grid certificates, by their object identifier in DER.
_NAMES = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("0992268993f22c640119"): "DC",
    bytes.fromhex("0992268993f22c640101"): "UID",
    bytes.fromhex("2a864886f70d010901"): "emailAddress",
}
# What a proxy adds to its owner's name, once for each delegation.
_DELEGATED = re.compile(r"(/CN=([0-9]+|proxy|limited proxy))+$")


def token_expiry(token: str) -> float | None:
    """`exp` of a JSON web token, epoch seconds; None if it is none or does not
    say.
    """
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def pem_expiry(text: str) -> float | None:
    """Epoch seconds at which the first certificate of a text ends; None
    without any.

    A proxy is no longer good when any link of its chain is not, hence the
    first.
    """
    ends = []
    for match in _CERTIFICATE.finditer(text):
        try:
            ends.append(_not_after(ssl.PEM_cert_to_DER_cert(match[0])))
        except (ValueError, IndexError, binascii.Error):
            continue
    return min(ends, default=None)


def pem_owner(text: str) -> str:
    """Whose proxy it is, as `/DC=org/CN=name`; empty without any certificate."""
    for match in _CERTIFICATE.finditer(text):
        try:
            return _DELEGATED.sub("", _subject(ssl.PEM_cert_to_DER_cert(match[0])))
        except (ValueError, IndexError, binascii.Error):
            continue
    return ""


def _validity(der: bytes) -> tuple[bytes, bytes]:
    """A certificate's validity, and what follows it: the subject.

    RFC 5280: SEQUENCE { SEQUENCE { [0] version?, serial, algorithm, issuer,
    validity, subject...
    """
    _, certificate, _ = _element(der)
    _, body, _ = _element(certificate)
    tag, _, rest = _element(body)
    skip = 3 if tag == _VERSION else 2
    for _ in range(skip):
        _, _, rest = _element(rest)
    tag, validity, rest = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    return validity, rest


def _not_after(der: bytes) -> float:
    """The end of a certificate in DER."""
    validity, _ = _validity(der)
    _, _, rest = _element(validity)
    tag, end, _ = _element(rest)
    text = end.decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _subject(der: bytes) -> str:
    """The name on a certificate: SEQUENCE OF SET OF SEQUENCE { OID, text }."""
    _, rest = _validity(der)
    _, name, _ = _element(rest)
    found = ""
    while name:
        _, part, name = _element(name)
        _, pair, _ = _element(part)
        _, kind, value = _element(pair)
        _, text, _ = _element(value)
        found += f"/{_NAMES.get(kind, kind.hex())}={text.decode('utf-8', 'replace')}"
    return found


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what follows it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + length > len(data):
        raise ValueError("element longer than its data")
    return tag, data[start : start + length], data[start + length :]
