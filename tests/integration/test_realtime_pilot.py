"""Payloads that are hard on a log shipper, run by the real pilot as a process.

Each log goes to Cloud Logging on loopback, or to a file; the payload's own
account of what it wrote is compared with what a reader finds.
"""

import itertools
import json
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from tests.fakes.cloud_logging import CloudLogging, Fault
from tests.fakes.patience import stated
from tests.fakes.pilot_process import start_pilot

LOG = "Panda-RubinLog"
NAME = "payload-log.json"

# What a payload begins with: `say(n)` is one line of its log.
PRELUDE = """
import json, os, sys, time
def say(number, **more):
    record = {"name": "toy", "levelname": "WARNING", "message": "line", "seq": number}
    return json.dumps({**record, **more}) + "\\n"
def until(name):
    end = time.monotonic() + 30
    while not os.path.exists(name) and time.monotonic() < end:
        time.sleep(0.005)
"""


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@pytest.fixture
def service() -> Iterator[CloudLogging]:
    with CloudLogging() as running:
        yield running


def submit(panda: LocalPanda, script: str) -> int:
    """A job that runs this Python program."""
    command = f"cat > toy.py <<'PROGRAM'\n{PRELUDE}{script}\nPROGRAM\npython3 toy.py"
    return panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=command, encode=True)
    )


def options(server: str, interval: str = "5") -> Sequence[str]:
    """How the pilot is started."""
    return (
        *("--engine", "process", "--use-realtime-logging"),
        *("--realtime-logging-server", server, "--realtime-interval", interval),
    )


ENVIRONMENT = {"REALTIME_LOGFILES": NAME}


def run(
    panda: LocalPanda,
    home: Path,
    script: str,
    server: str,
    interval: str = "5",
    environment: Mapping[str, str] = ENVIRONMENT,
) -> str:
    """Run one job to its end; what the pilot has printed."""
    job = submit(panda, script)
    with start_pilot(panda, home, *options(server, interval), environment=environment) as pilot:
        assert pilot.wait() == 0, pilot.text()[-4000:]
        text = pilot.text()
    assert panda.store.job(job).status == "finished", text[-4000:]
    return text


def google(service: CloudLogging) -> str:
    return f"google-cloud-logging;{service.url}"


def payloads(service: CloudLogging) -> list[dict[str, Any]]:
    return [entry["jsonPayload"] for entry in service.entries(LOG)]


def numbers(service: CloudLogging) -> list[int]:
    return [int(payload["seq"]) for payload in payloads(service)]


SHORT = {
    "ends at once": "open('payload-log.json', 'w').write(''.join(map(say, range(200))))",
    "last line without newline": """
out = open('payload-log.json', 'w')
out.write(''.join(map(say, range(200)))[:-1])
""",
    "the log is there in the last moment only": """
time.sleep(1)
out = open('elsewhere', 'w')
out.write(''.join(map(say, range(200))))
out.close()
os.symlink('elsewhere', 'payload-log.json')
""",
    "ends 20 ms after its last line": """
out = open('payload-log.json', 'w', buffering=1)
for n in range(199):
    out.write(say(n))
    time.sleep(0.002)
out.write(say(199))
time.sleep(0.02)
""",
}


@pytest.mark.parametrize("script", SHORT.values(), ids=SHORT)
def test_short_lives(panda: LocalPanda, service: CloudLogging, tmp_path: Path, script: str) -> None:
    text = run(panda, tmp_path / "home", script, google(service))
    assert numbers(service) == list(range(200))
    assert "200 sent, 0 repeated, 0 rejected, 0 bytes left" in text


def test_without_a_word_what_it_prints_and_its_records(
    panda: LocalPanda, service: CloudLogging, tmp_path: Path
) -> None:
    script = "open('payload-log.json', 'w').write(say(1)); print('hello')"
    text = run(panda, tmp_path / "home", script, google(service), environment={})
    assert sorted(str(p["message"]) for p in payloads(service)) == ["hello", "line"]
    assert "2 sent, 0 repeated, 0 rejected, 0 bytes left" in text


@pytest.mark.parametrize(
    ("server", "files", "words"),
    [
        ("foo", NAME, "--realtime-logging-server 'foo' names no log service"),
        ("loki", NAME, "'loki': loki needs an address"),
        ("stdout", ":", "REALTIME_LOGFILES names no file"),
    ],
)
def test_a_setting_that_is_wrong_is_said_before_any_job(
    panda: LocalPanda, tmp_path: Path, server: str, files: str, words: str
) -> None:
    text = run(panda, tmp_path / "home", "print(1)", server, environment={"REALTIME_LOGFILES": files})
    said = [line for line in text.splitlines() if "real-time logging is off" in line]
    assert len(said) == 1
    assert words in said[0]
    assert text.index(said[0]) < text.index("received job")


