"""Definitions: recorded ones, spellings of nothing, files, images, any
mapping.
"""

import contextlib
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.errors import BadJob
from pilot_core.jobs.definition import read_definition
from pilot_core.jobs.pushed import parse_pushed
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, Job, OutputFile

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "jobs"
JOB: dict[str, object] = {
    "PandaID": 17,
    "attemptNr": 1,
    "transformation": "https://storage.googleapis.com/drp-us-central1-containers/bash-c-enc-new",
    "jobPars": "ZWNobyBoZWxsbw==",
}
INPUTS: dict[str, object] = {
    "inFiles": "a.fits,b.fits",
    "GUID": "g1,g2",
    "fsize": "10,20",
    "checksum": "ad:0a1b2c3d,NULL",
    "scopeIn": "lsst,lsst",
    "ddmEndPointIn": "SLAC,NULL",
    "realDatasetsIn": "d1,d2",
    "prodDBlockToken": "NULL,NULL",
}
OUTPUTS = ("realDatasets", "ddmEndPointOut", "scopeOut")


def read(**more: object) -> Job:
    return read_definition({**JOB, **more})


@pytest.mark.parametrize("name", ["v1.json", "legacy.json", "legacy.cgi"])
def test_the_same_job_in_each_spelling(name: str) -> None:
    """One JEDI-made job as three servers' answers hold it."""
    job = read_definition(parse_pushed((GOLDEN / name).read_bytes()))
    assert job.panda_id in (17, 18, 19)
    assert (job.attempt, job.task_id, job.request_id, job.jobset_id) == (1, 2, 1, 1)
    assert job.transformation == JOB["transformation"]
    assert job.parameters.endswith("==")
    assert (job.cores, job.min_ram_mb, job.max_disk_mb, job.max_walltime_s) == (1, 1800, 300, 0)
    assert (job.inputs, job.outputs) == ((), ())
    assert job.log is not None
    assert (job.log.lfn, job.log.dataset, job.log.scope) == (
        "log.tgz",
        "PandaJob_#{pandaid}/",
        "PandaJob_#{pandaid}/",
    )
    assert len(job.log.guid) == 36
    assert job.resource_type == "Undefined"
    assert job.looping_check
    assert not job.debug


@pytest.mark.parametrize("nothing", ["NULL", "None", "", None, " "])
def test_spellings_of_nothing(nothing: object) -> None:
    job = read(
        taskID=nothing, coreCount=nothing, maxWalltime=nothing, inFiles=nothing, outFiles=nothing,
        logFile=nothing, container_name=nothing, debug=nothing, loopingCheck=nothing,
        pilotSecrets=nothing, jobName=nothing,
    )  # fmt: skip
    assert (job.task_id, job.cores, job.max_walltime_s) == (None, 1, 0)
    assert (job.inputs, job.outputs, job.log, job.image, job.name) == ((), (), None, "", "")
    assert job.looping_check
    assert not job.debug


