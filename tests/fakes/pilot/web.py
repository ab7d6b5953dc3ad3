"""A real HTTP server on loopback with answers by path."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """`routes`: path to (status, body), or to a function of the attempt's
    number.
    """

    url: str
    routes: dict[str, tuple[int, bytes] | Callable[[int], tuple[int, bytes]]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    lie_about_length: set[str] = field(default_factory=set)
    posts: list[tuple[str, bytes]] = field(default_factory=list)


@contextlib.contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    web = Web("")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path = self.path.split("?")[0]
            web.seen.append(path)
            route = web.routes.get(path, (404, b"<html><body>not here</body></html>"))
            status, body = route(web.seen.count(path)) if callable(route) else route
            self.send_response(status)
            extra = 1000 if path in web.lie_about_length else 0
            self.send_header("Content-Length", str(len(body) + extra))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            web.posts.append((self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
            self.answer()

        def log_message(self, *_args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    web.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="web")
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
