"""Who a request comes from: client certificate, or bearer token with Origin.

The texts are those of panda-server 1.0.3. One thing differs: its tokens are
RS256 by an identity provider, these are HS256 by the server itself, because
the standard library can check the one and not the other. To a pilot a token
is opaque.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilot_core.local.exchange import Identity, Refusal, plain

__all__ = ["LOCAL_PILOT", "Tokens", "certificate_identity"]

#: Everybody, where the server asks for no credentials.
LOCAL_PILOT = Identity("Local Pilot", production=True)

#: A name with one of these has the production role (`production_dns` of
#: panda-k8s).
PRODUCTION_NAMES = ("iddssv1", "Robot", "Pilot")

_TRACEBACK = """Token decode failure. 'NoneType' object has no attribute 'replace' \
Traceback (most recent call last):
  File "pandaserver/srvcore/panda_request.py", line 36, in decode_token
    vo_role = vo.replace(":", ".")
              ^^^^^^^^^^
AttributeError: 'NoneType' object has no attribute 'replace'
"""


def _known(name: str) -> bool:
    return any(part in name for part in PRODUCTION_NAMES)


def certificate_identity(names: Sequence[str]) -> Identity:
    """Identity of a client certificate from the common names of its subject."""
    if any("limited proxy" in name for name in names):
        return Identity()
    # A proxy adds a number as a further common name to its owner's.
    name = next((name for name in names if not name.isdigit()), "")
    return Identity(name, production=_known(name))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Makes and checks bearer tokens of one virtual organisation."""

    key: bytes
    vo: str = "Rubin"

    @classmethod
    def fresh(cls) -> "Tokens":
        """With a new random key."""
        return cls(secrets.token_bytes(32))

    def issue(
        self,
        *,
        now: float,
        name: str = "Robot Pilot",
        groups: Sequence[str] = ("Rubin/pilot", "Rubin/production"),
        seconds: float = 3600,
    ) -> str:
        """A token of somebody, good for `seconds` from `now` (epoch seconds)."""
        claims = {
            "sub": name,
            "name": name,
            "groups": list(groups),
            "iat": int(now),
            "exp": int(now + seconds),
        }
        signed = ".".join(
            _pack(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "local"}, claims)
        )
        return f"{signed}.{_pack(self._signature(signed))}"

    def _signature(self, signed: str) -> bytes:
        return hmac.new(self.key, signed.encode(), hashlib.sha256).digest()

    def identity(self, headers: Mapping[str, str], *, now: float) -> Identity:
        """Who the bearer is; nobody without a token.

        Raises
        ------
        Refusal
            403 with the server's text.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            return Identity()
        origin = headers.get("origin")
        if origin is None:
            raise _refused(_TRACEBACK)
        vo, _, role = origin.replace(":", ".").partition(".")
        if vo != self.vo:
            raise _refused(f"Unknown vo : {vo}")
        claims = self._claims(token.strip(), now)
        group = f"{vo}/{role}" if role else vo
        if group not in claims.get("groups", ()):
            raise _refused(f"Not a member of the {group} group")
        name = str(claims.get("name") or claims.get("sub") or "")
        return Identity(name, production=role == "production" or _known(name))

    def _claims(self, token: str, now: float) -> Mapping[str, Any]:
        signed, _, signature = token.rpartition(".")
        try:
            good = hmac.compare_digest(_unpack(signature), self._signature(signed))
            claims: dict[str, Any] = json.loads(_unpack(signed.partition(".")[2]))
        except (ValueError, binascii.Error):
            raise _refused("Invalid token. Not enough segments") from None
        if not good:
            raise _refused("Invalid token. Signature verification failed")
        if int(str(claims.get("exp", 0))) <= now:
            raise _refused("Invalid token. Signature has expired")
        return claims


def _refused(why: str) -> Refusal:
    return Refusal(plain(403, f"ERROR : Token authentication failed. {why}"))


def _pack(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpack(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
