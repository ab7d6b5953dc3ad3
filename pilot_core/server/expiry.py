"""PURE: until when a credential is good, read from the credential itself.

Done by hand because a certificate's end must be known on machines that have
nothing but the pilot's base dependencies.
"""

import base64
import binascii
import json
import re
import ssl
from datetime import UTC, datetime

__all__ = ["pem_expiry", "token_expiry"]

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Tags of X.690 that occur on the way to the validity.
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


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


def _not_after(der: bytes) -> float:
    """The end of a certificate in DER.

    RFC 5280: SEQUENCE { SEQUENCE { [0] version?, serial, algorithm, issuer,
    validity...
    """
    _, certificate, _ = _element(der)
    _, body, _ = _element(certificate)
    tag, _, rest = _element(body)
    skip = 3 if tag == _VERSION else 2
    for _ in range(skip):
        _, _, rest = _element(rest)
    tag, validity, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    _, _, rest = _element(validity)
    tag, end, _ = _element(rest)
    text = end.decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what follows it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + length > len(data):
        raise ValueError("element longer than its data")
    return tag, data[start : start + length], data[start + length :]
