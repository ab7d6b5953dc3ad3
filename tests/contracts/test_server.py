"""What every PanDA server does for a pilot: the fake, and the client twice."""

import json
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pilot_core.base.budget import Budget
from pilot_core.base.scope import Scope
from pilot_core.config import ServerConfig
from pilot_core.errors import ServerError, ServerRefused, ServerUnreachable
from pilot_core.local.server import LocalPanda
from pilot_core.local.store import Store
from pilot_core.model.codes import ErrorCode
from pilot_core.model.report import CommandKind, FileReport, JobReport, JobState, Node, Reply, WorkerState
from pilot_core.model.sample import Usage
from pilot_core.server.auth import Credential
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest, Server
from tests.fakes.pki import Pki, make_pki
from tests.fakes.server import FakeServer, SkippingClock

QUEUE = "DOMA_LSST_GOOGLE_TEST"
DEFINITION = {
    "computingSite": QUEUE,
    "transformation": "https://example.org/bash-c",
    "jobPars": "ZWNobyBoZWxsbw==",
}
REQUEST = JobRequest(
    site=QUEUE, computing_element=QUEUE, label="managed", node="slot1@node7", disk_mb=20_000, memory_mb=16_000
)
NODE = Node(
    name="slot1@node7",
    batch_type="Kubernetes",
    batch_id="grid-job-17",
    scheduler_id="harvester-Rubin",
    cpu_unit="s+Xeon 4-Core Processor 55296 KB",
    cpu_level="x86_64-v3",
)
USAGE = Usage(
    cpu_s=3.2,
    samples=4,
    max_rss=812_340,
    max_pss=790_000,
    max_vmem=2_100_000,
    avg_rss=500_000.4,
    rchar=1_234_567_890,
    wchar=345_678,
    rate_rchar=12_345.6,
    cores=0.7,
)


@dataclass(frozen=True)
class World:
    """A server, and the other side of it."""

    server: Server
    store: Store
    clock: SkippingClock
    panda: LocalPanda | None = None
    credential: str = ""

    def submit(self, **more: object) -> int:
        return self.store.submit({**DEFINITION, **more})

    def budget(self, seconds: float = 3_600.0) -> Budget:
        return Budget(self.clock, seconds, "test")

    def acquire(self, request: JobRequest = REQUEST) -> object:
        return self.server.acquire_job(request, budget=self.budget(), stop=threading.Event())

    def update(self, report: JobReport) -> Reply:
        return self.server.update_job(report, budget=self.budget(), stop=threading.Event())

    def report(self, panda_id: int, state: JobState = JobState.RUNNING) -> JobReport:
        return JobReport(
            panda_id=panda_id, attempt=1, state=state, site=QUEUE, node=NODE, start_s=1_714_565_300.1
        )

    def running(self, **more: object) -> int:
        """A job that this pilot runs."""
        panda_id = self.submit(**more)
        self.acquire()
        for state in (JobState.STARTING, JobState.RUNNING):
            self.update(self.report(panda_id, state))
        return panda_id

    def finished(self, panda_id: int) -> JobReport:
        """A report that names every file the job defines."""
        definition = self.store.job(panda_id).definition
        files = tuple(
            FileReport(lfn, str(definition["logGUID"]), 5, f"{zlib.adler32(b'hello'):08x}")
            for lfn in str(definition["outFiles"]).split(",")
            if lfn
        )
        report = self.report(panda_id, JobState.FINISHED)
        return replace(report, end_s=1_714_565_430.9, exit_code=0, files=files, timing=(1, 0, 95, 4, 6, 2))


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


WORLDS = (
    "fake",
    "v1 http",
    "legacy http",
    "auto http",
    "v1 https x509",
    "legacy https x509",
    "v1 https token",
    "legacy https token",
)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    clock = SkippingClock()
    words = str(request.param).split()
    if words == ["fake"]:
        store = Store(Path(":memory:"), adder_delay_s=3_600)
        yield World(FakeServer(store=store, harvester_id="Rubin", worker_id=17), store, clock)
        store.close()
        return
    https = "https" in words
    pki: Pki | None = request.getfixturevalue("pki") if https else None
    with LocalPanda(
        tmp_path / "panda", tls=pki.tls if pki else None, require_auth=https, adder_delay_s=3_600
    ) as panda:
        token, proxy = tmp_path / "token", tmp_path / "x509up"
        token.write_text(panda.issue_token(seconds=100) + "\n")
        key = tmp_path / "key"
        key.write_text("local-token-key")
        if pki:
            proxy.write_bytes(pki.proxy.read_bytes())
            (panda.folder / "proxy.pem").write_bytes(pki.fresh.read_bytes())
        config = ServerConfig(
            panda.url,
            api=words[0],
            proxy_file=proxy if "x509" in words else None,
            token_file=token if "token" in words else None,
            token_origin="Rubin.pilot",
            token_key_file=key,
            spare_folder=tmp_path,
            ca_file=pki.ca if pki else None,
        )
        server = PandaServer(config, clock=clock, harvester_id="Rubin", worker_id=17)
        yield World(server, panda.store, clock, panda, words[-1])
        server.close()


