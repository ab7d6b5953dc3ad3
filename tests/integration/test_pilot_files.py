"""Jobs with data through the real pilot: inputs fetched, outputs stored and
reported, and what happens if one is missing.
"""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_core.local.definition import make
from pilot_core.local.server import LocalPanda
from tests.fakes import lsm
from tests.fakes.pilot_process import start_pilot

PROCESS = ("--engine", "process")


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path / "panda") as server:
        yield server


def submit(panda: LocalPanda, command: str, **more: object) -> int:
    return panda.store.submit(
        make(transformation=f"{panda.url}/trf/bash-c-enc", parameters=command, encode=True, **more)
    )


def columns(count: int, value: str) -> str:
    return ",".join([value] * count)


def outputs(names: list[str]) -> dict[str, object]:
    """Parallel lists as the server sends them: outputs first, then the log."""
    every = [*names, "log.tgz"]
    return {
        "outFiles": ",".join(every),
        "realDatasets": columns(len(every), "out.data/"),
        "ddmEndPointOut": columns(len(every), ""),
        "scopeOut": columns(len(names), "test"),
    }


def test_200_outputs_are_stored_and_reported(panda: LocalPanda, tmp_path: Path) -> None:
    names = [f"out.{n:03}.dat" for n in range(200)]
    job = submit(
        panda, "for n in $(seq -f %03g 0 199); do echo content $n > out.$n.dat; done", **outputs(names)
    )
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    row = panda.store.job(job)
    assert row.status == "finished", (row.pilot_error, row.ddm_error, pilot.text()[-3000:])
    report = json.loads(row.report)
    assert set(report) == {*names, "log.tgz"}
    for name in names:
        stored = Path(report[name]["surl"].removeprefix("file:"))
        data = stored.read_bytes()
        assert len(data) == report[name]["fsize"]
        assert f"{zlib.adler32(data):08x}" == report[name]["adler32"]


def test_a_missing_output_fails_the_job_and_the_logs_are_kept(panda: LocalPanda, tmp_path: Path) -> None:
    job = submit(panda, "echo here > a.dat", **outputs(["a.dat", "b.dat"]))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    row = panda.store.job(job)
    code, diag = row.pilot_error
    assert (row.status, code) == ("failed", 1165)
    assert "b.dat" in diag
    assert row.log_url.endswith("pilotlog.txt")


def store_inputs(panda: LocalPanda, names: list[str]) -> dict[str, object]:
    folder = panda.folder / "logs" / "LOCAL" / "in.data"
    folder.mkdir(parents=True)
    sizes, sums = [], []
    for name in names:
        data = f"content of {name}".encode()
        (folder / name).write_bytes(data)
        sizes.append(str(len(data)))
        sums.append(f"ad:{zlib.adler32(data):08x}")
    count = len(names)
    return {
        "inFiles": ",".join(names),
        "GUID": columns(count, "00000000-0000-0000-0000-000000000001"),
        "fsize": ",".join(sizes),
        "checksum": ",".join(sums),
        "scopeIn": columns(count, "test"),
        "ddmEndPointIn": columns(count, "LOCAL_LOGS"),
        "realDatasetsIn": columns(count, "in.data/"),
        "prodDBlockToken": columns(count, "NULL"),
    }


def test_three_inputs_are_there_when_the_payload_starts(panda: LocalPanda, tmp_path: Path) -> None:
    names = ["one.dat", "two.dat", "three.dat"]
    job = submit(panda, "cat one.dat two.dat three.dat", **store_inputs(panda, names))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    row = panda.store.job(job)
    assert row.status == "finished", (row.pilot_error, row.ddm_error)
    stdout = tmp_path / "home" / f"PanDA_Pilot-{job}" / "payload.stdout"
    assert stdout.read_text() == "".join(f"content of {name}" for name in names)


def test_a_wrong_checksum_fails_the_job_before_the_payload(panda: LocalPanda, tmp_path: Path) -> None:
    inputs = store_inputs(panda, ["one.dat"])
    job = submit(panda, "echo ran", **{**inputs, "checksum": "ad:00000001"})
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    code, diag = panda.store.job(job).pilot_error
    assert code == 1171, diag
    assert "one.dat" in diag
    assert not (tmp_path / "home" / f"PanDA_Pilot-{job}" / "payload.stdout").exists()


def folder_storage(panda: LocalPanda, name: str, folder: Path, **more: object) -> None:
    protocol = [{"id": 9, "endpoint": "file://", "path": str(folder), "flavour": "FILE"}]
    activities = ("pr", "pw", "read_lan", "write_lan")
    panda.cric.add_storage(name, arprotocols=dict.fromkeys(activities, protocol), **more)


