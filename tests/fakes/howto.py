"""Commands of the documents, as a reader would type them."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Terminal", "blocks", "commands"]


def blocks(document: Path, heading: str) -> list[str]:
    """The shell blocks of one section, in order."""
    text = document.read_text()
    start = text.index(f"\n## {heading}\n")
    section = text[start : text.find("\n## ", start + 1)]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """Its commands, without remarks; one that goes on in the next line is
    one.
    """
    lines = [re.sub(r"\s# .*", "", line) for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line.strip()]


class Terminal:
    """A command on a terminal of its own, as somebody sits before it.

    Parameters
    ----------
    command
        For bash.
    environment
        All of it.
    """

    def __init__(self, command: str, environment: Mapping[str, str], *, cwd: Path) -> None:
        self.command = command
        self._said = b""
        master, slave = pty.openpty()
        self._master = master
        try:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=cwd,
                env=dict(environment),
                start_new_session=True,
            )
        finally:
            os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._master)

    @property
    def said(self) -> str:
        """All that has been printed until now."""
        return self._said.decode(errors="replace").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """As on the keyboard."""
        os.write(self._master, text.encode())

    def until(self, words: str, seconds: float = 60.0) -> None:
        """Wait until it has printed this."""
        end = time.monotonic() + seconds
        while words not in self.said:
            assert time.monotonic() < end, f"{self.command}: no {words!r} in\n{self.said[-4000:]}"
            assert self._read() or self._process.poll() is None, f"{self.command} ended:\n{self.said}"

    def end(self, seconds: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            assert time.monotonic() < end, f"{self.command} does not end:\n{self.said[-4000:]}"
            self._read()
        while self._read():
            pass
        return self._process.returncode

    def _read(self) -> bool:
        """Take what is there; False if nothing came for a moment."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # The other side is closed.
            return False
        self._said += data
        return bool(data)