def test_no_job(world: World) -> None:
    assert world.acquire() is None


def test_a_job_is_handed_out_once(world: World) -> None:
    panda_id = world.submit()
    job = world.acquire()
    assert isinstance(job, dict)
    assert job["PandaID"] == panda_id
    assert job["jobPars"] == DEFINITION["jobPars"]
    assert world.store.job(panda_id).status == "sent"
    assert world.acquire() is None


def test_a_job_that_is_too_large_stays_away(world: World) -> None:
    world.submit(minRamCount=64_000)
    assert world.acquire() is None
    assert world.acquire(replace(REQUEST, memory_mb=128_000)) is not None


def test_life_of_a_job(world: World) -> None:
    panda_id = world.submit()
    world.acquire()
    for state in (JobState.STARTING, JobState.RUNNING):
        assert world.update(world.report(panda_id, state)) == Reply()
        assert world.store.job(panda_id).status == state
    assert world.update(world.finished(panda_id)) == Reply()
    job = world.store.job(panda_id)
    assert (job.final, job.status) == ("finished", "holding")
    assert list(json.loads(job.report)) == [job.definition["logFile"]]
    assert (job.started_s, job.ended_s) == (1_714_565_300, 1_714_565_430)


def test_a_heartbeat_arrives_with_its_numbers(world: World) -> None:
    panda_id = world.running()
    report = replace(world.report(panda_id), usage=USAGE, pilot_id="https://x/log|Kubernetes|PR|4.0", cores=2)
    world.update(report)
    columns = world.store.job(panda_id).columns
    assert columns["maxRSS"] == 812_340
    assert columns["avgRSS"] == 500_000
    assert columns["totRCHAR"] == 1_234_567_890 // 1024
    assert columns["pilotID"] == report.pilot_id
    assert columns["batchID"] == "grid-job-17"
    assert columns["modificationHost"] == "slot1@node7"
    assert int(str(columns["cpuConsumptionTime"])) == 3
    assert int(str(columns["actualCoreCount"])) == 2


def test_failure_codes_arrive(world: World) -> None:
    panda_id = world.running()
    report = replace(
        world.report(panda_id, JobState.FAILED),
        code=ErrorCode.PAYLOADEXECUTIONFAILURE,
        diag="exit 3: no such calibration",
        exit_code=3,
        exe_code=77,
        exe_diag="TaskError",
        log_tail="the last line",
    )
    world.update(report)
    job = world.store.job(panda_id)
    assert job.final == "failed"
    assert job.pilot_error == (1305, "exit 3: no such calibration")
    assert job.exit_code == 3
    assert int(str(job.columns["exeErrorCode"])) == 77
    assert job.pilot_log == "the last line"


def test_too_long_values_do_not_cost_the_update(world: World) -> None:
    panda_id = world.running()
    long = "x" * 5_000
    node = replace(NODE, name=long, cpu_unit=long, cpu_level=long, scheduler_id=long)
    report = replace(
        world.finished(panda_id),
        node=node,
        pilot_id=long,
        sub_state=long,
        diag=long + "é\ud800\0",
        exe_diag=long,
        metrics="a=1 " * 500,
        timing=(10**9,) * 60,
        stdout=long,
        log_tail=long,
        cores=2**40,
        usage=replace(USAGE, cpu_s=1e12, max_rss=10**15, rate_rchar=float("inf")),
    )
    world.update(report)
    columns = world.store.job(panda_id).columns
    assert len(str(columns["cpuConsumptionUnit"])) == 128
    assert len(str(columns["pilotTiming"])) == 100
    # A number that does not fit is left out, not cut.
    assert int(str(columns["actualCoreCount"])) == 1


def test_a_kill_arrives_with_the_next_update(world: World) -> None:
    panda_id = world.running()
    world.store.kill(panda_id)
    assert [c.kind for c in world.update(world.report(panda_id)).commands] == [CommandKind.KILL]


