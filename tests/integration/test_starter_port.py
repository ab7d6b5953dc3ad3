"""The health port of a running starter: real HTTP, and clients that misbehave."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.patience import stated
from tests.fakes.pilot.process import Starter, wait_for
from tests.fakes.site import new_site


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    made = Starter(tmp_path)
    made.env["PILOT_HEALTH_PORT"] = "0"
    try:
        yield made
    finally:
        made.kill()


def status(starter: Starter) -> dict[str, object]:
    try:
        found = json.loads(starter.log.with_suffix(".json").read_text())
    except FileNotFoundError:
        return {}
    assert isinstance(found, dict)
    return found


def up(starter: Starter, **env: str) -> tuple[str, int]:
    starter.start(FAKE_RUN_S="60", **env)
    wait_for(lambda: status(starter).get("phase") == "running")
    parts = urlsplit(str(status(starter)["listening"]))
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def get(where: tuple[str, int], path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*where, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def numbers(where: tuple[str, int]) -> dict[str, float]:
    status_code, body = get(where, "/metrics")
    assert status_code == 200
    return {
        f"{sample.name}{''.join(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if family.name != "panda_pilot_info"
    }


def test_a_well_worker_and_its_numbers(starter: Starter) -> None:
    where = up(starter)
    assert where[0] == "127.0.0.1", "loopback unless told otherwise"
    code, body = get(where, "/healthz")
    assert (code, body.split(b",")[0]) == (200, b"running")
    seen = numbers(where)
    assert seen["panda_pilot_up"] == 1
    assert seen["panda_pilot_phaserunning"] == 1
    assert seen["panda_pilot_stageidle"] == 1
    assert seen["panda_pilot_fallback"] == 0


def test_a_hung_pilot_is_not_well(starter: Starter) -> None:
    where = up(starter, PILOT_SILENT_SECONDS="0.5")
    wait_for(lambda: get(where, "/healthz")[0] == 503)
    assert b"nothing moved" in get(where, "/healthz")[1]
    assert numbers(where)["panda_pilot_up"] == 0


def test_a_pilot_that_could_not_be_had(starter: Starter) -> None:
    del starter.env["PILOT_NO_FALLBACK"]
    starter.env.update(PILOT_SOURCE="file:///nowhere", PILOT_PYTHON="", pandaQueueName="Q")
    starter.start()
    wait_for(lambda: status(starter).get("pilot_source") == "installed")
    assert status(starter)["fallback"] is True


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"GET /healthz?x=1 HTTP/1.0\r\n\r\n", b"200"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
    ],
)
def test_strange_requests_get_an_answer(starter: Starter, sent: bytes, code: bytes) -> None:
    with socket.create_connection(up(starter), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.split(b" ")[1] == code


def test_head_has_no_body(starter: Starter) -> None:
    where = up(starter)
    assert get(where, "/healthz", "HEAD") == (200, b"")


def test_dawdlers_cost_others_nothing(starter: Starter) -> None:
    where = up(starter)
    idle = [socket.create_connection(where, timeout=10) for _ in range(20)]
    for client in idle:
        client.sendall(b"GET /metrics HT")
    began = time.monotonic()
    assert get(where, "/healthz")[0] == 200
    assert time.monotonic() - began < stated(1.0)
    # Each is cut off after five seconds, whatever it drips.
    for client in idle:
        assert client.recv(1) == b""
        client.close()
    assert time.monotonic() - began < stated(8.0)
    # A request line without end.
    with socket.create_connection(where, timeout=10) as client:
        client.sendall(b"GET /" + b"x" * 20_000)
        wait_for(lambda: gone(client))
    assert get(where, "/healthz")[0] == 200


def test_a_crowd_is_turned_away_and_the_port_lives(starter: Starter) -> None:
    where = up(starter)
    crowd = [socket.create_connection(where, timeout=10) for _ in range(100)]
    wait_for(lambda: sum(gone(client) for client in crowd) >= 60)
    for client in crowd:
        client.close()
    wait_for(lambda: get(where, "/healthz")[0] == 200)


def gone(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_an_open_connection_does_not_delay_the_end(starter: Starter) -> None:
    where = up(starter)
    with socket.create_connection(where, timeout=10) as client:
        client.sendall(b"GET ")
        assert starter.process is not None
        began = time.monotonic()
        starter.process.send_signal(signal.SIGTERM)
        assert starter.end() == 143
        assert time.monotonic() - began < stated(3.0)
    log = starter.log.read_text()
    assert "Traceback" not in log
    assert "abandoned" not in log


def test_it_answers_while_the_worker_ends(starter: Starter) -> None:
    where = up(starter, FAKE_ON_TERM="ignore", PILOT_GRACE_SECONDS="5")
    assert starter.process is not None
    starter.process.send_signal(signal.SIGTERM)
    assert get(where, "/healthz")[0] == 200
    assert starter.end() == 143


def test_a_port_that_is_taken_is_said_and_nothing_else(starter: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert starter.run(PILOT_HEALTH_PORT=str(other.getsockname()[1])) == 0
    assert "no health and metrics at 127.0.0.1" in starter.log.read_text()


def test_without_a_port_nothing_of_it_is_loaded(starter: Starter) -> None:
    starter.env["PILOT_HEALTH_PORT"] = ""
    starter.env["PYTHONPROFILEIMPORTTIME"] = "1"
    assert starter.run() == 0
    loaded = starter.out.decode(errors="replace")
    assert "pilot_starter.run" in loaded
    assert "prometheus_client" not in loaded
    assert "asyncio" not in loaded


@pytest.mark.slow
def test_a_real_pilot_tells_its_numbers(tmp_path: Path) -> None:
    """One job finished, one running; then the pilot dies and is told of."""
    with new_site(tmp_path) as site:
        site.environment["PILOT_HEALTH_PORT"] = "0"
        site.submit("echo one")
        site.start()
        site.until_status("finished", "holding")
        site.submit("echo two; sleep 300")
        site.until_status("running")
        said = json.loads((tmp_path / "worker" / "wrapper-wid.json").read_text())
        parts = urlsplit(said["listening"])
        where = (str(parts.hostname), int(parts.port or 0))
        site.until(lambda: "panda_pilot_payload_running_seconds" in numbers(where), "the pilot's next beat")
        seen = numbers(where)
        assert seen["panda_pilot_job_id"] == site.job
        assert seen["panda_pilot_stagerunning"] == 1
        assert seen["panda_pilot_jobs_total0finished"] == 1
        assert seen["panda_pilot_requests_totalacquire_jobok"] >= 2
        assert seen["panda_pilot_uploads_totalstored"] >= 1
        assert seen["panda_pilot_log_waiting_bytesworker"] >= 0
        assert 0 <= seen["panda_pilot_payload_running_seconds"] < 60
        assert seen["panda_pilot_server_answer_age_seconds"] < 60