@pytest.mark.parametrize("value", [8, "8", " 8 ", 8.0, "8.0"])
def test_spellings_of_a_number(value: object) -> None:
    assert read(coreCount=value).cores == 8


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("True", True), ("1", True), (1, True), (False, False), ("no", False)],
)
def test_spellings_of_a_flag(value: object, expected: bool) -> None:
    job = read(debug=value, loopingCheck=value)
    assert (job.debug, job.looping_check) == (expected, expected)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"PandaID": None}, "PandaID"),
        ({"PandaID": "seventeen"}, "PandaID"),
        ({"PandaID": -1}, "PandaID"),
        ({"PandaID": True}, "PandaID"),
        ({"PandaID": 2**64}, "PandaID"),
        ({"PandaID": float("inf")}, "PandaID"),
        ({"attemptNr": "NULL"}, "attemptNr"),
        ({"attemptNr": -1}, "attemptNr"),
        ({"transformation": "NULL"}, "transformation"),
        ({"transformation": "a\0b"}, "transformation"),
        ({"transformation": ["x"]}, "transformation"),
        ({"jobPars": "\ud800"}, "jobPars"),
        ({"jobPars": b"x"}, "jobPars"),
        ({"coreCount": "many"}, "coreCount"),
        ({"maxWalltime": 1.5}, "maxWalltime"),
        ({"minRamCount": "9" * 5_000}, "minRamCount"),
        ({"debug": "perhaps"}, "debug"),
        ({"inFiles": "../a", "GUID": "g"}, "inFiles"),
        ({"inFiles": "a,b", "GUID": "g"}, "GUID"),
        ({**INPUTS, "fsize": "10,big"}, "fsize"),
        ({"outFiles": "a/b"}, "outFiles"),
        ({"outFiles": "a,b", "ddmEndPointOut": "x"}, "ddmEndPointOut"),
        ({"outFiles": "a,log", "logFile": "log", "scopeOut": "x,y"}, "scopeOut"),
        ({"logFile": ".."}, "logFile"),
        ({"outFiles": "x" * 256}, "outFiles"),
        ({"pilotSecrets": "{"}, "pilotSecrets"),
        ({"secrets": 7.5j}, "secrets"),
    ],
)
def test_a_malformed_field_is_named(change: dict[str, object], field: str) -> None:
    with pytest.raises(BadJob) as caught:
        read(**change)
    assert caught.value.field == field
    assert caught.value.diag.startswith(f"job definition: {field}=")
    assert len(caught.value.diag) < 400
    if field != "PandaID":
        assert caught.value.panda_id == 17
    assert caught.value.attempt == (1 if field not in ("PandaID", "attemptNr") else None)


def test_inputs_side_by_side() -> None:
    assert read(**INPUTS).inputs == (
        InputFile("a.fits", "g1", "lsst", "d1", "SLAC", 10, "ad:0a1b2c3d"),
        InputFile("b.fits", "g2", "lsst", "d2", "", 20, ""),
    )


@pytest.mark.parametrize(
    ("guid", "endpoint", "token", "real"),
    [
        ("NULL", "NULL", "local", False),
        ("NULL", "NULL", "NULL", False),
        ("g", "NULL", "local", False),
        ("g", "NULL", "NULL", True),
        # An endpoint alone makes no file: nothing is known of it.
        ("NULL", "SLAC", "local", False),
        ("g", "SLAC", "local", True),
    ],
)
def test_pseudo_inputs_are_no_inputs(guid: str, endpoint: str, token: str, real: bool) -> None:
    names = "000000:u/isr:eventservice_isr_0" if not real else "a.fits"
    job = read(inFiles=names, GUID=guid, ddmEndPointIn=endpoint, prodDBlockToken=token)
    assert bool(job.inputs) is real


def test_a_quantum_s_pseudo_input_is_no_input_although_it_names_an_endpoint() -> None:
    """As ctrl_bps_panda's jobs come, through iDDS."""
    job = read(
        inFiles="000000:824c7cc3_isr_2+qgraphNodeId:824c7cc3+qgraphId:1795238116.17-27966",
        GUID="NULL",
        fsize="0",
        checksum="NULL",
        ddmEndPointIn="GKE-LSST_LOGS",
        realDatasetsIn="pseudo_dataset",
    )
    assert job.inputs == ()


def test_doubled_and_missing_names_are_dropped() -> None:
    job = read(inFiles="a,,NULL,a,b", GUID="1,2,3,4,5")
    assert [(file.lfn, file.guid) for file in job.inputs] == [("a", "1"), ("b", "5")]


