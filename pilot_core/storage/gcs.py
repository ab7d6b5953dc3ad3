"""Google Cloud Storage: CRIC's copytool `gs`.

The SDK is loaded on the first transfer (`gcs_client.py`), so that a pilot that
waits for a job does not pay for it.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.attempt import POLICY, Insistent, skew
from pilot_core.storage.contract import Progress, Stored
from pilot_core.storage.sink import FileSink
from pilot_core.storage.source import FileSource

__all__ = ["GcsTool"]

log = logging.getLogger(__name__)

PUBLIC = "https://storage.googleapis.com"
# Where a browser asks for an object; the second wants a Google login first.
LINKS = {"public": PUBLIC, "authenticated": "https://storage.cloud.google.com"}

# Bucket names: https://cloud.google.com/storage/docs/buckets#naming. CRIC
# writes some endpoints with a port, which means nothing here.
_URL = re.compile(
    r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?::\d+)?/+(?P<name>[^\x00-\x1f\x7f]+)"
)


# Somebody stored an object of that name since we looked.
_PRECONDITION = 412

Fail = Callable[[Exception], Any]
"""Turns what the SDK raises into a `TransferFailed` of this transfer."""


class GcsTool(Insistent):
    """Stores and fetches objects with the google-cloud-storage client.

    Credentials are Google's application default ones. With
    `STORAGE_EMULATOR_HOST` set the library talks to that address, without any.

    Parameters
    ----------
    project
        Billing project; None for the credentials' own.
    endpoint
        Another address of the service, asked without credentials (an
        emulator).
        Give it the value of `STORAGE_EMULATOR_HOST` where that is set, so that
        `public_url` is right before the first transfer.
    link
        `public` or `authenticated`: which URL is handed out for an object.
    signed_s
        Hand out URLs that everybody may read from for so many seconds, 7 days
        at most; 0 for plain ones. Where the credentials cannot sign, that is
        said and the plain URL handed out.
    whole_bytes
        Up to this size a file goes in a single request, from memory; a larger
        one is streamed, and goes on where it broke.
    stall_s
        A request without any progress for so long is given up and repeated.
    """

    name = "gs"
    encodes = True

    def __init__(
        self,
        *,
        clock: Clock,
        project: str | None = None,
        endpoint: str = "",
        link: str = "public",
        signed_s: int = 0,
        policy: RetryPolicy = POLICY,
        whole_bytes: int = 4 * 1024 * 1024,
        stall_s: float = 60.0,
    ) -> None:
        super().__init__(clock=clock, policy=policy)
        self._project = project
        self._endpoint = _with_scheme(endpoint)
        self._link = LINKS[link]
        self._signed_s = signed_s
        self._whole_bytes = whole_bytes
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._client: Any = None
        self._session: Any = None
        self._links: Any = None
        self._generations: dict[str, int] = {}
        # The budget of the transfer that runs in this thread, for the adapter
        # below the library that cuts each request's timeout to it; and from
        # there the date of the last refusal.
        self._running = threading.local()

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
        bucket, name = _split(target)
        kit = _sdk()

        what = f"upload of {source.name} to {target}"
        fail = self._fail(kit, what, put=True)

        def once() -> Stored:
            with (
                self._within(budget, fail),
                FileSource(source, budget=budget, crc32c=True, progress=progress) as src,
            ):
                return self._put_once(kit, src, (bucket, name), (content_type, encoding), budget, fail)

        return self._insist(once, what=what, put=True, budget=budget)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        bucket, name = _split(source)
        kit = _sdk()
        what = f"download of {source}"

        def once() -> Stored:
            with self._within(budget, self._fail(kit, what, put=False)):
                return self._get_once(kit, (bucket, name), target, budget, progress)

        return self._insist(once, what=what, put=False, budget=budget)

    def public_url(self, target: str) -> str:
        """See `CopyTool.public_url`; an emulator's objects are read at the
        emulator.
        """
        bucket, name = _split(target)
        return f"{self._endpoint or self._link}/{bucket}/{quote(name, safe='/~')}"

    def _put_once(
        self,
        kit: ModuleType,
        src: FileSource,
        place: tuple[str, str],
        shown: tuple[str, str],
        budget: Budget,
        fail: Fail,
    ) -> Stored:
        """One attempt, which the library itself resumes where it broke for a
        while.

        Each upload names the generation it replaces (0: none), which makes
        every repetition safe: after an unclear failure the object is either
        ours already or still the old one, and we never fight a stranger.
        """
        target = f"gs://{place[0]}/{place[1]}"
        bucket = self._connect(kit).bucket(place[0])
        blob = bucket.blob(place[1])
        blob.content_encoding = shown[1] or None
        options = {
            "content_type": shown[0] or None,
            "timeout": self._stall_s,
            "if_generation_match": self._generations.get(target, 0),
            "retry": kit.resume(self._resume_s(budget)),
        }
        try:
            if src.size <= self._whole_bytes:
                blob.upload_from_file(src, size=src.size, checksum="crc32c", **options)
                size, crc32c, generation = blob.size, blob.crc32c, blob.generation
            else:
                url = blob.create_resumable_upload_session(size=src.size, checksum=None, **options)
                found = kit.stream(self._session, url, src, fail=fail, clock=self._clock, budget=budget)
                size, crc32c, generation = found.get("size"), found.get("crc32c"), found.get("generation")
        except Exception as err:
            if fail(err).status != _PRECONDITION:
                raise
            existing = bucket.get_blob(place[1], timeout=self._stall_s, retry=options["retry"])
            self._generations[target] = 0 if existing is None else int(existing.generation)
            if existing is None or not _ours(existing, src, shown):
                raise
            # An earlier request of ours got through, and its answer did not.
            size, crc32c, generation = existing.size, existing.crc32c, existing.generation
        self._generations[target] = int(generation or 0)
        _verify(target, src, size=int(size or 0), crc32c=crc32c or "")
        url = self._links.sign(blob) if self._links is not None else ""
        return Stored(target, url or self.public_url(target), src.size, src.sums.adler32)

    def _get_once(
        self, kit: ModuleType, place: tuple[str, str], target: Path, budget: Budget, progress: Progress | None
    ) -> Stored:
        """One attempt at a download."""
        source = f"gs://{place[0]}/{place[1]}"
        blob = self._connect(kit).bucket(place[0]).blob(place[1])
        resume = kit.resume(self._resume_s(budget))
        # Also tells whether it exists at all, before a file is made for it.
        blob.reload(timeout=self._stall_s, retry=resume)
        with FileSink(target, budget=budget, total=blob.size or 0, progress=progress) as sink:
            blob.download_to_file(sink, timeout=self._stall_s, checksum="crc32c", retry=resume)
            # Encoded objects are decoded on the way: their size is another
            # one.
            if blob.content_encoding != "gzip" and sink.sums.size != (blob.size or 0):
                said = f"{source} has {blob.size or 0} bytes, {sink.sums.size} came"
                raise StorageError(said, ErrorCode.GETADMISMATCH)
            sink.commit()
        return Stored(source, self.public_url(source), sink.sums.size, sink.sums.adler32)

    def _resume_s(self, budget: Budget) -> float:
        """Seconds the library may repeat one request before the file is begun
        again.
        """
        return budget.timeout(2 * self._stall_s)

    def _connect(self, kit: ModuleType) -> Any:
        """The client, made once and shared by all threads."""
        with self._lock:
            if self._client is None:
                manners = (self._left, self._stall_s, self._refused)
                self._session = kit.make_session(*manners)
                self._client = kit.make_client(
                    self._project, self._endpoint, lambda session: kit.mount(session, *manners)
                )
                if self._signed_s:
                    self._links = kit.Links(self._session, self._signed_s, self._clock)
                if self._client.api_endpoint != PUBLIC:
                    self._endpoint = _with_scheme(self._client.api_endpoint)
            return self._client

    def _left(self) -> float:
        """Seconds left to the transfer in this thread."""
        budget: Budget | None = getattr(self._running, "budget", None)
        return self._stall_s if budget is None else budget.timeout(budget.left)

    def _refused(self, date: str) -> None:
        self._running.date = date

    def _fail(self, kit: ModuleType, what: str, *, put: bool) -> Fail:
        """Words for what the SDK raises in a transfer."""
        return lambda err: kit.failed(
            err, what, put=put, skew=skew(getattr(self._running, "date", ""), self._clock)
        )

    @contextlib.contextmanager
    def _within(self, budget: Budget, fail: Fail) -> Iterator[None]:
        """A transfer in this thread: its budget for the adapter, its errors as
        ours.
        """
        self._running.budget, self._running.date = budget, ""
        try:
            yield
        except StorageError:
            raise
        except Exception as err:  # the SDK lets through errors of five libraries
            raise fail(err) from err
        finally:
            self._running.budget = None


def _sdk() -> ModuleType:
    """The module that holds everything of the SDK, loaded on first use."""
    try:
        from pilot_core.storage import gcs_client
    except ImportError as err:
        raise StorageError(
            f"copytool gs needs the package google-cloud-storage: {err}", ErrorCode.MIDDLEWAREIMPORTFAILURE
        ) from err
    return gcs_client


def _split(url: str) -> tuple[str, str]:
    """Bucket and object name of a `gs://` URL."""
    found = _URL.fullmatch(url)
    if found is None or any(part in (".", "..") for part in found["name"].split("/")):
        raise StorageError(f"{url!r} is no gs://<bucket>/<object>", ErrorCode.NOSTORAGEPROTOCOL)
    return found["bucket"], found["name"]


def _with_scheme(endpoint: str) -> str:
    """`host:port` is a usual value of STORAGE_EMULATOR_HOST; a URL needs a
    scheme.
    """
    endpoint = endpoint.rstrip("/")
    return endpoint if not endpoint or "://" in endpoint else f"http://{endpoint}"


def _ours(existing: Any, src: FileSource, shown: tuple[str, str]) -> bool:
    """Does the object that is there hold what we sent?"""
    kind, encoding = shown
    known = src.sums.size == src.size == existing.size and existing.crc32c == src.sums.crc32c
    return known and kind in ("", existing.content_type) and encoding == (existing.content_encoding or "")


def _verify(target: str, src: FileSource, *, size: int, crc32c: str) -> None:
    """Compare what the service says it holds with what was read here."""
    if size != src.size:
        raise StorageError(f"{target} has {size} bytes, {src.size} were sent", ErrorCode.PUTADMISMATCH)
    if src.sums.crc32c and crc32c != src.sums.crc32c:
        raise StorageError(
            f"{target} has crc32c {crc32c}, sent was {src.sums.crc32c}", ErrorCode.PUTADMISMATCH
        )
