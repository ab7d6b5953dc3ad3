"""Who the pilot is to the server: an X.509 proxy, or a bearer token with its
Origin.

Both live in files that something else renews (Harvester, a Kubernetes secret,
the pilot itself): they are looked at before each request and read again when
they have changed. Nothing of them is ever logged or put into an error.
"""

import contextlib
import logging
import os
import ssl
import stat
import threading
from enum import StrEnum
from pathlib import Path

from pilot_core.base.files import write_atomic
from pilot_core.config import ServerConfig
from pilot_core.errors import NotAuthorised, SetupError
from pilot_core.model.codes import ErrorCode
from pilot_core.server.expiry import pem_expiry, pem_owner, token_expiry

__all__ = ["RENEWED", "Auth", "Credential", "Stamp"]

log = logging.getLogger(__name__)

#: A renewed proxy that could not be written where the old one is.
RENEWED = "x509up_renewed"

#: A file's change time, inode and size: a new stamp means new content.
Stamp = tuple[int, int, int]


class Credential(StrEnum):
    """What the pilot shows to others, and may have renewed."""

    TOKEN = "token"
    PROXY = "X.509 proxy"


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
        self._proxy_file = config.proxy_file
        self._spare = config.spare_folder and config.spare_folder / RENEWED
        # The stamp of the proxy file that the spare one stands in for.
        self._spare_for: Stamp | None = None
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
        if self._proxy_file is None or self._token_file is not None:
            return None
        return self._newest_proxy(self._proxy_file)

    def expires(self) -> dict[Credential, float]:
        """Epoch seconds at which each credential ends; those that do not say
        so are left out.

        Raises
        ------
        NotAuthorised
            The one that the server is to see cannot be read.
        """
        ends: dict[Credential, float | None] = {}
        if self._token_file is not None:
            ends[Credential.TOKEN] = token_expiry(self._current_token(self._token_file))
        if self._proxy_file is not None:
            # Beside a token the proxy is for storage, where it may be missing.
            quietly = contextlib.suppress(NotAuthorised) if ends else contextlib.nullcontext()
            with quietly:
                path, _ = self._newest_proxy(self._proxy_file)
                ends[Credential.PROXY] = pem_expiry(_read(path, Credential.PROXY))
        return {credential: end for credential, end in ends.items() if end is not None}

    def owner(self) -> str:
        """The name in the proxy that the server gets to see; empty without
        one.

        Raises
        ------
        NotAuthorised
            It is missing.
        """
        shown = self.proxy()
        return "" if shown is None else pem_owner(_read(shown[0], Credential.PROXY))

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

    def renew_proxy(self, pem: str) -> None:
        """Use a fresh proxy from now on, and leave it for others in the proxy
        file.

        Where that cannot be written it is kept in the spare folder, until the
        file changes. What cannot be used leaves everything as it is.

        Raises
        ------
        NotAuthorised
            It is no proxy, or none that lives longer than the one we have.
        """
        if self._proxy_file is None or self._spare is None:
            return
        pem = pem.strip() + "\n"
        with self._lock:
            self._check_proxy(pem, self._proxy_file, self._spare)
            # The file may be a link; what it points to is what others read.
            path = Path(os.path.realpath(self._proxy_file))
            try:
                # Grid tools refuse a proxy that others may read.
                write_atomic(path, pem, mode=stat.S_IMODE(os.stat(path).st_mode) & 0o600)
            except OSError as err:
                log.warning(
                    "%s cannot be renewed (%s): the server gets to see %s, storage the old one",
                    path,
                    err.strerror,
                    self._spare,
                )
                self._spare_for = _stamp(self._proxy_file, Credential.PROXY)
            else:
                self._spare.unlink(missing_ok=True)

    def _check_proxy(self, pem: str, old: Path, trial: Path) -> None:
        """Write a fresh proxy to the `trial` file and see whether it is good."""
        end, now_end = pem_expiry(pem), pem_expiry(_read(old, Credential.PROXY))
        if end is None:
            raise NotAuthorised("the server handed out something else than an X.509 proxy")
        if now_end is not None and end <= now_end:
            raise NotAuthorised("the server's X.509 proxy lives no longer than ours")
        try:
            write_atomic(trial, pem, mode=0o600)
            # A key with a passphrase is an error, not a question.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(trial, password="")
        except (OSError, ssl.SSLError) as err:
            trial.unlink(missing_ok=True)
            raise NotAuthorised(f"the server's X.509 proxy cannot be used: {err}") from err

    def _newest_proxy(self, path: Path) -> tuple[Path, Stamp]:
        """The proxy file, or the spare one while that stands in for it."""
        stamp = _stamp(path, Credential.PROXY)
        with self._lock:
            if self._spare is not None and stamp == self._spare_for:
                return self._spare, _stamp(self._spare, Credential.PROXY)
            self._spare_for = None
        return path, stamp

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
