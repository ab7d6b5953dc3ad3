"""S3 and what speaks like it (Ceph at SLAC): CRIC's copytool `s3`.

The SDK is loaded on the first transfer (`s3_client.py`). Files go in pieces of
one size, each with its Content-MD5, which the service checks before it takes
them; the object shows when the last one is confirmed, never a part of it.
"""

import base64
import contextlib
import functools
import hashlib
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy, retry
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import POLICY, Insistent, TransferFailed, again
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource

__all__ = ["S3Tool"]

log = logging.getLogger(__name__)

# Smallest pieces of an upload in parts are 5 MiB, and it has at most 10 000:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_PIECE = 8 * 1024 * 1024
_MOST_PIECES = 10_000

# Attempts at one piece; at most 1+2+4 = 7 s of waiting. Then the file is begun
# again.
PIECE_POLICY = RetryPolicy(attempts=4, first_s=1.0, cap_s=8.0)

# Neither quoted nor with a query: what follows the host is the name, byte for
# byte.
_URL = re.compile(r"(?P<scheme>s3|https?)://(?P<host>[^/@\x00-\x20]+)/+(?P<path>[^\x00-\x1f\x7f]+)")

_GONE = 404
_READ = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Object:
    """A place in a bucket; an empty endpoint is Amazon."""

    endpoint: str
    bucket: str
    key: str