@pytest.mark.parametrize("change", [{"attempt": 7}, {"panda_id": 1}])
def test_a_job_that_is_not_ours_is_to_be_killed(world: World, change: dict[str, int]) -> None:
    report = replace(world.report(world.running()), **change)  # type: ignore[arg-type]
    assert [c.kind for c in world.update(report).commands] == [CommandKind.KILL]


def test_debug_commands_and_secrets_arrive(world: World) -> None:
    panda_id = world.running(pilotSecrets='{"logstash": "s3cret"}')
    world.store.set_debug(panda_id, True)
    world.store.set_command(panda_id, "tail payload.stdout")
    reply = world.update(world.report(panda_id))
    # The server says `debug` as well: the command is what counts.
    assert [(c.kind, c.text) for c in reply.commands] == [(CommandKind.DEBUG_COMMAND, "tail payload.stdout")]
    assert reply.pilot_secrets == {"logstash": "s3cret"}
    world.update(replace(world.report(panda_id), stdout="the last lines"))
    assert world.store.job(panda_id).stdout == "the last lines"


def test_a_second_final_report_is_as_good_as_accepted(world: World) -> None:
    panda_id = world.running()
    world.update(world.finished(panda_id))
    reply = world.update(world.finished(panda_id))
    assert [c.kind for c in reply.commands] == [CommandKind.ALREADY_DONE]


def test_metadata_of_a_job_the_server_has_lost_does_not_hold_up_the_report(world: World) -> None:
    report = JobReport(1, 1, JobState.FINISHED, QUEUE, NODE, metadata="{}")
    assert [c.kind for c in world.update(report).commands] == [CommandKind.KILL]


def test_worker_states_arrive(world: World) -> None:
    for state in WorkerState:
        world.server.update_worker(
            state, site=QUEUE, node="node7", budget=world.budget(), stop=threading.Event()
        )
    assert [(w.worker_id, w.status) for w in world.store.workers()] == [("17", "started"), ("17", "finished")]


def test_a_worker_log_is_stored_once(world: World, tmp_path: Path) -> None:
    path = tmp_path / "Rubin_17.out"
    content = bytes(range(256)) * 500 + b"\r\n--"
    path.write_bytes(content)

    def upload() -> None:
        world.server.upload_worker_log(path, budget=world.budget(), stop=threading.Event())

    upload()
    if world.panda is None:
        assert isinstance(world.server, FakeServer)
        assert world.server.logs[path.name] == content
    else:
        assert (world.panda.folder / "cache" / path.name).read_bytes() == content
    with pytest.raises(ServerRefused, match="cannot overwrite"):
        upload()


@pytest.mark.parametrize("world", WORLDS[1:], indirect=True)
def test_a_credential_is_renewed_and_used(world: World) -> None:
    assert isinstance(world.server, PandaServer)
    before = world.server.lifetimes()
    for credential, left in before.items():
        assert world.server.renew(credential, budget=world.budget(), stop=threading.Event())
        assert world.server.lifetimes()[credential] > left + 3_000
    assert set(before) == {
        "http": set(), "x509": {Credential.PROXY}, "token": {Credential.TOKEN}
    }[world.credential]  # fmt: skip
    assert world.acquire() is None


def test_a_missing_worker_log_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"nothing\.out: No such file"):
        world.server.upload_worker_log(
            tmp_path / "nothing.out", budget=world.budget(), stop=threading.Event()
        )


def test_no_time_no_request(world: World) -> None:
    world.submit()
    with pytest.raises(ServerUnreachable):
        world.server.acquire_job(REQUEST, budget=world.budget(0.0), stop=threading.Event())
    assert world.acquire() is not None


def test_many_threads_share_a_server(world: World) -> None:
    ids = [world.submit() for _ in range(12)]
    taken: list[object] = []

    def pilot() -> None:
        for _ in range(3):
            job = world.acquire()
            assert isinstance(job, dict)
            world.update(world.report(job["PandaID"], JobState.STARTING))
            taken.append(job["PandaID"])

    with Scope("pilots", join_s=30.0) as scope:
        threads = [scope.spawn(str(n), pilot) for n in range(4)]
        for thread in threads:
            thread.join(30.0)
    assert sorted(map(str, taken)) == sorted(map(str, ids))


def test_closing_twice_is_harmless(world: World) -> None:
    world.acquire()
    world.server.close()
    world.server.close()