def test_a_deterministic_storage_gets_the_tarball_and_no_single_logs(
    panda: LocalPanda, tmp_path: Path
) -> None:
    folder_storage(panda, "DISK", tmp_path / "disk", is_deterministic=True)
    panda.cric.add_queue("LOCAL", astorages={"write_lan": ["DISK"]})
    job = submit(panda, "echo content > a.dat", scopeLog="test", **outputs(["a.dat"]))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    row = panda.store.job(job)
    assert row.status == "finished", (row.pilot_error, row.ddm_error, pilot.text()[-3000:])
    report = json.loads(row.report)
    # md5("test:a.dat") and md5("test:log.tgz").
    surls = {name: entry["surl"].removeprefix(str(tmp_path)) for name, entry in report.items()}
    assert surls == {"a.dat": "/disk/test/ac/85/a.dat", "log.tgz": "/disk/test/d6/1b/log.tgz"}
    for entry in report.values():
        assert Path(entry["surl"]).stat().st_size == entry["fsize"]
    assert sorted(path.name for path in (tmp_path / "disk").rglob("*.*")) == ["a.dat", "log.tgz"]


@pytest.mark.parametrize("allowed", [True, False])
def test_another_storage_takes_an_output_where_that_is_allowed(
    panda: LocalPanda, tmp_path: Path, allowed: bool
) -> None:
    (tmp_path / "broken").write_text("no folder")
    folder_storage(panda, "BROKEN", tmp_path / "broken")
    panda.cric.add_queue(
        "LOCAL",
        astorages={"pl": ["LOCAL_LOGS"], "write_lan": ["BROKEN", "LOCAL_LOGS"]},
        params={"allow_altstageout": allowed},
    )
    job = submit(panda, "echo content > a.dat", **outputs(["a.dat"]))
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    row = panda.store.job(job)
    if not allowed:
        assert (row.status, row.pilot_error[0]) == ("failed", 1137)
        return
    assert row.status == "finished", (row.pilot_error, row.ddm_error, pilot.text()[-3000:])
    report = json.loads(row.report)
    assert report["a.dat"]["endpoint"] == "LOCAL_LOGS"
    assert Path(report["a.dat"]["surl"].removeprefix("file:")).read_text() == "content\n"


def test_an_input_is_fetched_from_the_storage_that_has_it(panda: LocalPanda, tmp_path: Path) -> None:
    folder_storage(panda, "EMPTY", tmp_path / "empty")
    panda.cric.add_queue(
        "LOCAL", astorages={"pr": ["EMPTY", "LOCAL_LOGS"], "pl": ["LOCAL_LOGS"], "pw": ["LOCAL_LOGS"]}
    )
    inputs = store_inputs(panda, ["one.dat"])
    job = submit(panda, "cat one.dat", **{**inputs, "ddmEndPointIn": "NULL"})
    with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
        assert pilot.wait() == 0
    row = panda.store.job(job)
    stdout = tmp_path / "home" / f"PanDA_Pilot-{job}" / "payload.stdout"
    assert stdout.read_text() == "content of one.dat", (row.pilot_error, pilot.text()[-3000:])


def test_a_sites_own_mover_with_its_script_and_the_storages_token(panda: LocalPanda, tmp_path: Path) -> None:
    script = tmp_path / "setup.sh"
    script.write_text(f"PATH={tmp_path}/bin:$PATH\n")
    protocol = [{"id": 9, "endpoint": lsm.URL, "path": "/data", "flavour": "XROOT"}]
    panda.cric.add_storage("SITE", arprotocols={"write_lan": protocol}, token="DATADISK")
    panda.cric.add_queue(
        "LOCAL",
        copytools={"lsm": {"setup": str(script)}, "mv": {"setup": ""}},
        acopytools={"pl": ["mv"], "write_lan": ["lsm"]},
        astorages={"pl": ["LOCAL_LOGS"], "write_lan": ["SITE"]},
    )
    with lsm.lsm(tmp_path, on_path=False) as store:
        job = submit(panda, "echo content > a.dat", **outputs(["a.dat"]))
        with start_pilot(panda, tmp_path / "home", *PROCESS) as pilot:
            assert pilot.wait() == 0
        row = panda.store.job(job)
        assert row.status == "finished", (row.pilot_error, row.ddm_error, pilot.text()[-3000:])
        assert json.loads(row.report)["a.dat"]["surl"] == f"{lsm.URL}/data/LOCAL/out.data/a.dat"
        assert (store / "data/LOCAL/out.data/a.dat").read_text() == "content\n"
        assert "lsm-put -t DATADISK --size 8 --checksum adler32:" in (store / "calls").read_text()
