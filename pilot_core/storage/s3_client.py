"""Amazon's SDK for `s3.py`: the clients, and what a failure means."""

import http.client
import logging
import threading
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)

from pilot_core.base.budget import Budget, BudgetSpent
from pilot_core.base.clock import Clock
from pilot_core.base.httptime import retry_after
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import FULL, TransferFailed, direction, one_line, skew

__all__ = ["Clients", "failed"]

log = logging.getLogger(__name__)

# The SDK fixes a client's timeouts when it is made; one client a step, so that
# the last request of a transfer does not run on far beyond its budget.
# Seconds.
_STEPS_S = (60.0, 20.0, 5.0, 1.0, 0.3)

_TIMEOUT = (ConnectTimeoutError, ReadTimeoutError)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)

# Error codes of the service,
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
# Ceph's, by what they mean to us.
_KINDS: Mapping[str, str] = {
    "NoSuchKey": "missing",
    "NoSuchBucket": "failed",
    "AccessDenied": "refused",
    "ExpiredToken": "refused",
    "InvalidAccessKeyId": "refused",
    "InvalidToken": "refused",
    "RequestTimeTooSkewed": "refused",
    "SignatureDoesNotMatch": "refused",
    "QuotaExceeded": "full",
    "XMinioStorageFull": "full",
    "BadDigest": "mismatch",
    "RequestTimeout": "timeout",
}
# By status, where the answer has no code that we know: HEAD has no body.
_STATUS: Mapping[int, str] = {401: "refused", 403: "refused", 404: "missing", 507: "full"}

# What may pass by itself. An upload that is gone is begun anew.
_AGAIN = frozenset({"BadDigest", "NoSuchUpload", "OperationAborted", "RequestTimeout", "SlowDown"})
_AGAIN_STATUS = frozenset({408, 429, 500, 502, 503, 504})


class Clients:
    """Clients for one endpoint each, made on first use and shared by all
    threads.

    Parameters
    ----------
    profile
        Section of `~/.aws/credentials`; empty for the SDK's own search.
    stall_s
        Longest silence of a healthy service.
    """

    def __init__(self, profile: str, stall_s: float) -> None:
        self._profile = profile
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._session: Any = None
        self._made: dict[tuple[str, float], Any] = {}

    def get(self, endpoint: str, budget: Budget) -> Any:
        """A client whose next request ends with the budget.

        Raises
        ------
        BudgetSpent, BotoCoreError
        """
        at_most = min(self._stall_s, budget.timeout(3 * self._stall_s) / 3)
        step = next((s for s in _STEPS_S if s <= at_most), _STEPS_S[-1])
        with self._lock:
            if (endpoint, step) not in self._made:
                self._made[endpoint, step] = self._make(endpoint, step)
            return self._made[endpoint, step]

    def _make(self, endpoint: str, timeout_s: float) -> Any:
        if self._session is None:
            self._session = boto3.Session(profile_name=self._profile or None)
        config = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            # Also for presigned URLs, which the SDK signs in the old way else.
            signature_version="s3v4",
            # Repeated by us, within the budget: the SDK's waits know of none.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=16,
            s3={"addressing_style": "path"} if endpoint else {},
            # The SDK's own checksums need a service of 2025; Content-MD5 is
            # understood by every one, Ceph's gateways included.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return self._session.client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=self._session.region_name or "us-east-1",
            config=config,
        )


def failed(err: Exception, what: str, *, put: bool, clock: Clock) -> TransferFailed:
    """What a foreign exception means, in one line."""
    if isinstance(err, TransferFailed):
        return err
    if isinstance(err, StorageError):
        return TransferFailed(err.diag, err.code)
    if isinstance(err, ClientError):
        return _refusal(err, what, put=put, clock=clock)
    said = one_line(f"{what}: {type(err).__name__}: {err}")
    if isinstance(err, _NO_CREDENTIALS):
        return TransferFailed(said, ErrorCode.MISSINGCREDENTIALS)
    if isinstance(err, (BudgetSpent, *_TIMEOUT)):
        again_s = None if isinstance(err, BudgetSpent) else 0.0
        return TransferFailed(said, direction("timeout", put=put), again_s=again_s)
    if isinstance(err, OSError) and err.errno in FULL:
        return TransferFailed(said, ErrorCode.NOLOCALSPACE)
    # A body that breaks off comes as urllib3's own exception, an
    # HTTPException.
    passing = isinstance(err, (HTTPClientError, ConnectionError, http.client.HTTPException)) or (
        isinstance(err, BotoCoreError) and "onnection" in type(err).__name__
    )
    return TransferFailed(said, direction("failed", put=put), again_s=0.0 if passing else None)


def _refusal(err: ClientError, what: str, *, put: bool, clock: Clock) -> TransferFailed:
    """An answer of the service that says no."""
    answer = err.response
    code = str(answer.get("Error", {}).get("Code", ""))
    about = answer.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode", 0))
    headers = {key.lower(): str(value) for key, value in about.get("HTTPHeaders", {}).items()}
    kind = _KINDS.get(code) or _STATUS.get(status, "failed")
    said = f"{what}: HTTP {status} {code}: {answer.get('Error', {}).get('Message', '')}"
    if kind == "refused":
        said += skew(headers.get("date", ""), clock)
    passing = code in _AGAIN or status in _AGAIN_STATUS
    return TransferFailed(
        one_line(said, at_most=500),
        direction(kind, put=put),
        again_s=(retry_after(headers) or 0.0) if passing else None,
        status=status,
    )
