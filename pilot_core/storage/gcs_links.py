"""Signed URLs of Cloud Storage's objects: by a key, or by IAM where there is
none.
"""

import logging
import threading
from datetime import timedelta
from typing import Any

import requests
from google.auth import iam
from google.auth.credentials import Scoped, Signing
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.cloud import storage

from pilot_core.base.clock import Clock
from pilot_core.storage.attempt import one_line

__all__ = ["Links"]

log = logging.getLogger(__name__)

# Storage's own scopes are not enough to ask IAM for a signature.
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"

# What refused to sign is left alone for so long: each log would wait for it
# again.
_PAUSE_S = 600.0


class Links:
    """Signs for one client; may be called from any thread.

    A service account's key signs on this machine, without a request. The
    identity that a pod is given (Workload Identity) has no key: IAM signs for
    it, one request a link, if it holds `iam.serviceAccounts.signBlob` on
    itself (role `roles/iam.serviceAccountTokenCreator`):
    https://cloud.google.com/storage/docs/access-control/signed-urls

    Parameters
    ----------
    session
        For the requests to IAM.
    seconds
        How long a link is good for.
    """

    def __init__(self, session: requests.Session, seconds: int, clock: Clock) -> None:
        self._session = session
        self._life = timedelta(seconds=seconds)
        self._clock = clock
        self._lock = threading.Lock()
        self._signing: Signing | None = None
        self._again_at = 0.0

    def sign(self, blob: storage.Blob) -> str:
        """A URL that everybody may read from; empty if it cannot be had, which
        is said once.
        """
        with self._lock:
            if self._clock.monotonic() < self._again_at:
                return ""
            try:
                if self._signing is None:
                    self._signing = self._find(blob.client._credentials)
                return str(
                    blob.generate_signed_url(
                        version="v4", expiration=self._life, method="GET", credentials=self._signing
                    )
                )
            except Exception as err:  # noqa: BLE001 - a link is not worth an upload, whatever the signer raises
                self._again_at = self._clock.monotonic() + _PAUSE_S
                log.warning("links are not signed, plain ones are given: %s", one_line(str(err)))
                return ""

    def _find(self, credentials: Any) -> Signing:
        """Who signs for these credentials.

        Raises
        ------
        GoogleAuthError
            Nobody does, or no token is to be had.
        """
        if isinstance(credentials, Signing):
            return credentials
        kind = f"{type(credentials).__module__}.{type(credentials).__name__}"
        if not getattr(credentials, "service_account_email", None):
            raise GoogleAuthError(f"{kind} cannot sign; a service account can")
        if isinstance(credentials, Scoped):
            credentials = credentials.with_scopes((_SCOPE,))
        request = Request(self._session)
        # A node's account is called `default` until the first token is there.
        credentials.refresh(request)
        email = str(credentials.service_account_email)
        return _SignedByIam(iam.Signer(request, credentials, email), email)


class _SignedByIam(Signing):  # type: ignore[misc] # google-auth has no types
    """What the library wants of credentials that sign."""

    def __init__(self, signer: iam.Signer, email: str) -> None:
        self._signer = signer
        self._email = email

    def sign_bytes(self, message: bytes) -> bytes:
        """Ask IAM's signBlob."""
        return bytes(self._signer.sign(message))

    @property
    def signer_email(self) -> str:
        """Stands in the link."""
        return self._email

    @property
    def signer(self) -> iam.Signer:
        """Whom `sign_bytes` asks."""
        return self._signer
