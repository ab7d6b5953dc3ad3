"""Credentials: from where Harvester left them to files that grid tools accept.

A mounted Secret is readable by all (mode 0644) and its files are replaced
under our hands when Harvester renews them. The pilot gets copies of its own,
mode 0400, in a folder that only it can enter; `refresh` brings them up to
date.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from pilot_core.base.files import UnsafeName, safe_join, write_atomic
from pilot_core.base.redact import Redactor
from pilot_core.errors import SetupError
from pilot_core.model.codes import ErrorCode
from pilot_starter.config import CredentialSources

__all__ = ["Credentials"]

log = logging.getLogger(__name__)


class Credentials:
    """Our copies, and the environment that names them.

    Parameters
    ----------
    sources
        What there is.
    folder
        Where the copies go; made with mode 0700.
    redactor
        Learns the token, so that no log line shows it.
    """

    def __init__(self, sources: CredentialSources, *, folder: Path, redactor: Redactor) -> None:
        self._sources = sources
        self._folder = folder
        self._redactor = redactor
        self._copies: dict[Path, tuple[Path, bytes]] = {}
        self.proxy_file: Path | None = None
        self.token_file: Path | None = None
        self.token_key_file: Path | None = None

    def prepare(self) -> None:
        """Copy what is named.

        Raises
        ------
        SetupError
            NOPROXY, naming the file and the reason.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        given = self._sources
        if given.proxy_path:
            self.proxy_file = self._copy("proxySecretPath", Path(given.proxy_path), "x509up")
        elif given.proxy_content:
            self.proxy_file = self._store("x509up", given.proxy_content.replace(",", "\n").encode())
        elif given.proxy_in_place and Path(given.proxy_in_place).is_file():
            self.proxy_file = Path(given.proxy_in_place)
        if given.token_name:
            self.token_file = self._copy("PANDA_AUTH_TOKEN", self._token_path(given.token_name), "token")
            self._redactor.add(self.token_file.read_text(errors="replace"))
        if given.token_key_name:
            name = "PANDA_AUTH_TOKEN_KEY"
            self.token_key_file = self._copy(name, self._token_path(given.token_key_name), "token_key")
        if not (self.proxy_file or self.token_file):
            log.info("neither proxy nor token was given: servers will know nobody")
        if given.google_path:
            self._look_at_google(Path(given.google_path))

    def environment(self) -> Mapping[str, str]:
        """Variables for wrapper and pilot; file names are absolute.

        PANDA_AUTH_DIR ends in a slash because today's pilot takes its
        `dirname`
        (pilot3 util/https.py).
        """
        env = {}
        if self.proxy_file:
            env["X509_USER_PROXY"] = str(self.proxy_file)
        if self.token_file:
            env["PANDA_AUTH_TOKEN"] = str(self.token_file)
            env["PANDA_AUTH_DIR"] = f"{self._folder}/"
            env["PANDA_AUTH_ORIGIN"] = self._sources.token_origin
        if self.token_key_file:
            env["PANDA_AUTH_TOKEN_KEY"] = str(self.token_key_file)
        return env

    def refresh(self) -> None:
        """Copy again what was renewed; a source that is gone changes nothing."""
        for target, (source, known) in self._copies.items():
            try:
                data = source.read_bytes()
            except OSError as err:
                log.warning("%s cannot be read any more (%s); the copy stays", source, err.strerror)
                continue
            if data and data != known:
                try:
                    write_atomic(target, data, mode=0o400)
                except OSError as err:
                    log.error("%s cannot be renewed: %s", target, err.strerror or err)
                    continue
                self._copies[target] = (source, data)
                if target == self.token_file:
                    self._redactor.add(data.decode(errors="replace"))
                log.info("%s was renewed and copied", source)

    def _token_path(self, name: str) -> Path:
        if name.startswith("/") or not self._sources.token_dir:
            return Path(name)
        return Path(self._sources.token_dir) / name

    def _copy(self, variable: str, source: Path, name: str) -> Path:
        try:
            data = source.read_bytes()
        except OSError as err:
            raise SetupError(f"{variable}: {source}: {err.strerror or err}", ErrorCode.NOPROXY) from err
        if not data.strip():
            raise SetupError(f"{variable}: {source}: the file is empty", ErrorCode.NOPROXY)
        target = self._store(name, data)
        self._copies[target] = (source, data)
        return target

    def _store(self, name: str, data: bytes) -> Path:
        try:
            target = safe_join(self._folder, name)
            write_atomic(target, data, mode=0o400)
        except (OSError, UnsafeName) as err:
            raise SetupError(f"{self._folder}/{name}: {err}", ErrorCode.NOPROXY) from err
        return target

    @staticmethod
    def _look_at_google(path: Path) -> None:
        # Only said, not fatal: without it the pilot can still run jobs, and a
        # token of the machine (Workload Identity) may be what it will use.
        try:
            with path.open("rb") as key:
                key.read(1)
        except OSError as err:
            log.error("GOOGLE_APPLICATION_CREDENTIALS: %s: %s", path, err.strerror or err)