def test_a_megabyte_without_a_newline(panda: LocalPanda, service: CloudLogging, tmp_path: Path) -> None:
    script = """
out = open('payload-log.json', 'w')
out.write(say(0))
for n in range(1000):
    out.write('%08d' % n * 128)
    out.flush()
"""
    run(panda, tmp_path / "home", script, google(service), "0.1")
    first, *rest = payloads(service)
    assert first["seq"] == 0
    assert "".join(p["message"] for p in rest) == "".join(f"{n:08d}" * 128 for n in range(1000))
    count = len(rest)
    assert [p["Part"] for p in rest] == [f"{n} of {count}" for n in range(1, count + 1)]


REPLACED = {
    "rename": "os.rename('payload-log.json', 'payload-log.json.1')",
    "copy and truncate": "os.system('cp payload-log.json kept'); os.truncate('payload-log.json', 0)",
    "another in its place": (
        "open('next', 'w').close(); os.link('payload-log.json', 'kept')\n"
        "os.rename('next', 'payload-log.json')"
    ),
}


@pytest.mark.parametrize("change", REPLACED.values(), ids=REPLACED)
def test_a_payload_that_replaces_its_log(
    panda: LocalPanda, service: CloudLogging, tmp_path: Path, change: str
) -> None:
    script = f"""
open('payload-log.json', 'w').write(''.join(map(say, range(100))))
until('seen')
{change}
open('payload-log.json', 'a').write(''.join(map(say, range(100, 200))))
"""
    job = submit(panda, script)
    home = tmp_path / "home"
    with start_pilot(panda, home, *options(google(service), "0.1"), environment=ENVIRONMENT) as pilot:
        assert panda.store.wait_for(lambda: len(numbers(service)) == 100, 30), pilot.text()[-4000:]
        (home / f"PanDA_Pilot-{job}" / "seen").touch()
        assert pilot.wait() == 0
    assert numbers(service) == list(range(200))


def test_records_arrive_while_the_payload_runs(
    panda: LocalPanda, service: CloudLogging, tmp_path: Path
) -> None:
    """The payload ends because its own first record has arrived."""
    job = submit(
        panda, "open('payload-log.json', 'w').write(say(0)); until('seen'); assert os.path.exists('seen')"
    )
    home = tmp_path / "home"
    with start_pilot(panda, home, *options(google(service), "0.1"), environment=ENVIRONMENT) as pilot:
        assert panda.store.wait_for(lambda: numbers(service) == [0], 30), pilot.text()[-4000:]
        arrived = service.entries(LOG)[0]["received"]
        assert panda.store.job(job).status == "running"
        written = (home / f"PanDA_Pilot-{job}" / NAME).stat().st_mtime
        assert arrived - written < 1.0
        (home / f"PanDA_Pilot-{job}" / "seen").touch()
        assert pilot.wait() == 0
    assert panda.store.job(job).status == "finished"


def test_the_file_sink_has_the_same(panda: LocalPanda, tmp_path: Path) -> None:
    target = tmp_path / "records.jsonl"
    run(panda, tmp_path / "home", SHORT["last line without newline"], f"file;{target}")
    entries = [json.loads(line) for line in target.read_bytes().splitlines()]
    assert [e["jsonPayload"]["seq"] for e in entries] == list(range(200))
    assert len({e["insertId"] for e in entries}) == 200


BACKLOG = 30_000


def backlog(panda: LocalPanda) -> int:
    """A job that writes a lot at once and then stays."""
    return submit(
        panda,
        f"open('payload-log.json', 'w').write(''.join(say(n, pad='x' * 300) for n in range({BACKLOG})))\n"
        "open('written', 'w').close()\ntime.sleep(300)",
    )


def test_sigterm_with_a_large_backlog(panda: LocalPanda, service: CloudLogging, tmp_path: Path) -> None:
    """12 MB that nobody has looked at are out before the node is gone; on a
    node that is too busy for that, what is left is said.
    """
    job = backlog(panda)
    home = tmp_path / "home"
    with start_pilot(panda, home, *options(google(service), "300"), environment=ENVIRONMENT) as pilot:
        log = home / f"PanDA_Pilot-{job}" / NAME
        assert panda.store.wait_for(log.with_name("written").exists, 30), pilot.text()[-4000:]
        sent = time.monotonic()
        pilot.signal(signal.SIGTERM)
        assert pilot.wait(60) == 143
        took = time.monotonic() - sent
    assert took < stated(12.0)
    seen = numbers(service)
    assert seen == list(range(len(seen)))
    assert len(seen) > BACKLOG // 10
    left = sum(map(len, log.read_bytes().splitlines(keepends=True)[len(seen) :]))
    said = int(pilot.text().split(" bytes left")[0].rsplit(maxsplit=1)[-1])
    assert left <= said <= left + 1_000_000, "what is remembered as sent moves by up to one load"
    assert left == 0 or took > 3.0, "given up while there was time"


