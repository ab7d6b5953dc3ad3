"""An HTTP server that answers one byte at a time and never comes to an end."""

import contextlib
import socket
import threading
from collections.abc import Iterator

__all__ = ["DRIPS", "dripping"]

#: What comes at once; then one byte after the other: in the status line, in a
#: header, in the body.
DRIPS = {
    "status": b"HTTP/1.1 20",
    "header": b"HTTP/1.1 200 OK\r\nX-Patience: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
}


@contextlib.contextmanager
def dripping(begin: bytes, *, every_s: float = 0.1) -> Iterator[str]:
    """The URL of a server that begins each answer with `begin`."""
    over = threading.Event()
    threads = []

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(begin)
            while not over.wait(every_s):
                connection.sendall(b"0")

    def accept(listener: socket.socket) -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=answer, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        threads.append(threading.Thread(target=accept, args=(listener,)))
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            for thread in threads:
                thread.join(5.0)
