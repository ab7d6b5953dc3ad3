"""Google's SDK for `gcs.py`: the client, what to repeat, what a failure means."""

import http.client
import logging
from collections.abc import Callable
from typing import Any

import requests
from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from pilot_core.base.budget import BudgetSpent
from pilot_core.base.httptime import retry_after
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import FULL, TransferFailed, direction, one_line
from pilot_core.storage.gcs_links import Links
from pilot_core.storage.gcs_stream import stream
from pilot_core.storage.http_session import make_session, mount

__all__ = ["Links", "failed", "make_client", "make_session", "mount", "resume", "stream"]

log = logging.getLogger(__name__)

# Reasons of a 403 that mean a full storage.
_QUOTA = frozenset({"quotaExceeded", "storageQuotaExceeded"})
# Google's answer to a key that signs with a wrong time.
_SKEWED = "reasonable timeframe"
# Answers that promise a better end to a repetition:
# https://cloud.google.com/storage/docs/retry-strategy
_AGAIN = frozenset({408, 410, 412, 429, 500, 502, 503, 504})


def make_client(
    project: str | None, endpoint: str, mounted: Callable[[requests.Session], None]
) -> storage.Client:
    """A client with the application default credentials.

    Parameters
    ----------
    mounted
        Makes a session obey the budget.

    Raises
    ------
    StorageError
        MISSINGCREDENTIALS.
    """
    options: dict[str, Any] = {"project": project}
    if endpoint:
        options["credentials"] = AnonymousCredentials()
        options["project"] = project or "none"
        options["client_options"] = {"api_endpoint": endpoint}
    try:
        client = storage.Client(**options)
    except (GoogleAuthError, OSError, ValueError) as err:
        # OSError and ValueError: the file named by
        # GOOGLE_APPLICATION_CREDENTIALS cannot be read, or holds no key; no
        # project is known.
        raise StorageError(
            f"no usable Google credentials: {_one_line(err)}", ErrorCode.MISSINGCREDENTIALS
        ) from err
    mounted(client._http)
    if client._http._auth_request_session is not None:
        # The one for tokens.
        mounted(client._http._auth_request_session)
    # google-cloud-storage 3.17 asks for the bucket in a thread of nobody's, to
    # decorate traces that we do not take; a log writer may not even read
    # buckets.
    client._bucket_metadata_cache = None
    return client


def resume(seconds: float) -> Any:
    """The library's own repetition of one request; resumes an upload where it
    broke.
    """
    return DEFAULT_RETRY.with_delay(initial=0.5, maximum=5.0, multiplier=2.0).with_timeout(seconds)


def _again(err: Exception) -> float | None:
    """Seconds to wait at least before another attempt; None if that is no use."""
    if isinstance(err, GoogleAPICallError):
        if err.code not in _AGAIN:
            return None
        return retry_after(getattr(err.response, "headers", {})) or 0.0
    if isinstance(err, GoogleAuthError) and _passing(err):
        return 0.0
    kinds = (
        requests.RequestException,
        TransportError,
        DataCorruption,
        ConnectionError,
        http.client.HTTPException,
    )
    return 0.0 if isinstance(err, kinds) else None


def _passing(err: GoogleAuthError) -> bool:
    """No token for now: who gives them is away, as a node's metadata server is
    for a pod that has just been started.
    """
    cause = err.args[0] if err.args else None
    return bool(getattr(err, "retryable", False)) or isinstance(cause, TransportError)


def failed(err: Exception, what: str, *, put: bool, skew: str = "") -> TransferFailed:
    """What a foreign exception means, in one line.

    Parameters
    ----------
    skew
        How far this node's clock is off, in words: a refusal's usual reason.
    """
    if isinstance(err, TransferFailed):
        return err
    cause = _cause(err)
    status = int(cause.code or 0) if isinstance(cause, GoogleAPICallError) else 0
    said = f"{what}: {_one_line(cause)}"
    if _SKEWED in said or _kind(cause) == "refused":
        said += skew or ("; the clock of this node may be off" if _SKEWED in said else "")
    return TransferFailed(said, _code(cause, put=put), again_s=_again(cause), status=status)


def _code(err: Exception, *, put: bool) -> ErrorCode:
    if isinstance(err, DefaultCredentialsError):
        return ErrorCode.MISSINGCREDENTIALS
    if isinstance(err, OSError) and err.errno in FULL:
        return ErrorCode.NOLOCALSPACE
    return direction(_kind(err), put=put)


def _kind(err: Exception) -> str:
    if isinstance(err, (BudgetSpent, requests.Timeout)):
        return "timeout"
    if isinstance(err, DataCorruption):
        return "mismatch"
    if _no_space(err):
        return "full"
    if isinstance(err, GoogleAuthError):
        return "failed" if isinstance(err, TransportError) or _passing(err) else "refused"
    if isinstance(err, GoogleAPICallError) and err.code in (401, 403):
        return "refused"
    return "missing" if isinstance(err, NotFound) else "failed"


def _no_space(err: Exception) -> bool:
    """True for a full storage: 507, or 403 with a quota as its reason."""
    if not isinstance(err, GoogleAPICallError):
        return False
    details = _answer(err).get("errors")
    reasons = {str(item.get("reason")) for item in details or () if isinstance(item, dict)}
    return err.code == 507 or (err.code == 403 and bool(reasons & _QUOTA))


def _answer(err: GoogleAPICallError) -> dict[str, Any]:
    """The `error` object of a refusal's JSON; empty if the answer is none.

    The library fills in `err.errors` for metadata calls only, not for uploads.
    """
    try:
        found = err.response.json()["error"]
    except (AttributeError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _cause(err: Exception) -> Exception:
    """What the library's own retry gave up on."""
    if isinstance(err, RetryError) and isinstance(err.cause, Exception):
        return err.cause
    return err


def _one_line(err: Exception) -> str:
    """The exception in at most 300 characters of one line; an HTML page is
    long.
    """
    kind, text = type(err).__name__, str(err)
    if isinstance(err, GoogleAPICallError):
        kind, text = f"HTTP {err.code}", str(_answer(err).get("message") or err.message)
    return f"{kind}: {one_line(text)}"
