"""A pilot that dies by SIGKILL while it stores a job's files, and the next one
in its place.

It is struck once so many bytes have reached the storage, which is the same
moment on a slow machine and on a fast one. PILOT_TEST_STORING_KILLS says at
how many points, other ones in each run; without it a few fixed ones are tried.
`pytest -s` prints what became of each.
"""

import json
import os
import random
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from pilot_core.local.definition import make
from pilot_core.local.rows import JobRow
from pilot_core.local.server import LocalPanda
from pilot_core.model.codes import ErrorCode
from tests.fakes.gcs_server import gcs_server
from tests.fakes.pilot_process import PilotProcess, start_pilot

ASKED = int(os.environ.get("PILOT_TEST_STORING_KILLS", "0"))
POINTS = ASKED or 2
CHANCE = random.Random() if ASKED else random.Random(1)

#: One goes in a single request, one as a stream that can be resumed.
SIZES = {"small.dat": 2_000_000, "large.dat": 6_000_000}
LINES = 400_000
#: A user's secret, which the payload prints. Whoever stores its log masks it:
#: also the next pilot, which finds it only in the job's own file of secrets.
SECRET = "123456"
STDOUT = "".join(f"{n}\n" for n in range(1, LINES + 1)).replace(SECRET, "***").encode()
PAYLOAD = "; ".join(
    [*(f"head -c {size} /dev/urandom > {name}" for name, size in SIZES.items()), f"seq 1 {LINES}"]
)
#: What a whole run sends: outputs, the same in the bundle, logs.
TOTAL = 2 * sum(SIZES.values()) + len(STDOUT) + len(STDOUT) // 3 + 40_000

#: A random moment in each part of the upload; what comes after the last byte
#: of the logs is the final report, and the pilot's log once more.
MOMENTS = [int((part + CHANCE.random()) / POINTS * TOTAL) for part in range(POINTS)]


@dataclass(frozen=True)
class Storage:
    """Where the queue keeps its files.

    Attributes
    ----------
    taken
        Bytes that have come so far.
    objects
        Content by name, of all that has its final name.
    """

    tool: str
    endpoint: str
    taken: Callable[[], int]
    objects: Callable[[], Mapping[str, bytes]]
    environment: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture
def bucket() -> Iterator[Storage]:
    with gcs_server() as server:
        pieces: list[int] = []
        server.took = pieces.append
        yield Storage(
            "gs",
            "gs://bucket",
            lambda: sum(pieces),
            lambda: {name.rsplit("/", 1)[1]: found.data for name, found in server.objects.items()},
            {"STORAGE_EMULATOR_HOST": server.url},
        )


@pytest.fixture
def folder(tmp_path: Path) -> Storage:
    store = tmp_path / "store"

    def files() -> Iterator[Path]:
        return (path for path in store.rglob("*") if path.is_file())

    def taken() -> int:
        total = 0
        for path in files():
            with suppress(FileNotFoundError):  # renamed meanwhile
                total += path.stat().st_size
        return total

    return Storage(
        "mv",
        f"file://{store}",
        taken,
        lambda: {path.name: path.read_bytes() for path in files() if not path.name.startswith(".")},
    )


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


@pytest.mark.timeout(120)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_killed_while_it_stores(
    panda: LocalPanda, tmp_path: Path, request: pytest.FixtureRequest, kind: str, moment: int
) -> None:
    storage: Storage = request.getfixturevalue(kind)
    use(panda, storage)
    job, home = submit(panda), tmp_path / "home"
    options = ("--engine", "process", "--upload-bundle", "yes")
    with start_pilot(panda, home, *options, environment=storage.environment) as pilot:
        struck_at = strike(pilot, storage, moment)
    broken = dict(storage.objects())
    with start_pilot(panda, home, *options, environment=storage.environment) as successor:
        assert successor.wait() == 0, successor.text()[-4000:]
    row, found = panda.store.job(job), storage.objects()
    work = home / f"PanDA_Pilot-{job}"
    for stored in (broken, found):
        for name, data in stored.items():
            assert whole(name, data, work), f"{name} is truncated: {len(data)} bytes"
    assert found["payload.stdout"] == STDOUT
    assert {"pilotlog.txt", "payload.stderr"} <= set(found)
    finals = {u.status for u in panda.store.updates(job) if u.status in ("finished", "failed")}
    assert finals == {row.status}
    check_end(row, found)
    said = f"{row.status} {row.pilot_error}"
    sys.stdout.write(f"\n{storage.tool} struck after {struck_at:9d} of about {TOTAL} bytes: {said}")


def use(panda: LocalPanda, storage: Storage) -> None:
    """Let the queue LOCAL keep all its files there."""
    protocol = [{"id": 1, "endpoint": storage.endpoint, "path": "/kept", "flavour": storage.tool}]
    panda.cric.add_storage("STORE", arprotocols=dict.fromkeys(("pw", "write_lan"), protocol))
    panda.cric.add_queue(
        "LOCAL", acopytools={"write_lan": [storage.tool]}, astorages={"write_lan": ["STORE"]}
    )


def submit(panda: LocalPanda) -> int:
    names = [*SIZES, "log.tgz"]
    lists = {"outFiles": names, "realDatasets": ["data/", "data/", "PandaJob_#{pandaid}/"]}
    more = {key: ",".join(values) for key, values in lists.items()}
    return panda.store.submit(
        make(
            transformation=f"{panda.url}/trf/bash-c-enc",
            parameters=PAYLOAD,
            encode=True,
            secrets=json.dumps({"PIN": SECRET}),
            ddmEndPointOut=",,",
            scopeOut="test,test",
            **more,
        )
    )


def strike(pilot: PilotProcess, storage: Storage, moment: int) -> int:
    """Kill the pilot once so much was taken, or see it end; what was taken."""
    end = time.monotonic() + 60
    while pilot.process.poll() is None and storage.taken() < moment:
        assert time.monotonic() < end, pilot.text()[-4000:]
        time.sleep(0.0005)
    pilot.process.kill()
    pilot.process.wait(10)
    return storage.taken()


def whole(name: str, data: bytes, work: Path) -> bool:
    """Is this all of the file? A log that grew is as it was at some moment."""
    if name == "log.tgz":
        with tarfile.open(fileobj=BytesIO(data), mode="r|gz") as bundle:
            return all(holds_no_secret(bundle, member) for member in bundle)
    local = (work / name).read_bytes()
    if name == "payload.stdout":
        return data == STDOUT
    if name.startswith("pilotlog"):
        return local.startswith(data) and data.endswith(b"\n")
    return local == data


def holds_no_secret(bundle: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    file = bundle.extractfile(member)
    assert file is not None
    return SECRET.encode() not in file.read()


def check_end(row: JobRow, found: Mapping[str, bytes]) -> None:
    """A finished job's report is true; a failed one says why."""
    if row.status == "failed":
        code, diag = row.pilot_error
        assert code == int(ErrorCode.KILLSIGNAL)
        assert "died while the job was at stage" in diag
        return
    report = json.loads(row.report)
    assert set(report) == {*SIZES, "log.tgz"}
    for name in report:
        assert report[name]["fsize"] == len(found[name])
        assert report[name]["adler32"] == f"{zlib.adler32(found[name]):08x}"
