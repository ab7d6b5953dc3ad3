"""One GET of a file, for all who fetch one: bounded time, bounded size, whole."""

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.base.attended import attended
from pilot_core.base.budget import Budget
from pilot_core.base.httptime import retry_after

if TYPE_CHECKING:
    import requests

__all__ = ["DownloadFailed", "content_length", "download", "worth_another_try"]

_PIECE = 64 * 1024
# Longest silence of a server that is well, seconds.
_SILENCE_S = 30.0
# Answers to a request that came at the wrong time; others from 400 to 499 say
# that it is wrong.
_AGAIN = (408, 425, 429)


class DownloadFailed(Exception):
    """What one attempt came to.

    Attributes
    ----------
    again_s
        Seconds to wait at least before another attempt; None if it is no use.
    status
        HTTP status, 0 if there was no usable answer.
    """

    def __init__(self, said: str, *, again_s: float | None = None, status: int = 0) -> None:
        super().__init__(said)
        self.again_s = again_s
        self.status = status


def worth_another_try(err: Exception) -> float | None:
    """The `again` of `retry` for downloads."""
    return err.again_s if isinstance(err, DownloadFailed) else None


def download(
    url: str,
    take: Callable[[bytes], object],
    *,
    most_bytes: int,
    budget: Budget,
    stop: threading.Event,
    ca: Path | None = None,
    redirects: bool = True,
) -> None:
    """One attempt at the http(s) URL `url`; it is over when `budget` is,
    whatever the server does.

    Parameters
    ----------
    take
        Gets the pieces in order, in another thread; it may have had some when
        this fails. Its own `OSError`s come through as they are.
    most_bytes
        Whatever is longer is not what was asked for.
    ca
        CA bundle, or folder of hashed CA certificates; None for the bundle
        that comes with requests. Servers are always verified.
    redirects
        False: a redirect is a failure like other answers than 200.

    Raises
    ------
    DownloadFailed
        Worth another try: no answer, one that breaks off or makes no sense,
        408, 425, 429, 5xx. Final: any other status than 200, TLS, too long, an
        https URL that led to http.
    BudgetSpent
        The time was over first.
    InterruptedError
        `stop` was set first.
    """

    def pour() -> None:
        with contextlib.closing(
            _pieces(url, most_bytes, budget, verify=str(ca) if ca else True, follow=redirects)
        ) as pieces:
            for piece in pieces:
                take(piece)

    attended(pour, name="download", budget=budget, clock=budget.clock, stop=stop)


def content_length(headers: Mapping[str, str]) -> int | None:
    """Bytes of a body as promised by an answer; None if nothing is.

    Raises
    ------
    ValueError
        It is no number. Such an answer is to be thrown away (RFC 9112, 6.3),
        unless it says the same number twice.
    """
    text = headers.get("Content-Length")
    if text is None:
        return None
    said = {part.strip() for part in text.split(",")}
    number = said.pop()
    # Python refuses to convert thousands of digits; 10^18 bytes are no file.
    if said or not (number.isascii() and number.isdecimal() and len(number) <= 18):
        raise ValueError(f"Content-Length {text[:40]!r} is no number")
    return int(number)


def _pieces(
    url: str, most_bytes: int, budget: Budget, *, verify: bool | str, follow: bool
) -> Generator[bytes, None, None]:
    import requests  # an idle pilot and `--help` do without it
    import urllib3

    try:
        with requests.get(
            url,
            # Connecting and waiting may take so long each.
            timeout=min(_SILENCE_S, budget.timeout(budget.left) / 2),
            stream=True,
            verify=verify,
            allow_redirects=follow,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": _without_body},
        ) as answer:
            _check(url, answer)
            promised = content_length(answer.headers)
            size = 0
            for piece in answer.iter_content(_PIECE):
                budget.timeout(_SILENCE_S)
                size += len(piece)
                if size > most_bytes:
                    raise DownloadFailed(f"more than {most_bytes} bytes")
                yield piece
            # urllib3 1.x, which many images still hold, does not mind.
            if promised is not None and "Content-Encoding" not in answer.headers and promised != size:
                raise DownloadFailed(f"{size} of {promised} bytes came", again_s=0.0)
    except requests.exceptions.SSLError as err:
        raise DownloadFailed(f"TLS: {_words(err)}") from err
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as err:
        raise DownloadFailed(f"{type(err).__name__}: {_words(err)}", again_s=0.0) from err


def _without_body(answer: "requests.Response", *_args: Any, **_options: Any) -> None:
    """Hang up on a redirect: the library would read all of its body, however
    long, before it goes on.
    """
    if answer.is_redirect:
        answer.close()


def _check(url: str, answer: "requests.Response") -> None:
    status = answer.status_code
    if status != 200:
        passes = status in _AGAIN or status >= 500
        raise DownloadFailed(
            _line(f"HTTP {status} {answer.reason}"),
            again_s=(retry_after(answer.headers) or 0.0) if passes else None,
            status=status,
        )
    if url.startswith("https:") and not answer.url.startswith("https:"):
        raise DownloadFailed("led to a place that is not https")


def _words(err: Exception) -> str:
    """The innermost reason: it says more than the libraries around it."""
    while err.args and isinstance(err.args[0], Exception):
        err = err.args[0]
    return _line(str(getattr(err, "reason", None) or err))


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
