"""Queue and storage definitions that come with the server."""

from pathlib import Path

import pytest

from pilot_core.local.cric import Cric

#: maxrss MB, minrss MB, timefloor min, status: the seven GKE queues in CRIC.
GKE = {
    "DOMA_LSST_DEV": (1800, 0, 60, "online"),
    "DOMA_LSST_GOOGLE_MERGE": (4086, 0, 480, "brokeroff"),
    "DOMA_LSST_GOOGLE_TEST": (3200, 0, 60, "online"),
    "DOMA_LSST_GOOGLE_TEST_HIMEM": (18000, 3200, 60, "online"),
    "DOMA_LSST_GOOGLE_TEST_HIMEM_NON_PREEMPT": (19000, 1, 480, "brokeroff"),
    "DOMA_LSST_GOOGLE_TEST_EXTRA_HIMEM": (220_000, 18_000, 480, "online"),
    "DOMA_LSST_GOOGLE_TEST_EXTRA_HIMEM_NON_PREEMPT": (220_000, 18_000, 480, "brokeroff"),
}


@pytest.mark.parametrize("name", GKE)
def test_gke_queues(name: str, tmp_path: Path) -> None:
    queue = Cric(tmp_path).queue(name)
    assert queue is not None
    assert tuple(queue[key] for key in ("maxrss", "minrss", "timefloor", "status")) == GKE[name]
    assert (queue["nickname"], queue["panda_resource"], queue["state"]) == (name, name, "ACTIVE")
    assert queue["acopytools"]["write_lan"] == ["gs"]
    assert queue["astorages"]["write_lan"] == ["GKE-LSST_LOGS"]


def test_storages(tmp_path: Path) -> None:
    cric = Cric(tmp_path)
    gke = cric.query("ddmendpoint", "GKE-LSST_LOGS")["GKE-LSST_LOGS"]["arprotocols"]["write_lan"][0]
    assert (gke["endpoint"], gke["path"]) == ("gs://drp-us-central1-logging", "/logs")
    local = cric.query("ddmendpoint", "LOCAL_LOGS")["LOCAL_LOGS"]["arprotocols"]["write_lan"][0]
    assert (local["endpoint"], local["path"]) == ("file://", f"{tmp_path}/logs")


def test_own_queues(tmp_path: Path) -> None:
    cric = Cric(tmp_path)
    cric.add_queue("MINE", status="test")
    assert cric.status("MINE") == "test"
    assert cric.query("pandaqueue", "MINE")["MINE"]["panda_resource"] == "MINE"
    cric.add_queue("LOCAL", maxrss=1)
    assert cric.queue("LOCAL") is not None
    assert cric.query("pandaqueue", "LOCAL")["LOCAL"]["maxrss"] == 1
    assert cric.query("pandaqueue", "NONE") == {}
    assert set(cric.names()) == {*GKE, "LOCAL", "MINE"}
