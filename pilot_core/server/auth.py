"""Who the pilot is to the server: an X.509 proxy, or a bearer token with its
Origin.

Both live in files that something else renews (Harvester, a Kubernetes secret,
the pilot itself): they are looked at before each request and read again when
they have changed. Nothing of them is ever logged or put into an error.
"""

import logging
import os
import threading
from pathlib import Path

from pilot_core.base.files import write_atomic
from pilot_core.config import ServerConfig
from pilot_core.errors import NotAuthorised, SetupError
from pilot_core.model.codes import ErrorCode
from pilot_core.server.expiry import pem_expiry, token_expiry

__all__ = ["Auth", "Stamp"]

log = logging.getLogger(__name__)

#: A file's change time, inode and size: a new stamp means new content.
Stamp = tuple[int, int, int]


class Auth:
    """Credentials for one server; may be used from any thread.

    Parameters
    ----------
    config
        A token comes before a proxy where both are given: the proxy then is
        for storage.

    Raises
    ------
    SetupError
        A token without an Origin: the server answers such a request with a
        traceback (panda-server 1.0.3, 0.8.1).
    """

    def __init__(self, config: ServerConfig) -> None:
        if config.token_file is not None and not config.token_origin:
            raise SetupError(
                f"token {config.token_file}: the token's origin (PANDA_AUTH_ORIGIN, `vo.role`) is not set",
                ErrorCode.NOPROXY,
            )
        self._token_file = config.token_file
        self._origin = config.token_origin
        self._key_file = config.token_key_file
        self._proxy_file = None if config.token_file else config.proxy_file
        self._lock = threading.Lock()
        self._token = ""
        self._token_stamp: Stamp | None = None

    def headers(self) -> dict[str, str]:
        """Headers that identify the pilot; none for a proxy.

        Raises
        ------
        NotAuthorised
            The token file is missing, unreadable or empty.
        """
        if self._token_file is None:
            return {}
        return {"Authorization": f"Bearer {self._current_token(self._token_file)}", "Origin": self._origin}

    def proxy(self) -> tuple[Path, Stamp] | None:
        """The proxy file and its stamp; None where none is used.

        Raises
        ------
        NotAuthorised
            It is missing.
        """
        if self._proxy_file is None:
            return None
        return self._proxy_file, _stamp(self._proxy_file, "X.509 proxy")

    def expires(self) -> float | None:
        """Epoch seconds at which the credential in use ends; None if unknown
        or unused.

        Raises
        ------
        NotAuthorised
            It cannot be read.
        """
        if self._token_file is not None:
            return token_expiry(self._current_token(self._token_file))
        if self._proxy_file is not None:
            return pem_expiry(_read(self._proxy_file, "X.509 proxy"))
        return None

    def token_key(self) -> str | None:
        """The key that buys a fresh token; None if tokens are not ours to
        renew.
        """
        if self._token_file is None or self._key_file is None:
            return None
        return _read(self._key_file, "token key").strip()

    def renew(self, token: str) -> None:
        """Use a fresh token from now on, and leave it for others in the token
        file.

        Where the file cannot be written (a Kubernetes secret is read-only) the
        token is kept in memory, until the file changes.
        """
        if self._token_file is None:
            return
        with self._lock:
            try:
                write_atomic(self._token_file, token + "\n", mode=0o600)
            except OSError as err:
                log.info("the fresh token is kept in memory: %s: %s", self._token_file, err.strerror)
            self._token = token
            self._token_stamp = _stamp(self._token_file, "token")

    def _current_token(self, path: Path) -> str:
        with self._lock:
            stamp = _stamp(path, "token")
            if stamp != self._token_stamp:
                text = _read(path, "token").strip()
                # A line end inside would split the header in two.
                if not text or not text.isprintable() or " " in text:
                    raise NotAuthorised(f"token {path}: {'empty' if not text else 'not a token'}")
                self._token, self._token_stamp = text, stamp
            return self._token


def _stamp(path: Path, what: str) -> Stamp:
    try:
        info = os.stat(path)
    except OSError as err:
        raise NotAuthorised(f"{what} {path}: {err.strerror}") from err
    return info.st_mtime_ns, info.st_ino, info.st_size


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as src:
            return src.read(1024 * 1024).decode("utf-8", "replace")
    except OSError as err:
        raise NotAuthorised(f"{what} {path}: {err.strerror}") from err
