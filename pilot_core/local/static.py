"""What is served beside PanDA's calls: queue data, files, the console's pages."""

import json
import mimetypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilot_core.base.files import UnsafeName, safe_join
from pilot_core.local.cric import Cric
from pilot_core.local.desk import Desk
from pilot_core.local.exchange import Answer, Exchange, plain, query_lists

__all__ = ["Pages"]

_TRANSFORMATIONS = Path(__file__).parent / "transformations"
_NOT_FOUND = Answer(404, b"<html><body><h1>Not Found</h1></body></html>\n", "text/html")


class Pages:
    """Answers to GET requests for files, and the console's own few requests.

    Parameters
    ----------
    folder
        The server's folder: `trf/` (transformations of one's own), `cache/`,
        `logs/`.
    """

    def __init__(self, folder: Path, cric: Cric, desk: Desk) -> None:
        self._folder = folder
        self._cric = cric
        self._desk = desk
        self._routes: list[tuple[str, str, Callable[[Exchange, str], Answer]]] = [
            ("cric", r"/cache/schedconfig/(?P<rest>[^/]+)\.all\.json", self._schedconfig),
            ("cric", r"/api/atlas/(?P<rest>pandaqueue|ddmendpoint)/query/", self._query),
            ("transformation", r"/trf/(?P<rest>[^/]+)", self._transformation),
            ("cache", r"/cache/(?P<rest>[^/]+)", self._cached),
            ("logs", r"/logs/(?P<rest>.+)", self._log_file),
            ("local", r"/local/jobs", self._jobs),
            ("local", r"/local/jobs/(?P<rest>\d+)", self._job),
        ]

    def name_of(self, path: str) -> str:
        """What kind of page a path is; empty for none."""
        return next((name for name, pattern, _ in self._routes if re.fullmatch(pattern, path)), "")

    def answer(self, exchange: Exchange) -> Answer:
        """The page; 404 as Apache says it."""
        for _, pattern, handler in self._routes:
            match = re.fullmatch(pattern, exchange.path)
            if match:
                return handler(exchange, match.groupdict().get("rest") or "")
        return _NOT_FOUND

    def _schedconfig(self, _exchange: Exchange, queue: str) -> Answer:
        settings = self._cric.queue(queue)
        return _NOT_FOUND if settings is None else _json(settings)

    def _query(self, exchange: Exchange, what: str) -> Answer:
        name = query_lists(exchange.query).get(what, [""])[-1]
        return _json(self._cric.query(what, name))

    def _transformation(self, _exchange: Exchange, name: str) -> Answer:
        own = _file(self._folder / "trf", name)
        return own if own is not _NOT_FOUND else _file(_TRANSFORMATIONS, name)

    def _cached(self, _exchange: Exchange, name: str) -> Answer:
        return _file(self._folder / "cache", name)

    def _log_file(self, _exchange: Exchange, rest: str) -> Answer:
        folder = self._folder / "logs"
        *inner, name = rest.split("/")
        for part in inner:
            try:
                folder = safe_join(folder, part)
            except UnsafeName:
                return _NOT_FOUND
        return _file(folder, name)

    def _jobs(self, exchange: Exchange, _rest: str) -> Answer:
        if exchange.method == "POST":
            # A browser says which page sends; a page must not run commands here.
            if "origin" in exchange.headers:
                return plain(403, "jobs are not taken from web pages")
            try:
                return _json({"id": self._desk.submit_text(exchange.body)})
            except (ValueError, TypeError, OverflowError) as err:
                return plain(400, f"not a job: {err}")
        return _json([self._desk.job_view(job.panda_id) for job in self._desk.store.jobs()])

    def _job(self, _exchange: Exchange, number: str) -> Answer:
        view = self._desk.job_view(int(number))
        return _NOT_FOUND if view is None else _json(view)


def _json(content: Any) -> Answer:
    return Answer(200, json.dumps(content).encode(), "application/json")


def _file(folder: Path, name: str) -> Answer:
    try:
        path = safe_join(folder, name)
        data = path.read_bytes()
    except (UnsafeName, OSError):
        return _NOT_FOUND
    kind, packed = mimetypes.guess_type(name)
    return Answer(200, data, f"application/{packed}" if packed else kind or "text/plain")
