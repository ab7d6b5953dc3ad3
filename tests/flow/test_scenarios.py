"""Whole lives of a pilot, one folder each.

`job.json` says what happens, `expected.json` how it ends.

`job.json`: `jobs` (keys of a definition; `payload` for the engine's fake),
`queue`, `settings`, `twists`, `lives` (pilots one after the other, 1 if
missing), `rest` (seconds until a call that was given up comes back), `pushed`
(text of pandaJobData.out, or `#JOB` for the first job), `transformations`
(path
to status and text, served over HTTP;
`#URL` stands for where). `expected.json`: see `look`.
"""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pilot_core.base.scope import Scope
from tests.fakes.world import Twist, World

FOLDER = Path(__file__).parent / "scenarios"


class Shelf(BaseHTTPRequestHandler):
    """Serves the transformations of a scenario."""

    files: Mapping[str, tuple[int, str]]

    def do_GET(self) -> None:
        status, text = self.files.get(self.path, (404, "no such file\n"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def shelf(request: pytest.FixtureRequest) -> Iterator[str]:
    """Base URL of the scenario's transformations; empty if it has none."""
    files = read(request.getfixturevalue("name"))["job"].get("transformations")
    if not files:
        yield ""
        return
    handler = type("ShelfOf", (Shelf,), {"files": files})
    with HTTPServer(("127.0.0.1", 0), handler) as server, Scope("shelf") as scope:
        scope.spawn("serve", server.serve_forever, 0.01)
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def read(name: str) -> dict[str, Any]:
    return {kind: json.loads((FOLDER / name / f"{kind}.json").read_text()) for kind in ("job", "expected")}


def look(world: World) -> dict[str, Any]:
    """What a scenario's end is compared in."""
    return {
        "codes": [int(code) for code in world.codes],
        "workers": [row.status for row in world.server.store.workers()],
        "jobs": [look_at_job(world, panda_id) for panda_id in world.ids],
        "owed": None if (held := world.held()) is None else held.report.state.value,
        "started": len(world.engine.started),
    }


def look_at_job(world: World, panda_id: int) -> dict[str, Any]:
    row = world.server.store.job(panda_id)
    code, diag = row.pilot_error
    return {
        "updates": [update.status for update in world.server.store.updates(panda_id)],
        "status": row.status,
        "exit": row.exit_code,
        "code": code,
        "diag": diag,
        "files": world.stored(panda_id),
    }


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_scenario(name: str, shelf: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    scenario = read(name)
    job, expected = json.loads(json.dumps(scenario["job"]).replace("#URL", shelf)), scenario["expected"]
    world = World(
        tmp_path,
        jobs=job.get("jobs", [{}]),
        queue=job.get("queue"),
        settings=job.get("settings"),
        twists=[Twist(**twist) for twist in job.get("twists", ())],
        base_urls=[f"{shelf}/trf"] if shelf else [],
    )
    push(world, job)
    with caplog.at_level(logging.INFO):
        for life in range(job.get("lives", 1)):
            if life:
                world.bury()
            world.run()
    world.clock.wait(threading.Event(), job.get("rest", 0.0))
    found = look(world)
    for there, wanted in zip(found["jobs"], expected["jobs"], strict=True):
        # Diagnoses hold names and times: the words that matter are given.
        assert wanted["diag"] in there["diag"], there
        there["diag"] = wanted["diag"]
    assert found == expected
    assert [r.getMessage() for r in caplog.records if r.exc_info] == [], "a trace for the user"
    assert not world.engine.containers, "a container is left"
    assert set(threading.enumerate()) <= before


def push(world: World, job: Mapping[str, Any]) -> None:
    """Put the pushed job where the pilot looks for it."""
    if "pushed" not in job:
        return
    pushed = job["pushed"]
    if pushed == "#JOB":
        taken = world.server.store.job(world.ids[0])
        world.server.store.acquire({"site_name": taken.queue})
        pushed = {str(world.ids[0]): dict(taken.definition)}
    (world.home / "pandaJobData.out").write_text(pushed if isinstance(pushed, str) else json.dumps(pushed))
