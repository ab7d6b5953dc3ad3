"""Nothing secret is written: what a log line, a record or a report must not
hold.
"""

import json
import logging
import re
import string
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["MASK", "RedactingFilter", "Redactor", "secret_values", "url_passwords"]

MASK = "***"

# A JWT. What only begins like one is matched as well, and left as it is:
# searched again from each `eyJ` in it, a line of a payload's own making would
# hold up every thread of the pilot for hours.
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}+(?P<rest>\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+)?")

# Other shapes that are secret wherever they stand: bearer tokens, signed URL
# parameters, private keys and certificates' PEM blocks, AWS and Google keys.
# The look ahead at the first letter makes it four times as fast. The time of
# each grows with the text, not with its square.
_SHAPES = re.compile(
    r"(?=[bBxXsSA-])(?:"
    r"(?P<bearer>(?i:bearer)\s++)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<param>(?i:x-goog-signature|x-amz-signature|sig|signature)=)[A-Za-z0-9%+/=_-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{35}\b"
    r")",
    re.DOTALL,
)
# One cheap look decides whether the expression above has to run at all.
_HINTS = (
    "earer",
    "ignature=",
    "sig=",
    "PRIVATE KEY",
    "AKIA",
    "ASIA",
    "AIza",
    "IGNATURE=",
    "EARER",
    "SIG=",
)

# The password in a URL, which a proxy or an S3 endpoint may have.
_LOGIN = re.compile(r"://[^\s/@:\"'\\]*+:([^\s/@\"'\\]++)@")

# A value shorter than this is more likely a word than a secret; masking it
# would garble every line that holds the word.
_SHORTEST = 6

# A key has dozens of lines in base64, each a value of its own. Text without one
# long run of such letters holds none of them: ten times as fast to find out.
_RUN = b"x" * 60
_LETTERS = (string.ascii_letters + string.digits + "+/=").encode()
_BASE64 = bytes(_RUN[0] if letter in _LETTERS else 32 for letter in range(256))


def secret_values(text: str) -> Iterator[str]:
    """A secret text and, where it is a JSON document, each value in it.

    A job's `secrets` come as one document; its payload takes the values out
    and prints, if anything, one of those.
    """
    if text:
        yield text
        try:
            yield from _values(json.loads(text))
        except (ValueError, RecursionError):
            return


def url_passwords(texts: Iterable[str]) -> Iterator[str]:
    """The password in each text that is a URL with one:
    `http://user:password@proxy:3128`.
    """
    for text in texts:
        yield from _LOGIN.findall(text)


def _values(document: object) -> Iterator[str]:
    if isinstance(document, Mapping):
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from _values(part)
    elif isinstance(document, str):
        # A document in a document: PanDA keeps each secret as text.
        yield from secret_values(document) if document.lstrip()[:1] in ("{", "[") else (document,)
    elif document is not None and not isinstance(document, bool):
        yield str(document)


def _spellings(value: str) -> tuple[str, ...]:
    """A value as it is, and as it stands in the two usual forms of JSON: most
    have only one.
    """
    return value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]


def _maskable(values: Iterable[str]) -> frozenset[str]:
    """The values and their lines in all spellings, without those too short to
    be masked.
    """
    parts = {part.strip() for v in values for part in (v, *v.splitlines())}
    return frozenset(spelt for part in parts if len(part) >= _SHORTEST for spelt in _spellings(part))


def _is_block(value: str) -> bool:
    return (
        len(value) >= len(_RUN)
        and value.isascii()
        and value.encode().translate(_BASE64) == _RUN[:1] * len(value)
    )


def _longest_first(values: Iterable[str]) -> tuple[str, ...]:
    """So that a value that contains another one goes whole."""
    return tuple(sorted(values, key=len, reverse=True))