def test_outputs_and_the_log_among_them() -> None:
    job = read(
        outFiles="x.root,log.tgz,y.root",
        logFile="log.tgz",
        logGUID="g",
        scopeOut="s1,s2",
        scopeLog="s3",
        ddmEndPointOut="A,B,C",
        realDatasets="d1,d2,d3",
    )
    assert job.outputs == (
        OutputFile("x.root", "", "s1", "d1", "A"),
        OutputFile("y.root", "", "s2", "d3", "C"),
    )
    assert job.log == OutputFile("log.tgz", "g", "s3", "d2", "B")


@pytest.mark.parametrize(
    ("parameters", "image", "rest"),
    [
        ("run.sh --containerImage lsst/sw:w_1 -x", "lsst/sw:w_1", "run.sh -x"),
        ("run.sh --containerImage=lsst/sw:w_1 -x", "lsst/sw:w_1", "run.sh -x"),
        ("run.sh  'a  b' --containerImage docker://x", "docker://x", "run.sh  'a  b'"),
        ("--containerImage X run.sh", "X", "run.sh"),
        ("--containerImage X", "X", ""),
        # Inside a quoted command, or half an option: the payload's own.
        ("bash -c 'docker run --containerImage X'", "", "bash -c 'docker run --containerImage X'"),
        ("run --containerImageX y", "", "run --containerImageX y"),
        (" \tZWNo\n bw==  ", "", " \tZWNo\n bw==  "),
        ("NULL", "", "NULL"),
    ],
)
def test_the_image_among_the_parameters(parameters: str, image: str, rest: str) -> None:
    job = read(jobPars=parameters)
    assert (job.image, job.parameters) == (image, rest)


def test_container_name_comes_first() -> None:
    job = read(container_name="lsst/sw:w_2", jobPars="a --containerImage X", transformation="NULL")
    assert (job.image, job.parameters, job.transformation) == ("lsst/sw:w_2", "a", "")


def test_a_job_cannot_change_its_queue(caplog: pytest.LogCaptureFixture) -> None:
    parameters = "run --overwriteQueueData={'maxrss': 0}"
    with caplog.at_level(logging.WARNING):
        assert read(jobPars=parameters).parameters == parameters
    assert "ignored" in caplog.text


def test_secrets_stay_out_of_the_definition() -> None:
    job = read(secrets='{"AWS": "s3cret"}', pilotSecrets='{"token": "s3cret", "n": 1}')
    assert job.secrets == '{"AWS": "s3cret"}'
    assert job.pilot_secrets == {"token": "s3cret", "n": "1"}
    assert "s3cret" not in repr(job) + json.dumps(job.definition)
    assert job.definition["PandaID"] == 17
    assert read(secrets={"a": 1}).secrets == '{"a": 1}'
    for field in ("secrets", "pilotSecrets"):
        with pytest.raises(BadJob) as caught:
            read(**{field: ["s3cret"]})
        assert "s3cret" not in repr(caught.value) + caught.value.diag


def test_more_secrets_than_can_be_looked_for_are_refused() -> None:
    with pytest.raises(BadJob, match="more than 10000"):
        read(secrets=json.dumps([f"value-number-{i}" for i in range(10_000)]))


NAMES = [
    ("../up", ErrorCode.BADOUTPUTFILENAME),
    ("..", ErrorCode.BADOUTPUTFILENAME),
    (".", ErrorCode.BADOUTPUTFILENAME),
    ("/etc/passwd", ErrorCode.BADOUTPUTFILENAME),
    ("/dev/sda", ErrorCode.BADOUTPUTFILENAME),
    ("a/b", ErrorCode.BADOUTPUTFILENAME),
    ("a\nb", ErrorCode.BADOUTPUTFILENAME),
    ("a\x7fb", ErrorCode.BADOUTPUTFILENAME),
    ("a\x1b[31mb", ErrorCode.BADOUTPUTFILENAME),
    ("n" * 256, ErrorCode.LFNTOOLONG),
    ("\N{SNOWMAN}" * 86, ErrorCode.LFNTOOLONG),
    ("a\0b", ErrorCode.CONVERSIONFAILURE),
    ("a\ud800b", ErrorCode.CONVERSIONFAILURE),
]


