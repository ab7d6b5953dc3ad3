"""A server that says what it is told to, whatever it is asked for."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from pilot_core.base.scope import Scope

__all__ = ["Answer", "answering"]

Answer = Callable[[socket.socket, threading.Event], object]


@contextlib.contextmanager
def answering(answer: bytes | Answer) -> Iterator[str]:
    """The URL of a server that reads a request, answers and hangs up.

    Parameters
    ----------
    answer
        What stands behind `HTTP/1.1 `, or what is done with the connection
        until the event, with which everything ends.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, Scope("raw") as scope:
        listener.settimeout(0.05)

        def serve() -> None:
            while not scope.stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.settimeout(5.0)
                        connection.recv(65_536)
                        if isinstance(answer, bytes):
                            connection.sendall(b"HTTP/1.1 " + answer)
                        else:
                            answer(connection, scope.stopping)

        scope.spawn("serve", serve)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