class Redactor:
    """Masks known secret values and things that look like secrets.

    Values are added while the pilot runs (a job's `secrets`, a token read
    from disk). All is safe from any thread: who masks sees the values of
    before or those of after, never fewer.

    Parameters
    ----------
    values
        Masked for good, whatever job is run.
    own
        Further ones that may change: the pilot's own credentials. Asked now
        and at each `renew`.
    """

    def __init__(self, values: Iterable[str] = (), *, own: Callable[[], Iterable[str]] = lambda: ()) -> None:
        self._lock = threading.Lock()
        self._own = own
        self._lasting = _maskable((*values, *own()))
        self._assign(self._lasting)

    def add(self, *values: str) -> None:
        """Mask these values from now on; short ones are passed over."""
        fresh = _maskable(values)
        with self._lock:
            self._assign(fresh.union(self._values))

    def renew(self, *values: str) -> None:
        """Mask these instead of those added before, for a job of its own.

        What one user calls a secret may be a word in another one's log.
        """
        fresh, own = _maskable(values), _maskable(self._own())
        with self._lock:
            # What was ours stays masked: a renewed token's forerunner is valid.
            self._lasting |= own
            self._assign(fresh | self._lasting)

    def _assign(self, values: Iterable[str]) -> None:
        self._values = _longest_first(values)
        words = tuple(value for value in self._values if not _is_block(value))
        self._parts = words, tuple(value for value in self._values if _is_block(value))

    def known_bytes(self) -> tuple[bytes, ...]:
        """The known values as they stand in a file, the longest first.

        A lone surrogate cannot be there as such, only spelt `\\udc80`.
        """
        return tuple(value.encode("utf-8", "backslashreplace") for value in self._values)

    @property
    def known(self) -> int:
        """How many values are masked; more with each new one, never fewer in
        one job.
        """
        return len(self._values)

    def text(self, text: str) -> str:
        """`text` with every secret replaced by `***`."""
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        if "eyJ" in text:
            text = _TOKEN.sub(lambda m: MASK if m["rest"] else m[0], text)
        if any(hint in text for hint in _HINTS):
            text = _SHAPES.sub(lambda m: (m["bearer"] or m["param"] or "") + MASK, text)
        return text

    def suspects(self, text: str) -> bool:
        """Whether `text` may hold a secret: False is sure, True is not. Cheap."""
        words, blocks = self._parts
        for value in words:
            if value in text:
                return True
        if blocks and _RUN in text.encode("utf-8", "replace").translate(_BASE64):
            return True
        # The same hints as `_HINTS`, written out: once per log record, and a
        # single letter that most lines lack is found ten times as fast as a
        # word.
        return (
            "earer" in text
            or "EARER" in text
            or ("=" in text and ("ig=" in text or "IG=" in text or "ature=" in text or "ATURE=" in text))
            or ("J" in text and "eyJ" in text)
            or ("I" in text and ("AKIA" in text or "ASIA" in text or "AIza" in text or "PRIVATE KEY" in text))
        )

    def suspects_in(self, value: object) -> bool:
        """`suspects` for each text in a JSON value, names included."""
        if isinstance(value, str):
            return self.suspects(value)
        if isinstance(value, dict):
            return any(self.suspects_in(k) or self.suspects_in(v) for k, v in value.items())
        return isinstance(value, list) and any(map(self.suspects_in, value))

    def data(self, data: bytes) -> bytes:
        """Like `text`, for bytes in UTF-8; bytes without a secret come back as
        they were.
        """
        decoded = data.decode("utf-8", "surrogateescape")
        clean = self.text(decoded)
        return data if clean is decoded or clean == decoded else clean.encode("utf-8", "surrogateescape")


class RedactingFilter(logging.Filter):
    """A logging filter that masks secrets in the finished message and in
    tracebacks.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        message, fits = _message(record)
        clean = self._redactor.text(message)
        if clean != message or not fits:
            record.msg, record.args = clean, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._redactor.text(record.exc_text)
        return True


def _message(record: logging.LogRecord) -> tuple[str, bool]:
    """The finished message, and whether the arguments fit it.

    A filter that raises, raises in whoever logs: that a library's log call is
    wrong must end no thread of ours. The arguments stay unsaid: printed by
    `logging` itself, as it does with a wrong call, they would pass no mask.
    """
    try:
        return record.getMessage(), True
    except Exception as err:  # noqa: BLE001 - any `__str__` may raise anything
        asked = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{asked!r} was logged with arguments that do not fit it ({type(err).__name__})", False
