"""Where files go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import OutputFile
from pilot_core.model.queue import Protocol, Queue, Storage
from pilot_core.storage.destination import (
    LOG_ACTIVITIES,
    OUTPUT_ACTIVITIES,
    Destination,
    choose_copytool,
    choose_endpoints,
    destination,
    file_url,
    may_go_elsewhere,
)

# As CRIC has Rubin's queues at Google.
GKE = Queue(
    name="DOMA_LSST_GOOGLE_TEST",
    resource="DOMA_LSST_GOOGLE_TEST",
    copytools={"pr": ("gs",), "pw": ("gs",), "write_lan": ("gs",)},
    storages={"pr": ("GKE-LSST_LOGS",), "write_lan": ("GKE-LSST_LOGS",)},
)
LOGS = Storage(
    name="GKE-LSST_LOGS",
    type="GS",
    protocols={"write_lan": (Protocol("gs://drp-us-central1-logging", "/logs"),)},
)
OURS = ("gs", "mv", "cp", "local")


def where(
    dataset: str, *, storage: Storage = LOGS, queue: Queue = GKE, own_folder: bool = True
) -> Destination:
    return destination(
        queue,
        storage,
        activities=LOG_ACTIVITIES,
        file=OutputFile("x", dataset=dataset),
        panda_id=61234567,
        available=OURS,
        own_folder=own_folder,
    )


def test_a_rubin_log() -> None:
    assert choose_endpoints(GKE, LOG_ACTIVITIES) == ("GKE-LSST_LOGS",)
    found = where("PandaJob_#{pandaid}/")
    base = "gs://drp-us-central1-logging/logs/DOMA_LSST_GOOGLE_TEST/PandaJob_61234567/"
    assert found == Destination(base, "GKE-LSST_LOGS", "gs", "write_lan")
    assert file_url(found.prefix, "pilotlog.txt") == f"{base}pilotlog.txt"


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [
        ("", "PandaJob_61234567"),
        ("NULL", "PandaJob_61234567"),
        ("PandaJob_#{pandaid}", "PandaJob_61234567"),
        ("u/x/#{pandaid}//", "u/x/61234567"),
        # The names of logs are the same in every job of a task.
        ("task.log", "task.log/PandaJob_61234567"),
        ("task.61234567.log", "task.61234567.log"),
    ],
)
def test_the_folder_of_a_log_is_the_jobs_own(dataset: str, folder: str) -> None:
    base = "gs://drp-us-central1-logging/logs/DOMA_LSST_GOOGLE_TEST"
    assert where(dataset).prefix == f"{base}/{folder}/"


def test_an_output_stays_in_its_dataset() -> None:
    assert where("task.out", own_folder=False).prefix.endswith("/DOMA_LSST_GOOGLE_TEST/task.out/")


@pytest.mark.parametrize(("endpoint", "path"), [("file:///data/", ""), ("file:///data", "/"), ("/data", "")])
def test_slashes_of_endpoint_and_path_do_not_add_up(endpoint: str, path: str) -> None:
    queue = Queue(name="Q", resource="Q", copytools={"": ("mv",)})
    storage = Storage(name="S", protocols={"": (Protocol(endpoint, path),)})
    assert where("", storage=storage, queue=queue).prefix == f"{endpoint.rstrip('/')}/Q/PandaJob_61234567/"


@pytest.mark.parametrize("dataset", ["../other", "a/../../b", "/etc", "a/./b", "a\nb", "a\x7f", "a\udc80"])
def test_a_dataset_never_leaves_its_prefix(dataset: str) -> None:
    with pytest.raises(StorageError) as caught:
        where(dataset)
    assert caught.value.code is ErrorCode.BADOUTPUTFILENAME


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0", "a\r"])
def test_a_name_never_leaves_its_prefix(name: str) -> None:
    with pytest.raises(StorageError) as caught:
        file_url("gs://b/", name)
    assert caught.value.code is ErrorCode.BADOUTPUTFILENAME


def test_a_name_of_more_than_255_bytes() -> None:
    assert file_url("p/", "ä" * 127)
    with pytest.raises(StorageError) as caught:
        file_url("p/", "ä" * 128)
    assert caught.value.code is ErrorCode.LFNTOOLONG


@given(st.text(max_size=30))
def test_whatever_the_dataset_the_prefix_holds(dataset: str) -> None:
    try:
        prefix = where(dataset).prefix
    except StorageError:
        return
    assert prefix.startswith("gs://drp-us-central1-logging/logs/DOMA_LSST_GOOGLE_TEST/")
    assert "61234567" in prefix
    assert ".." not in prefix.split("/")
    assert prefix.isprintable() or not dataset.isprintable()


def test_the_first_activity_with_a_storage_decides() -> None:
    queue = Queue(name="Q", resource="Q", storages={"pl": (), "write_lan": ("A", "B", "C"), "w": ("D",)})
    assert choose_endpoints(queue, LOG_ACTIVITIES) == ("A", "B", "C")
    assert choose_endpoints(queue, LOG_ACTIVITIES, asked="B") == ("B", "C", "A")
    assert choose_endpoints(queue, LOG_ACTIVITIES, asked="Z") == ("A", "Z", "B", "C")


@pytest.mark.parametrize(
    ("ours", "jobs", "may"),
    [
        (None, None, False),
        (None, "on", True),
        (None, "off", False),
        (True, None, True),
        (False, "on", False),
        ("yes", None, False),
    ],
)
def test_who_allows_another_storage(ours: object, jobs: str | None, may: bool) -> None:
    params = {} if ours is None else {"allow_altstageout": ours}
    queue = Queue(name="Q", resource="Q", params=params)
    assert may_go_elsewhere(queue, {"altStageOut": jobs}) is may


def test_no_storage_names_queue_and_activities() -> None:
    with pytest.raises(StorageError, match=r"queue Q .* pl or write_lan or w") as caught:
        choose_endpoints(Queue(name="Q", resource="Q", storages={"pr": ("A",)}), LOG_ACTIVITIES)
    assert caught.value.code is ErrorCode.NOSTORAGE


def test_the_first_copytool_we_have() -> None:
    queue = Queue(name="Q", resource="Q", copytools={"write_lan": ("rucio", "gs"), "": ("mv",)})
    assert choose_copytool(queue, OUTPUT_ACTIVITIES, available=OURS) == "gs"
    both = ("rucio", "gs")
    assert choose_copytool(queue, OUTPUT_ACTIVITIES, available=both) == "rucio"
    assert choose_copytool(queue, OUTPUT_ACTIVITIES, available=both, installed="gs".__eq__) == "gs"
    assert choose_copytool(queue, OUTPUT_ACTIVITIES, available=both, installed=lambda _: False) == "rucio"
    plain = Queue(name="Q", resource="Q", copytools={"": ("mv",)})
    assert choose_copytool(plain, OUTPUT_ACTIVITIES, available=OURS) == "mv"


@pytest.mark.parametrize("tools", [{}, {"write_lan": ("rucio", "lsm")}])
def test_no_copytool_names_queue_and_activities(tools: dict[str, tuple[str, ...]]) -> None:
    queue = Queue(name="Q", resource="Q", copytools=tools)
    with pytest.raises(StorageError, match=r"queue Q .*write_lan") as caught:
        choose_copytool(queue, OUTPUT_ACTIVITIES, available=OURS)
    assert caught.value.code is ErrorCode.UNKNOWNCOPYTOOL


def test_a_protocol_that_the_copytool_does_not_speak() -> None:
    storage = Storage(name="S", protocols={"write_lan": (Protocol("root://h", "/x"),)})
    with pytest.raises(StorageError, match="storage S of queue DOMA_LSST_GOOGLE_TEST has no gs") as caught:
        where("", storage=storage)
    assert caught.value.code is ErrorCode.NOSTORAGEPROTOCOL


@pytest.mark.parametrize(
    ("tool", "endpoint"),
    [
        # SLAC's log buckets stand in CRIC with the scheme of a browser.
        ("s3", "https://s3dfrgw.slac.stanford.edu/"),
        ("s3", "s3://s3.cern.ch:443/"),
        ("https", "davs://sdfdtn.slac.stanford.edu:2880"),
        ("xrdcp", "root://sdfxrd.slac.stanford.edu:1094/"),
        ("gfal", "srm://se.example.org:8443"),
    ],
)
def test_each_tool_takes_the_schemes_it_speaks(tool: str, endpoint: str) -> None:
    logs = Storage(
        name="LOGS", type="OS_LOGS", protocols={"w": (Protocol(endpoint, "/rubin-usdf-panda-logs"),)}
    )
    queue = Queue(name="SLAC_TEST", resource="SLAC_TEST", copytools={"w": (tool,)}, storages={"w": ("LOGS",)})
    found = destination(
        queue,
        logs,
        activities=LOG_ACTIVITIES,
        file=OutputFile("log.tgz", dataset="PandaJob_#{pandaid}/"),
        panda_id=7,
        available=(tool,),
    )
    assert found.prefix == f"{endpoint.rstrip('/')}/rubin-usdf-panda-logs/SLAC_TEST/PandaJob_7/"


def rse(tool: str, *, deterministic: bool = True, scope: str = "mc23") -> Destination:
    storage = Storage(
        "SLAC_DATADISK", deterministic=deterministic, protocols={"w": (Protocol("root://h:1094/", "/rucio"),)}
    )
    queue = Queue(name="SLAC", resource="SLAC", copytools={"w": (tool,)}, storages={"w": ("SLAC_DATADISK",)})
    return destination(
        queue,
        storage,
        activities=OUTPUT_ACTIVITIES,
        file=OutputFile("f.root", scope=scope, dataset="task.out"),
        panda_id=7,
        available=(tool,),
    )


@pytest.mark.parametrize(
    ("scope", "folder"),
    [("mc23", "mc23/51/fd"), ("user.jdoe", "user/jdoe/30/79"), ("data.x", "data.x/9c/cf")],
)
def test_a_deterministic_storage_is_laid_out_by_rucio(scope: str, folder: str) -> None:
    found = rse("xrdcp", scope=scope)
    assert found.prefix == f"root://h:1094/rucio/{folder}/"
    assert found.tarball


def test_another_storage_has_a_folder_for_each_dataset() -> None:
    assert rse("xrdcp", deterministic=False).prefix == "root://h:1094/rucio/SLAC/task.out/"
    assert rse("xrdcp", scope="").prefix == "root://h:1094/rucio/SLAC/task.out/"
    assert not rse("xrdcp", deterministic=False).tarball


def test_rucio_finds_the_place_itself() -> None:
    assert rse("rucio") == Destination(
        "rucio://SLAC_DATADISK/mc23/", "SLAC_DATADISK", "rucio", "write_lan", tarball=True
    )


def test_a_site_mover_keeps_tarballs_of_logs() -> None:
    assert rse("lsm", deterministic=False).tarball


def test_a_scope_never_leaves_the_storage() -> None:
    with pytest.raises(StorageError) as caught:
        rse("xrdcp", scope="user...")
    assert caught.value.code is ErrorCode.BADOUTPUTFILENAME


def test_a_site_mover_is_told_the_queues_script_and_the_storages_token() -> None:
    queue = Queue(
        name="Q",
        resource="Q",
        copytools={"write_lan": ("lsm",)},
        setups={"lsm": "/cvmfs/site/setup.sh"},
        storages={"write_lan": ("DISK",)},
    )
    protocols = {"write_lan": (Protocol("srm://se.invalid", "/atlas"),)}
    storage = Storage(name="DISK", token="ATLASDATADISK", protocols=protocols)
    found = destination(
        queue,
        storage,
        activities=OUTPUT_ACTIVITIES,
        file=OutputFile("x"),
        panda_id=1,
        available=("lsm", "gfal"),
        installed=lambda _: False,
    )
    assert (found.copytool, found.setup, found.token) == ("lsm", "/cvmfs/site/setup.sh", "ATLASDATADISK")


def test_a_copytool_that_a_script_brings_is_chosen_before_one_that_is_missing() -> None:
    queue = Queue(name="Q", resource="Q", copytools={"": ("gfal", "lsm")}, setups={"lsm": "/setup.sh"})
    assert choose_copytool(queue, ("w",), available=("gfal", "lsm"), installed=lambda _: False) == "lsm"
