"""The pilot's own private keys and tokens, for the redactor.

A payload beside the pilot can read, and print, what lies in the pilot's files.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pilot_core.base.redact import url_passwords

__all__ = ["own_secrets"]

_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)(?:-----END |\Z)", re.DOTALL)
_MOST = 256 * 1024
_NOTHING: Mapping[str, str] = MappingProxyType({})


def own_secrets(files: Iterable[Path | None], environment: Mapping[str, str] = _NOTHING) -> Iterator[str]:
    """What is private in each file: of a PEM its keys and not its
    certificates, of a Google account's JSON its key, of a token all. A file
    that is not there, or not readable, has none.

    `environment` names Google's, and may hold URLs with passwords.
    """
    yield from url_passwords(environment.values())
    google = environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    for file in (*files, Path(google) if google else None):
        # A secret of Kubernetes is a link.
        with contextlib.suppress(OSError):
            if file is not None:
                with file.open("rb") as src:
                    yield from _private(src.read(_MOST).decode("utf-8", "replace"))


def _private(text: str) -> Iterator[str]:
    if "PRIVATE KEY-----" in text:
        # In JSON the lines of a key are parted by an escape.
        yield from _KEY.findall(text.replace("\\n", "\n"))
        return
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        yield from (str(document[name]) for name in ("client_secret", "refresh_token") if name in document)
    elif text.strip():
        yield text.strip()