class S3Tool(Insistent):
    """Stores and fetches objects with boto3.

    URLs are `https://<host>/<bucket>/<key>` (SLAC's log buckets),
    `s3://<host>:<port>/<bucket>/<key>` (CRIC's) or `s3://<bucket>/<key>`,
    which
    is in `endpoint` or, without one, at Amazon.

    Pieces of an upload that was killed stay in the bucket, unseen, until its
    rule AbortIncompleteMultipartUpload removes them.

    Parameters
    ----------
    signed_s
        Hand out presigned URLs that end after so many seconds, 7 days at
        most; 0 for plain ones.
    profile
        PANDA_PILOT_AWS_PROFILE; empty for the SDK's own search for
        credentials.
    endpoint
        Service for `s3://<bucket>/<key>`.
    piece_bytes
        Up to this size a file goes in one request, a larger one in such
        pieces.
        One piece a transfer is held in memory.
    stall_s
        A request without any progress for so long is given up and repeated.
    """

    name = "s3"
    encodes = True

    def __init__(
        self,
        *,
        clock: Clock,
        profile: str = "",
        endpoint: str = "",
        signed_s: int = 0,
        policy: RetryPolicy = POLICY,
        piece_bytes: int = _PIECE,
        stall_s: float = 60.0,
    ) -> None:
        super().__init__(clock=clock, policy=policy)
        self._profile = profile
        self._endpoint = endpoint.rstrip("/")
        self._signed_s = signed_s
        self._piece_bytes = piece_bytes
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._clients: Any = None

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",
        encoding: str = "",
        progress: Progress | None = None,
    ) -> Stored:
        """See `EncodingTool.put`. An object of that name is replaced at once."""
        place = _split(target, self._endpoint)
        ask = self._asker(place, f"upload of {source.name} to {target}", budget, put=True)
        told = {"ContentType": content_type, "ContentEncoding": encoding}
        kind = {key: value for key, value in told.items() if value}

        def once() -> Stored:
            with FileSource(source, budget=budget, progress=progress) as src:
                if src.size <= self._piece_bytes:
                    _put_whole(ask, src, kind)
                else:
                    self._put_pieces(ask, src, kind)
                url = ask.signed_url(self._signed_s) if self._signed_s else ""
                return Stored(target, url or self.public_url(target), src.size, src.sums.adler32)

        return self._insist(once, what=ask.what, put=ask.put, budget=budget)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        place = _split(source, self._endpoint)
        ask = self._asker(place, f"download of {source}", budget, put=False)

        def once() -> Stored:
            answer = ask("get_object")
            size = int(answer["ContentLength"])
            digest = hashlib.md5(usedforsecurity=False)
            with (
                contextlib.closing(answer["Body"]) as body,
                FileSink(target, budget=budget, total=size, progress=progress) as sink,
            ):
                while data := ask.told(lambda: body.read(_READ)):
                    sink.write(data)
                    digest.update(data)
                if sink.sums.size != size:
                    said = f"{source} has {size} bytes, {sink.sums.size} came"
                    raise StorageError(said, ErrorCode.GETADMISMATCH)
                _compare(ask, answer, digest.hexdigest())
                sink.commit()
            return Stored(source, self.public_url(source), size, sink.sums.adler32)

        return self._insist(once, what=ask.what, put=ask.put, budget=budget)

    def public_url(self, target: str) -> str:
        """See `CopyTool.public_url`."""
        place = _split(target, self._endpoint)
        key = quote(place.key, safe="/~")
        if place.endpoint:
            return f"{place.endpoint}/{place.bucket}/{key}"
        return f"https://{place.bucket}.s3.amazonaws.com/{key}"

    def _put_pieces(self, ask: "_Asker", src: FileSource, kind: dict[str, str]) -> None:
        """An upload in parts, one after the other; a failed one leaves
        nothing.
        """
        piece_bytes = max(self._piece_bytes, -(-src.size // _MOST_PIECES))
        upload = {"UploadId": ask("create_multipart_upload", **kind)["UploadId"]}
        parts: list[dict[str, Any]] = []
        digests = b""
        try:
            while data := src.read(piece_bytes):
                digest = hashlib.md5(data, usedforsecurity=False).digest()
                number = len(parts) + 1
                options = {"PartNumber": number, "Body": data, "ContentMD5": _base64(digest), **upload}
                answer = retry(
                    functools.partial(ask, "upload_part", **options),
                    policy=PIECE_POLICY,
                    again=_again_piece,
                    clock=self._clock,
                    budget=ask.budget,
                    stop=threading.Event(),
                    what=f"piece {number} of {ask.what}",
                )
                parts.append({"ETag": answer["ETag"], "PartNumber": number})
                digests += digest
            answer = ask("complete_multipart_upload", MultipartUpload={"Parts": parts}, **upload)
        except BaseException:
            with contextlib.suppress(StorageError):
                ask("abort_multipart_upload", **upload)
            raise
        whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        _compare(ask, answer, f"{whole}-{len(parts)}")

    def _asker(self, place: "_Object", what: str, budget: Budget, *, put: bool) -> "_Asker":
        kit = _sdk()
        with self._lock:
            if self._clients is None:
                self._clients = kit.Clients(self._profile, self._stall_s)
        fail = functools.partial(kit.failed, what=what, put=put, clock=self._clock)
        return _Asker(self._clients, place, what, budget, fail, put)


@dataclass(frozen=True, slots=True)
class _Asker:
    """Requests about one object; their failures are `TransferFailed`s."""

    clients: Any
    place: _Object
    what: str
    budget: Budget
    fail: Callable[[Exception], TransferFailed]
    put: bool

    def __call__(self, method: str, **options: Any) -> Any:
        def ask() -> Any:
            client = self.clients.get(self.place.endpoint, self.budget)
            return getattr(client, method)(Bucket=self.place.bucket, Key=self.place.key, **options)

        return self.told(ask)

    def signed_url(self, seconds: int) -> str:
        """A URL that everybody may read from for so long; no request is sent."""
        client = self.clients.get(self.place.endpoint, self.budget)
        place = {"Bucket": self.place.bucket, "Key": self.place.key}
        try:
            return str(client.generate_presigned_url("get_object", place, ExpiresIn=seconds))
        except Exception as err:  # noqa: BLE001 - a link is not worth an upload, whatever is raised
            log.error("links are not signed: %s", self.fail(err).diag)
            return ""

    def told(self, call: Callable[[], Any]) -> Any:
        """Foreign exceptions as ours."""
        try:
            return call()
        except Exception as err:  # the SDK lets through errors of urllib3 and http.client
            raise self.fail(err) from err


def _put_whole(ask: _Asker, src: FileSource, kind: dict[str, str]) -> None:
    """A small file in one request."""
    data = src.read()
    digest = hashlib.md5(data, usedforsecurity=False)
    answer = ask("put_object", Body=data, ContentMD5=_base64(digest.digest()), **kind)
    _compare(ask, answer, digest.hexdigest())


def _compare(ask: _Asker, answer: Any, md5: str) -> None:
    """Compare the ETag with the md5 that it is wherever the service does not
    encrypt.

    Another kind of ETag says nothing: the service checked Content-MD5 then.
    """
    etag = str(answer.get("ETag", "")).strip('"')
    opaque = "ServerSideEncryption" in answer or "SSECustomerAlgorithm" in answer
    if opaque or not re.fullmatch(r"[0-9a-f]{32}(-\d+)?", etag) or ("-" in etag) != ("-" in md5):
        return
    if etag != md5:
        code = ErrorCode.PUTADMISMATCH if ask.put else ErrorCode.GETADMISMATCH
        raise StorageError(f"{ask.what}: the service's md5 is {etag}, ours {md5}", code)


def _again_piece(err: Exception) -> float | None:
    """Like `again`, but nothing can be sent to an upload that is gone."""
    return None if isinstance(err, TransferFailed) and err.status == _GONE else again(err)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _sdk() -> ModuleType:
    """The module that holds everything of the SDK, loaded on first use."""
    try:
        from pilot_core.storage import s3_client
    except ImportError as err:
        raise StorageError(
            f"copytool s3 needs the package boto3: {err}", ErrorCode.MIDDLEWAREIMPORTFAILURE
        ) from err
    return s3_client


def _split(url: str, endpoint: str) -> _Object:
    """Endpoint, bucket and key of a URL."""
    found = _URL.fullmatch(url)
    names = [part for part in found["path"].split("/") if part] if found else []
    if found is None or any(part in (".", "..") for part in names):
        raise _no_object(url)
    host = found["host"]
    if found["scheme"] == "s3" and ":" not in host:
        place = _Object(endpoint, host, "/".join(names))
    else:
        scheme = "https" if found["scheme"] == "s3" else found["scheme"]
        place = _Object(f"{scheme}://{host}", names[0] if names else "", "/".join(names[1:]))
    if not place.key:
        raise _no_object(url)
    return place


def _no_object(url: str) -> StorageError:
    return StorageError(f"{url!r} names no S3 endpoint, bucket and key", ErrorCode.NOSTORAGEPROTOCOL)
