"""A file as a form with one part, read while it is sent: it may have 100 MB."""

import io
import os
import secrets
from pathlib import Path
from typing import BinaryIO

__all__ = ["MultipartFile"]


class MultipartFile:
    """A body that `requests` can measure and read.

    The length is fixed when the file is opened, so that a log which grows
    meanwhile still makes a well-formed request; one that shrinks is an error.
    """

    def __init__(self, path: Path) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        # Quotes and line ends would end the header early (RFC 7578, 4.2).
        name = path.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        self._file: BinaryIO = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        self._parts: list[tuple[BinaryIO, int]] = [
            (io.BytesIO(head), len(head)),
            (self._file, self._size),
            (io.BytesIO(tail), len(tail)),
        ]
        self.len = len(head) + self._size + len(tail)

    def __len__(self) -> int:
        return self.len

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; empty at the end."""
        while self._parts:
            source, left = self._parts[0]
            wanted = left if size < 0 else min(size, left)
            data = source.read(wanted) if wanted else b""
            if wanted and not data:
                raise OSError(f"{getattr(self._file, 'name', 'file')} became shorter while it was sent")
            if left == len(data):
                self._parts.pop(0)
            else:
                self._parts[0] = source, left - len(data)
            if data:
                return data
        return b""

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