def test_sigterm_with_a_service_that_is_too_slow(
    panda: LocalPanda, service: CloudLogging, tmp_path: Path
) -> None:
    """What there is no time for is left, and said."""
    service.faults.append(Fault(status=503, times=-1))
    job = backlog(panda)
    home = tmp_path / "home"
    with start_pilot(panda, home, *options(google(service), "0.1"), environment=ENVIRONMENT) as pilot:
        written = home / f"PanDA_Pilot-{job}" / "written"
        assert panda.store.wait_for(written.exists, 30), pilot.text()[-4000:]
        sent = time.monotonic()
        pilot.signal(signal.SIGTERM)
        assert pilot.wait(60) == 143
        assert time.monotonic() - sent < stated(12.0)
    left = (home / f"PanDA_Pilot-{job}" / NAME).stat().st_size
    assert f"0 sent, {repeated(pilot.text())} repeated, 0 rejected, {left} bytes left" in pilot.text()
    assert [u.status for u in panda.store.updates(job)][-1] == "failed"


def repeated(text: str) -> int:
    """The number in the closing line."""
    return int(text.split(" repeated, ")[0].rsplit(maxsplit=1)[-1])


def test_the_service_is_away_for_the_whole_job(panda: LocalPanda, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    job = submit(panda, SHORT["ends at once"])
    home = tmp_path / "home"
    server = f"google-cloud-logging;{nobody}"
    start = time.monotonic()
    with start_pilot(
        panda, home, *options(server, "0.1"), "--drain-timeout", "3", environment=ENVIRONMENT
    ) as pilot:
        assert pilot.wait() == 0, pilot.text()[-4000:]
    assert time.monotonic() - start < stated(20.0)
    row = panda.store.job(job)
    assert row.status == "finished", "a log service is no reason to fail a job"
    left = (home / f"PanDA_Pilot-{job}" / NAME).stat().st_size
    assert f"{left} bytes left" in pilot.text()
    assert "Connection refused" in pilot.text()
    stored = panda.folder / "logs" / "LOCAL" / f"PandaJob_{job}" / NAME
    assert stored.stat().st_size == left, "what was not shipped is in the stored log"


def test_the_service_comes_back_before_the_end(
    panda: LocalPanda, service: CloudLogging, tmp_path: Path
) -> None:
    service.faults.append(Fault(status=503, times=-1))
    job = submit(panda, SHORT["ends at once"] + "\nuntil('seen')")
    home = tmp_path / "home"
    with start_pilot(panda, home, *options(google(service), "0.1"), environment=ENVIRONMENT) as pilot:
        assert panda.store.wait_for(lambda: service.requests >= 2, 30), pilot.text()[-4000:]
        service.faults.clear()
        (home / f"PanDA_Pilot-{job}" / "seen").touch()
        assert pilot.wait() == 0
    assert numbers(service) == list(range(200))


def test_several_files_named_with_colon_and_comma(
    panda: LocalPanda, service: CloudLogging, tmp_path: Path
) -> None:
    names = ("a.json", "b.json", "late.txt")
    script = f"""
for n, name in enumerate({names!r}):
    open(name, 'w').write(''.join(say(m, file=name) for m in range(n * 10, n * 10 + 10)))
"""
    job = submit(panda, script)
    environment = {"REALTIME_LOGFILES": "a.json:b.json,late.txt"}
    with start_pilot(panda, tmp_path / "home", *options(google(service)), environment=environment) as pilot:
        assert pilot.wait() == 0
    assert panda.store.job(job).status == "finished"
    found = sorted((p["file"], int(p["seq"])) for p in payloads(service))
    assert found == sorted(zip(itertools.chain(*([n] * 10 for n in names)), range(30), strict=True))
    assert {p["PandaJobID"] for p in payloads(service)} == {str(job)}


def test_bytes_that_are_no_utf_8_stop_nothing(
    panda: LocalPanda, service: CloudLogging, tmp_path: Path
) -> None:
    """One of them ends real-time logging, and the job with it, in pilot3."""
    script = """
open('payload-log.json', 'wb').write(say(0).encode() + b'\\xff\\xfe and \\x00\\n' + say(1).encode())
"""
    run(panda, tmp_path / "home", script, google(service))
    assert [p["message"] for p in payloads(service)] == ["line", "\\xff\\xfe and \x00", "line"]


def test_no_log_is_no_error(panda: LocalPanda, service: CloudLogging, tmp_path: Path) -> None:
    text = run(panda, tmp_path / "home", "pass", google(service))
    assert "0 sent, 0 repeated, 0 rejected, 0 bytes left" in text
    assert not service.requests
