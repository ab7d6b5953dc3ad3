"""A file as one resumable upload, streamed: large logs need no memory, no
pauses.

The client library sends a resumable upload in pieces, holds each in memory and
waits for an answer between two. The protocol allows one piece of any size,
which is resumed where it broke:
https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import re
import threading
from collections.abc import Callable
from typing import Any

import requests
from google.api_core.exceptions import from_http_response

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.base.retry import RetryPolicy, retry
from pilot_core.errors import StorageError
from pilot_core.storage.attempt import TransferFailed
from pilot_core.storage.source import FileSource

__all__ = ["stream"]

# Resumptions of one upload; at most 1+2+4+8 = 15 s of waiting in all. Then the
# file is begun again by the caller.
POLICY = RetryPolicy(attempts=5, first_s=1.0, cap_s=8.0)

# Nothing more can be sent to this upload: not found, gone, precondition
# failed.
_OVER = (404, 410, 412)


def stream(
    session: requests.Session,
    url: str,
    src: FileSource,
    *,
    fail: Callable[[Exception], TransferFailed],
    clock: Clock,
    budget: Budget,
    policy: RetryPolicy = POLICY,
) -> dict[str, Any]:
    """Send `src` to an upload that has been begun; returns the object's
    metadata.

    Parameters
    ----------
    session
        Needs no credentials: `url` holds the right to write this one object.
        Its adapter sets the timeouts.
    url
        From `create_resumable_upload_session`.
    fail
        Puts a failure into words, without `url`, which must not reach a log.

    Raises
    ------
    TransferFailed, SourceChanged
        The last failure. What the upload itself says no to (a precondition, an
        upload that is gone) is final here.
    """
    begun = False

    def once() -> dict[str, Any]:
        nonlocal begun
        offset = 0
        if begun:
            answer = session.put(url, headers={"Content-Range": f"bytes */{src.size}"}, allow_redirects=False)
            if answer.status_code in (200, 201):
                # Whole already, only the answer was lost.
                return dict(answer.json())
            offset = _stored(answer)
        begun = True
        src.seek(offset)
        content_range = f"bytes {src.tell()}-{src.size - 1}/{src.size}"
        answer = session.put(url, data=src, headers={"Content-Range": content_range}, allow_redirects=False)
        if answer.status_code not in (200, 201):
            raise from_http_response(answer)
        return dict(answer.json())

    def told() -> dict[str, Any]:
        try:
            return once()
        except StorageError:
            raise
        except Exception as err:
            raise fail(err) from err

    return retry(
        told,
        policy=policy,
        again=lambda err: (
            err.again_s if isinstance(err, TransferFailed) and err.status not in _OVER else None
        ),
        clock=clock,
        budget=budget,
        stop=threading.Event(),
        what=f"upload of {src.path.name}",
    )


def _stored(answer: requests.Response) -> int:
    """Bytes that the service holds, from its 308 (`Range: bytes=0-<last>`)."""
    if answer.status_code != 308:
        raise from_http_response(answer)
    found = re.fullmatch(r"bytes=0-(\d+)", answer.headers.get("Range", ""))
    return int(found[1]) + 1 if found else 0