@pytest.mark.parametrize("field", ["inFiles", "outFiles", "logFile", "ddmEndPointIn", "ddmEndPointOut"])
@pytest.mark.parametrize(("name", "code"), NAMES, ids=lambda value: repr(value)[:20])
def test_a_name_that_leaves_its_folder_or_is_no_name(field: str, name: str, code: ErrorCode) -> None:
    one = {**dict.fromkeys(INPUTS, "x"), "fsize": "1", "outFiles": "out", **dict.fromkeys(OUTPUTS, "x")}
    with pytest.raises(BadJob, match=f"job definition: {field}=") as caught:
        read(**{**one, field: name})
    assert caught.value.code is code
    assert caught.value.panda_id == JOB["PandaID"]


@pytest.mark.parametrize("field", ["realDatasets", "realDatasetsIn", "scopeIn", "scopeOut"])
@pytest.mark.parametrize("folder", ["/etc", "../..", "a/../b", "a/./b", "a\nb/", "d/" + "n" * 256])
def test_a_dataset_that_leaves_its_storages_folder(field: str, folder: str) -> None:
    one = {**dict.fromkeys(INPUTS, "x"), "fsize": "1", "outFiles": "out", **dict.fromkeys(OUTPUTS, "x")}
    with pytest.raises(BadJob, match=f"job definition: {field}=") as caught:
        read(**{**one, field: folder})
    assert caught.value.code in (ErrorCode.BADOUTPUTFILENAME, ErrorCode.LFNTOOLONG)


@pytest.mark.parametrize("name", ["pilotlog.txt", "payload.stdout", "panda_secrets.json"])
def test_an_input_does_not_take_the_place_of_the_pilots_files(name: str) -> None:
    with pytest.raises(BadJob, match="a file of the pilot's"):
        read(**{**dict.fromkeys(INPUTS, "x"), "fsize": "1", "inFiles": name})


@pytest.mark.parametrize("value", ["True", True, 1])
def test_an_event_service_job_is_not_run_as_an_ordinary_one(value: object) -> None:
    with pytest.raises(BadJob, match=r"job definition: eventService=.*no event service") as caught:
        read(eventService=value)
    assert (caught.value.code, caught.value.panda_id) == (ErrorCode.NOTIMPLEMENTED, JOB["PandaID"])
    for unset in ("NULL", "", None, "False", False):
        assert read(eventService=unset).panda_id == JOB["PandaID"]


@pytest.mark.parametrize("name", ["n" * 255, "a b", "a?b#c%20", "\N{SNOWMAN}", "-rf", "con", "$(id)"])
def test_an_odd_name_is_a_name(name: str) -> None:
    job = read(outFiles=name, logFile=name + "x" if len(name) < 255 else "log")
    assert [file.lfn for file in job.outputs] == [name]


FIELDS = [
    *JOB,
    *INPUTS,
    "outFiles",
    "logFile",
    "coreCount",
    "debug",
    "secrets",
    "pilotSecrets",
    "container_name",
]
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.text(alphabet="a,/.NUL0 \0", max_size=20),
    st.binary(max_size=10),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), values), st.booleans())
def test_any_mapping_gives_a_job_or_a_bad_job(raw: dict[str, object], whole: bool) -> None:
    with contextlib.suppress(BadJob):
        job = read_definition({**JOB, **raw} if whole else raw)
        assert job.panda_id > 0
        assert job.transformation or job.image
        assert not any("/" in file.lfn for file in job.inputs)
        assert not any("/" in file.lfn for file in job.outputs)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,%=&aP1', max_size=60).map(str.encode))
def test_any_file_gives_a_mapping_or_a_bad_job(data: bytes) -> None:
    with contextlib.suppress(BadJob):
        assert isinstance(parse_pushed(data), dict)
