"""The least there is: read, parse, splice, and post or not; nothing is
promised.
"""

import http.client
import threading
from collections.abc import Callable
from pathlib import Path


def floor(path: Path, _url: str, ended: threading.Event, _: Path | None) -> Callable[[], None]:
    """Without a network."""
    return _splice(path, ended, len)


def splice(path: Path, url: str, ended: threading.Event, _: Path | None) -> Callable[[], None]:
    """Each request posted once and forgotten."""
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=60)

    def post(body: bytes) -> None:
        connection.request("POST", "/v2/entries:write", b'{"entries":[' + body + b"]}")
        connection.getresponse().read()

    return _splice(path, ended, post)


def _splice(path: Path, ended: threading.Event, post: Callable[[bytes], object]) -> Callable[[], None]:
    import orjson

    def run() -> None:
        ended.wait()
        with path.open("rb") as src:
            while lines := src.readlines(512 * 1024):
                parts = []
                for line in lines:
                    found = orjson.loads(line)
                    level, when = found["levelname"], found["asctime"]
                    parts.append(
                        b'{"jsonPayload":{"TaskID":"77","PandaJobID":"4242",'
                        + line[1:-1]
                        + f',"severity":"{level}","timestamp":"{when}"}}'.encode()
                    )
                post(b",".join(parts))

    return run
