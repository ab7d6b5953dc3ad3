"""What `Information` promises: the fake, and CRIC's documents served over real
HTTP.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.clock import SystemClock
from pilot_core.base.retry import RetryPolicy
from pilot_core.config import InfoConfig
from pilot_core.errors import SetupError
from pilot_core.info.contract import Information
from pilot_core.info.cric import CricInformation
from pilot_core.info.fetch import HttpFetch
from pilot_core.model.codes import ErrorCode
from pilot_core.model.queue import Protocol, Queue, Storage
from tests.fakes.drip import DRIPS, dripping
from tests.fakes.info import FakeInformation
from tests.fakes.patience import stated

CLOCK = SystemClock()
FAST = RetryPolicy(attempts=3, first_s=0.001, cap_s=0.001)

QUEUE = {
    "nickname": "TEST_QUEUE",
    "panda_resource": "TEST_SITE",
    "timefloor": "60",
    "maxrss": 3200,
    "astorages": {"write_lan": ["LOGS"]},
    "acopytools": {"write_lan": ["gs"]},
}
STORAGE = {
    "name": "LOGS",
    "type": "GS",
    "arprotocols": {"write_lan": [{"endpoint": "gs://bucket", "path": "/logs", "flavour": "GS"}]},
}
PARSED_QUEUE = Queue(
    name="TEST_QUEUE",
    resource="TEST_SITE",
    timefloor_s=3600,
    maxrss_mb=3200,
    storages={"write_lan": ("LOGS",)},
    copytools={"write_lan": ("gs",)},
)
PARSED_STORAGE = Storage(
    name="LOGS", type="GS", protocols={"write_lan": (Protocol("gs://bucket", "/logs", "GS"),)}
)


@dataclass
class Site:
    """A web site: path with query -> (status, body) in turn; the last one
    stays.
    """

    pages: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def page(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        turns = self.pages.get(path, [(404, b"<html>not here</html>")])
        return turns.pop(0) if len(turns) > 1 else turns[0]


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = served.page(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join(5)


def cric(site: Site, folder: Path, **kwargs: object) -> CricInformation:
    settings: dict[str, object] = {"cric_url": site.url, "lifetime_s": 100.0, **kwargs}
    config = InfoConfig(folder=folder, **settings)  # type: ignore[arg-type]
    return CricInformation(config, clock=CLOCK, fetch=HttpFetch(clock=CLOCK), policy=FAST)


def budget(seconds: float = 20.0) -> Budget:
    return Budget(CLOCK, seconds, "queue data")


def document(name: str, settings: dict[str, object]) -> bytes:
    return json.dumps({name: settings, "OTHER": {"nickname": "OTHER"}}).encode()


CRIC_QUEUE = "/api/atlas/pandaqueue/query/?json&pandaqueue=TEST_QUEUE"
CRIC_STORAGE = "/api/atlas/ddmendpoint/query/?json&ddmendpoint=LOGS"


@pytest.fixture(params=["fake", "cric"])
def information(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Information:
    if request.param == "fake":
        return FakeInformation(queues=[PARSED_QUEUE], storages=[PARSED_STORAGE])
    site.pages[CRIC_QUEUE] = [(200, document("TEST_QUEUE", QUEUE))]
    site.pages[CRIC_STORAGE] = [(200, document("LOGS", STORAGE))]
    return cric(site, tmp_path)


def test_a_known_queue(information: Information) -> None:
    assert information.queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE
    assert information.queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE


def test_a_known_storage(information: Information) -> None:
    assert information.storage("LOGS", budget=budget()) == PARSED_STORAGE


def test_an_unknown_queue(information: Information) -> None:
    with pytest.raises(SetupError, match="queue NO_SUCH") as caught:
        information.queue("NO_SUCH", budget=budget())
    assert caught.value.code is ErrorCode.QUEUEDATA


def test_an_unknown_storage(information: Information) -> None:
    with pytest.raises(SetupError, match="ddmendpoint NO_SUCH") as caught:
        information.storage("NO_SUCH", budget=budget())
    assert caught.value.code is ErrorCode.NOSTORAGE


def test_files_of_the_wrapper_come_first(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cric_pandaqueues.json").write_bytes(document("TEST_QUEUE", QUEUE))
    assert cric(site, tmp_path).queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE
    assert site.asked == []


@pytest.mark.parametrize("raw", [b"", b"<html>login</html>", b'{"TEST_QUEUE": {"nick', b"[]", b"{}"])
def test_a_useless_file_is_passed_over(site: Site, tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "cric_pandaqueues.json").write_bytes(raw)
    (tmp_path / "queuedata.json").write_text(json.dumps(QUEUE))
    assert cric(site, tmp_path).queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE


def test_the_operators_url_comes_before_server_and_cric(site: Site, tmp_path: Path) -> None:
    site.pages["/q/TEST_QUEUE.json"] = [(200, json.dumps(QUEUE).encode())]
    given = f"{site.url}/q/{{pandaqueue}}.json"
    found = cric(site, tmp_path, queuedata_url=given, server_url=site.url)
    assert found.queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE
    assert site.asked == ["/q/TEST_QUEUE.json"]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_operators_url_may_be_a_file(site: Site, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "ddm-LOGS.json").write_bytes(document("LOGS", STORAGE))
    found = cric(site, tmp_path, storagedata_url=f"{scheme}{tmp_path}/ddm-{{ddmendpoint}}.json")
    assert found.storage("LOGS", budget=budget()) == PARSED_STORAGE
    assert site.asked == []


def test_the_servers_cache_comes_before_cric(site: Site, tmp_path: Path) -> None:
    path = "/cache/schedconfig/TEST_QUEUE.all.json"
    site.pages[path] = [(200, json.dumps(QUEUE).encode())]
    found = cric(site, tmp_path, server_url=f"{site.url}/")
    assert found.queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE
    assert site.asked == [path]


def test_a_file_on_cvmfs_serves_between_server_and_cric(site: Site, tmp_path: Path) -> None:
    path = "/cache/schedconfig/TEST_QUEUE.all.json"
    site.pages[path] = [(200, json.dumps(QUEUE).encode()), (404, b"")]
    (tmp_path / "cvmfs").mkdir()
    (tmp_path / "cvmfs" / "q.json").write_bytes(document("TEST_QUEUE", {**QUEUE, "maxrss": 1}))
    (tmp_path / "cvmfs" / "s.json").write_bytes(document("LOGS", STORAGE))
    found = cric(
        site,
        tmp_path,
        server_url=site.url,
        queues_cvmfs=tmp_path / "cvmfs" / "q.json",
        storages_cvmfs=tmp_path / "cvmfs" / "s.json",
        lifetime_s=0.0,
    )
    asked = [found.queue("TEST_QUEUE", budget=budget()).maxrss_mb for _ in range(2)]
    assert asked == [PARSED_QUEUE.maxrss_mb, 1]
    assert found.storage("LOGS", budget=budget()) == PARSED_STORAGE
    assert site.asked == [path, path]


def test_a_passing_failure_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.pages[CRIC_QUEUE] = [(503, b""), (502, b""), (200, document("TEST_QUEUE", QUEUE))]
    assert cric(site, tmp_path).queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE
    assert len(site.asked) == 3


def test_what_the_network_said_is_kept_for_its_lifetime(site: Site, tmp_path: Path) -> None:
    site.pages[CRIC_QUEUE] = [(200, document("TEST_QUEUE", QUEUE))]
    cric(site, tmp_path).queue("TEST_QUEUE", budget=budget())
    assert cric(site, tmp_path).queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE
    assert len(site.asked) == 1
    cric(site, tmp_path, lifetime_s=0.0).queue("TEST_QUEUE", budget=budget())
    assert len(site.asked) == 2


def test_an_old_copy_serves_only_when_all_else_fails(site: Site, tmp_path: Path) -> None:
    site.pages[CRIC_QUEUE] = [(200, document("TEST_QUEUE", QUEUE)), (500, b"")]
    found = cric(site, tmp_path, lifetime_s=0.0)
    found.queue("TEST_QUEUE", budget=budget())
    assert found.queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE
    assert len(site.asked) == 4


@pytest.mark.parametrize(
    "copy", [b"", b"{", b'{"source": "x", "time": 9e12, "settings": {}}', b'{"source": 1}', b"[1]"]
)
def test_a_bad_copy_never_wins(site: Site, tmp_path: Path, copy: bytes) -> None:
    (tmp_path / "cached-queue-TEST_QUEUE.json").write_bytes(copy)
    site.pages[CRIC_QUEUE] = [(200, document("TEST_QUEUE", QUEUE))]
    assert cric(site, tmp_path).queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE


def test_a_copy_with_nonsense_in_it_never_wins(site: Site, tmp_path: Path) -> None:
    site.pages[CRIC_QUEUE] = [(200, document("TEST_QUEUE", {**QUEUE, "maxrss": "lots"}))]
    with pytest.raises(SetupError, match='maxrss="lots"') as caught:
        cric(site, tmp_path).queue("TEST_QUEUE", budget=budget())
    assert caught.value.code is ErrorCode.QUEUEDATANOTOK
    site.pages[CRIC_QUEUE] = [(200, document("TEST_QUEUE", QUEUE))]
    assert cric(site, tmp_path).queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE


def test_a_document_deeper_than_the_stack_is_passed_over(site: Site, tmp_path: Path) -> None:
    (tmp_path / "queuedata.json").write_bytes(b"[" * 100_000)
    site.pages["/cache/schedconfig/TEST_QUEUE.all.json"] = [(200, b'{"a":' * 100_000)]
    site.pages[CRIC_QUEUE] = [(200, document("TEST_QUEUE", QUEUE))]
    assert cric(site, tmp_path, server_url=site.url).queue("TEST_QUEUE", budget=budget()) == PARSED_QUEUE


NAMES = {
    "long": "E" * 240,
    "very long": "E" * 5000,
    "long when quoted": "é/" * 60,
    "half a character": "E\ud800",
    "a NUL": "E\0",
    "a folder": "../E",
    "a dot": ".",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_name_is_asked_for_and_kept(site: Site, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "info"
    folder.mkdir()
    asked = CRIC_STORAGE.replace("LOGS", quote(name, safe="", errors="surrogatepass"))
    site.pages[asked] = [(200, document(name, {**STORAGE, "name": name}))]
    for _ in range(2):
        assert cric(site, folder).storage(name, budget=budget()).name == name
    assert site.asked == [asked]
    # Another one that begins like it is not taken for it.
    with pytest.raises(SetupError, match="404"):
        cric(site, folder).storage(name + "x", budget=budget())
    assert [path.parent for path in tmp_path.rglob("*.json")] == [folder]


def test_the_error_names_every_source_and_its_reason_in_one_line(site: Site, tmp_path: Path) -> None:
    site.pages[CRIC_QUEUE] = [(200, b"<!DOCTYPE html>\n<html>please log in</html>")]
    (tmp_path / "queuedata.json").write_text('{"OTHER": {"nickname": "OTHER"}}')
    found = cric(site, tmp_path, server_url=site.url)
    with pytest.raises(SetupError) as caught:
        found.queue("TEST_QUEUE", budget=budget())
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "cric_pandaqueues.json: not there",
        "queuedata.json: knows no queue TEST_QUEUE",
        f"{site.url}/cache/schedconfig/TEST_QUEUE.all.json: HTTP 404",
        f"{site.url}{CRIC_QUEUE}: an HTML page",
    ):
        assert part in said


def test_a_server_that_never_answers_costs_no_more_than_the_budget(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = InfoConfig(folder=tmp_path, cric_url=url)
        found = CricInformation(config, clock=CLOCK, fetch=HttpFetch(clock=CLOCK), policy=FAST)
        started = CLOCK.monotonic()
        with pytest.raises(SetupError, match="127"):
            found.queue("TEST_QUEUE", budget=budget(0.6))
        assert CLOCK.monotonic() - started < stated(1.5)


@pytest.mark.parametrize("drip", DRIPS)
def test_a_server_that_answers_byte_by_byte_costs_no_more_than_the_budget(tmp_path: Path, drip: str) -> None:
    with dripping(DRIPS[drip]) as url:
        config = InfoConfig(folder=tmp_path, cric_url=url)
        found = CricInformation(config, clock=CLOCK, fetch=HttpFetch(clock=CLOCK), policy=FAST)
        started = CLOCK.monotonic()
        with pytest.raises(SetupError, match="not done after"):
            found.queue("TEST_QUEUE", budget=budget(0.6))
        assert CLOCK.monotonic() - started < stated(3.0)
