"""Payload specs, verdicts and log files of the experiments."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_core.base.secretnames import SECRET_WORDS
from pilot_core.errors import PayloadError
from pilot_core.experiments.environment import select
from pilot_core.experiments.files import ERROR_REPORT, SECRETS, forget_secrets
from pilot_core.experiments.generic import GenericExperiment
from pilot_core.experiments.rubin import RubinExperiment
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadResult
from pilot_core.model.queue import Queue

QUEUE = Queue(name="Q", resource="R")
JOB = Job(panda_id=7, attempt=2, transformation="https://host/dir/bash-c-enc?v=1", parameters="YQ==")
PATHS = JobPaths(home=Path("/pilot"), work=Path("/pilot/PanDA_Pilot-7"), shared=Path("/tmp/panda/7"))
RUBIN = RubinExperiment()


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    found = JobPaths(home=tmp_path, work=tmp_path / "PanDA_Pilot-7", shared=tmp_path / "shared" / "7")
    found.work.mkdir()
    found.shared.mkdir(parents=True)
    return found


@pytest.mark.parametrize(
    "parameters", ["", " ", "'a b' \"c\" $PANDAID `id` \\$X", "ünï #{pandaid}", "a\nb", "--x=\\\\n"]
)
def test_parameters_go_byte_for_byte(parameters: str) -> None:
    spec = RUBIN.payload(replace(JOB, parameters=parameters), QUEUE, PATHS, {})
    assert spec.command == f"./bash-c-enc {parameters}"
    assert (spec.script_name, spec.script_url) == ("bash-c-enc", JOB.transformation)


def test_the_proxy_is_rubins_to_hand_over_and_only_beside_the_pilot() -> None:
    environment = {"X509_USER_PROXY": "/proxy/x509 up"}
    spec = RUBIN.payload(JOB, QUEUE, PATHS, environment)
    assert spec.command == "export X509_USER_PROXY='/proxy/x509 up';./bash-c-enc YQ=="
    assert "X509_USER_PROXY" not in spec.environment
    in_image = RUBIN.payload(replace(JOB, image="lsst:w"), QUEUE, PATHS, environment)
    assert in_image.command == "./bash-c-enc YQ=="
    assert "export" not in GenericExperiment().payload(JOB, QUEUE, PATHS, environment).command


def test_a_job_with_image_and_no_transformation_runs_its_parameters() -> None:
    spec = RUBIN.payload(Job(7, 1, "", "pipetask run -b x", image="lsst:w"), QUEUE, PATHS, {})
    assert (spec.command, spec.shell, spec.script_name) == ("pipetask run -b x", ("/bin/sh", "-c"), "")


@pytest.mark.parametrize(
    "transformation",
    [
        "",
        "   ",
        "https://host/",
        "https://host/a%2Fb",
        "https://host/..",
        "../x",
        "a/b",
        "a;b",
        "$(x)",
        "-rf",
        "a b",
    ],
)
def test_a_job_that_names_no_script_is_refused(transformation: str) -> None:
    with pytest.raises(PayloadError):
        RUBIN.payload(replace(JOB, transformation=transformation), QUEUE, PATHS, {})


@pytest.mark.parametrize("parameters", ["a\0b", "x" * 200_000])
def test_what_the_kernel_would_refuse_is_refused_early(parameters: str) -> None:
    with pytest.raises(PayloadError, match=r"NUL|bytes long"):
        RUBIN.payload(replace(JOB, parameters=parameters), QUEUE, PATHS, {})


CREDENTIALS = {
    "GOOGLE_APPLICATION_CREDENTIALS": "/gcscreds/x.json",
    "PANDA_AUTH_TOKEN": "t",
    "PANDA_AUTH_TOKEN_KEY": "k",
    "OIDC_AUTH_TOKEN": "t",
    "OIDC_AUTH_DIR": "/d",
    "X509_USER_PROXY": "/proxy",
    "LSST_SOME_TOKEN": "t",
    "AWS_SECRET_ACCESS_KEY": "s",
}


@pytest.mark.parametrize("image", ["", "lsst:w"])
@pytest.mark.parametrize("experiment", [RUBIN, GenericExperiment(pass_environment=("*",))])
def test_credentials_of_the_pilot_stay_with_the_pilot(experiment: GenericExperiment, image: str) -> None:
    spec = experiment.payload(replace(JOB, image=image), QUEUE, PATHS, CREDENTIALS)
    assert not set(CREDENTIALS) & set(spec.environment)


def test_an_operator_may_list_a_credential_by_its_full_name() -> None:
    experiment = RubinExperiment(pass_environment=("AWS_SECRET_ACCESS_KEY", "MY_*"))
    spec = experiment.payload(JOB, QUEUE, PATHS, {**CREDENTIALS, "MY_SITE": "1", "OTHER": "2"})
    assert spec.environment["AWS_SECRET_ACCESS_KEY"] == "s"
    assert spec.environment["MY_SITE"] == "1"
    assert "OTHER" not in spec.environment


@pytest.mark.parametrize(
    "name",
    [
        *("SLURM_JWT", "PBS_COOKIE", "_CONDOR_CREDS", "LSB_PASSWD", "XRD_AUTH", "DAF_BUTLER_CREDENTIALS"),
        *("LSST_DB_PASS", "LSST_DB_PWD", "LSST_DB_AUTH_CREDENTIALS", "LSST_HTTP_AUTH_BEARER_TOKEN"),
        *("RUBIN_API_KEY", "RUBIN_SIGNING_KEY", "RUBIN_private_thing", "CTRL_OIDC_TOKEN"),
    ],
)
def test_a_prefix_is_no_door_for_credentials(name: str) -> None:
    assert name not in RUBIN.payload(JOB, QUEUE, PATHS, {name: "s3cret"}).environment
    listed = RubinExperiment(pass_environment=(name,))
    assert listed.payload(JOB, QUEUE, PATHS, {name: "s3cret"}).environment[name] == "s3cret"


def test_paths_and_logins_that_payloads_need_pass_as_they_are() -> None:
    environment = {
        "LSST_DB_AUTH": "/home/svc/.lsst/db-auth.yaml",
        "LSST_HTTP_AUTH_CLIENT_CERT": "/home/svc/cert.pem",
        "LSST_HTTP_AUTH_CLIENT_KEY": "/home/svc/key.pem",
        "PGPASSFILE": "/home/svc/.pgpass",
        "LSST_RESOURCES_S3_PROFILE_embargo": "https://id:key@s3.example",
        "https_proxy": "http://user:geheim12@proxy:3128",
    }
    found = RUBIN.payload(JOB, QUEUE, PATHS, environment).environment
    assert environment.items() <= found.items()


def test_the_wrapper_hides_the_same_names() -> None:
    """It runs before there is any Python: its words are a copy."""
    text = (Path(__file__).parents[3] / "pilot_starter/wrapper.sh").read_text()
    assert f"local secret='{'|'.join(SECRET_WORDS)}'" in text
    assert f"-name {SECRETS} " in text


def test_who_removes_the_secrets_learns_what_to_mask(paths: JobPaths) -> None:
    paths.shared.mkdir(exist_ok=True)
    for folder in (paths.work, paths.shared):
        (folder / SECRETS).write_text('{"user": {"token": "hunter2-hunter2"}}')
    assert "hunter2-hunter2" in forget_secrets(paths)
    assert forget_secrets(paths) == ()
    # One that the payload has put there leads nowhere else.
    (paths.work / "other").write_text("of somebody else")
    (paths.work / SECRETS).symlink_to(paths.work / "other")
    assert forget_secrets(paths) == ()
    assert (paths.work / "other").exists()


def test_rubins_runner_finds_what_it_reads() -> None:
    environment = {"S3_ENDPOINT_URL": "https://s3", "PATH": "/bin", "HARVESTER_ID": "h", "PANDAID": "stale"}
    found = RUBIN.payload(replace(JOB, task_id=9), QUEUE, PATHS, environment).environment
    assert found["PANDAID"] == "7"
    assert found["PanDA_TaskID"] == "9"
    assert found["REALTIME_LOGFILES"] == "payload-log.json"
    assert found["S3_ENDPOINT_URL"] == "https://s3"
    assert found["PATH"] == "/bin"
    chosen = RUBIN.payload(JOB, QUEUE, PATHS, {"REALTIME_LOGFILES": "other.json"}).environment
    assert chosen["REALTIME_LOGFILES"] == "other.json"


def test_the_site_prologs_variables_pass_beside_the_pilot_only() -> None:
    environment = {
        "LSST_RUN_TEMP_SPACE": "/scratch",
        "DAF_BUTLER_REPOSITORY_INDEX": "/i",
        "SLURM_JOB_ID": "1",
        "AWS_CONFIG_FILE": "/site/aws-config.ini",
        "AWS_PROFILE": "rubin",
        "AWS_SHARED_CREDENTIALS_FILE": "/site/aws-credentials.ini",
    }
    passes_beside_the_pilot_only(RUBIN, environment)


def passes_beside_the_pilot_only(experiment: GenericExperiment, environment: dict[str, str]) -> None:
    assert environment.items() <= experiment.payload(JOB, QUEUE, PATHS, environment).environment.items()
    inside = experiment.payload(replace(JOB, image="lsst:w"), QUEUE, PATHS, environment).environment
    assert not set(environment) & set(inside)


@pytest.mark.parametrize("experiment", [RUBIN, GenericExperiment()])
def test_a_payload_that_submits_work_finds_the_server_and_its_login(experiment: GenericExperiment) -> None:
    environment = {
        "PANDA_AUTH": "oidc",
        "PANDA_AUTH_DIR": "/tokens/one",
        "PANDA_AUTH_ORIGIN": "rubin.pilot",
        "PANDA_AUTH_VO": "rubin:pilot",
        "PANDA_SERVER_URL": "https://panda:8443",
    }
    passes_beside_the_pilot_only(experiment, environment)


def test_select_takes_names_and_prefixes() -> None:
    assert select({"A": "1", "AB": "2", "B_X": "3", "B": "4"}, ["A", "B_*"]) == {"A": "1", "B_X": "3"}


def test_exit_zero_is_success_whatever_was_printed(paths: JobPaths) -> None:
    paths.stderr.write_text(
        "ERROR: Operation not permitted\nTraceback (most recent call last):\nOSError: x\n"
    )
    (paths.work / ERROR_REPORT).write_text('{"error_code": 5, "error_diag": "x"}')
    assert RUBIN.judge(0, paths, out_of_memory=True) == PayloadResult(exit_code=0)


@pytest.mark.parametrize("code", [1, 2, 3, 64, 125, 126, 127, 137, 143, 251, 255])
def test_every_other_code_stays_what_it_is(paths: JobPaths, code: int) -> None:
    result = RUBIN.judge(code, paths, out_of_memory=False)
    assert (result.exit_code, result.code) == (code, ErrorCode.PAYLOADEXECUTIONFAILURE)
    assert f"exit code {code}" in result.diag


def test_the_reason_comes_before_the_exit_code(paths: JobPaths) -> None:
    paths.stderr.write_bytes(
        b"x" * 70_000 + b"\nTraceback (most recent call last):\n  f\nValueError: no \xff star\n"
    )
    assert RUBIN.judge(1, paths, out_of_memory=False).diag == "ValueError: no star (exit code 1)"


def test_the_last_line_of_stdout_passes_for_no_error(paths: JobPaths) -> None:
    paths.stdout.write_text("hello\n")
    assert (
        RUBIN.judge(3, paths, out_of_memory=False).diag == "exit code 3; last line of payload.stdout: hello"
    )
    paths.stdout.write_text("can't fork\n" + "x" * 600)
    assert len(RUBIN.judge(3, paths, out_of_memory=False).diag) == 500
    # A pod's stdout holds its stderr, too.
    paths.stdout.write_text("sh: can't fork\n")
    assert RUBIN.judge(2, paths, out_of_memory=False).code is ErrorCode.RESOURCEUNAVAILABLE


@pytest.mark.parametrize(("out_of_memory", "code"), [(False, 1344), (True, 1212)])
def test_its_own_word_of_a_refused_fork_is_believed(paths: JobPaths, out_of_memory: bool, code: int) -> None:
    paths.stderr.write_text("/bin/sh: can't fork: Resource temporarily unavailable\n")
    assert RUBIN.judge(2, paths, out_of_memory=out_of_memory).code == code
    assert RUBIN.judge(0, paths, out_of_memory=False).code is ErrorCode.NONE


def test_out_of_memory_has_its_own_code(paths: JobPaths) -> None:
    paths.stderr.write_text("Killed\n")
    result = RUBIN.judge(137, paths, out_of_memory=True)
    assert result.code is ErrorCode.PAYLOADOUTOFMEMORY
    assert result.diag == "payload ran out of memory: exit code 137, killed by signal 9 (SIGKILL): Killed"


def test_the_payloads_own_report_comes_first(paths: JobPaths) -> None:
    (paths.work / ERROR_REPORT).write_text(json.dumps({"error_code": 4711, "error_diag": "no\tstars"}))
    paths.stderr.write_text("ERROR: something else\n")
    result = RUBIN.judge(3, paths, out_of_memory=False)
    assert (result.exe_code, result.exe_diag) == (4711, "no stars")
    assert result.diag == "no stars (exit code 3)"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 50_000,
        b'{"error_code": "5", "error_diag": 7}',
        b'{"error_code": true}',
        b'{"error_code": 1e400}',
        b'{"error_code": 99999999999999999999}',
        b'{"error_code": 5, "error_diag": "' + b"x" * 70_000 + b'"}',
    ],
)
def test_a_bad_report_counts_for_nothing(paths: JobPaths, raw: bytes) -> None:
    (paths.work / ERROR_REPORT).write_bytes(raw)
    result = RUBIN.judge(3, paths, out_of_memory=False)
    assert (result.exe_code, result.exe_diag, result.diag) == (0, "", "exit code 3")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.integers(1, 255),
    st.binary(max_size=600),
    st.binary(max_size=300) | st.text(max_size=99).map(lambda s: json.dumps({"error_diag": s * 9}).encode()),
)
def test_any_bytes_give_a_diagnosis(paths: JobPaths, code: int, stderr: bytes, report: bytes) -> None:
    paths.stderr.write_bytes(stderr)
    (paths.work / ERROR_REPORT).write_bytes(report)
    result = RUBIN.judge(code, paths, out_of_memory=False)
    assert 0 < len(result.diag) <= 500
    assert result.diag.isprintable()
    assert result.diag.encode("utf-8")


def test_log_files_in_the_order_of_their_use(paths: JobPaths) -> None:
    names = [
        "payload.stdout",
        "payload.stderr",
        "payload_extra.log",
        "pilotlog.txt",
        "memory_monitor_pilot.txt",
        "x.txt",
    ]
    for name in [*names, SECRETS, "payload", "payload_script"]:
        (paths.work / name).write_text("x")
    (paths.shared / "payload-log.json").write_text("{}")
    (paths.work / "payload-log.json").symlink_to(paths.shared / "payload-log.json")
    assert [path.name for path in RUBIN.log_files(paths)] == [
        "pilotlog.txt",
        "payload-log.json",
        "payload.stderr",
        "payload.stdout",
        "payload_extra.log",
        "memory_monitor_pilot.txt",
    ]


def test_nothing_but_the_jobs_own_files_is_kept(paths: JobPaths) -> None:
    secret = paths.home / "token"
    secret.write_text("secret")
    (paths.work / SECRETS).write_text("secret")
    (paths.work / "payload-a.txt").symlink_to(secret)
    (paths.work / "payload-b.txt").symlink_to(paths.work / SECRETS)
    (paths.work / "payload-c.txt").symlink_to("nowhere")
    (paths.work / "payload-d.txt").mkdir()
    os.mkfifo(paths.work / "payload-e.txt")
    assert RUBIN.log_files(paths) == []


def test_a_log_that_the_payload_never_wrote_is_no_news(
    paths: JobPaths, caplog: pytest.LogCaptureFixture
) -> None:
    (paths.work / "payload-log.json").symlink_to(paths.shared / "payload-log.json")
    assert RUBIN.log_files(paths) == []
    assert not caplog.records
    (paths.work / "payload-x.json").symlink_to(paths.shared / "payload-log.json")
    assert RUBIN.log_files(paths) == []
    assert "payload-x.json is not kept" in caplog.text


def test_a_name_that_no_storage_takes_is_no_log(paths: JobPaths, caplog: pytest.LogCaptureFixture) -> None:
    (paths.work / "payload.txt").touch()
    for name in (b"payload\xff.txt", b"payload.a\nb.txt"):
        (Path(os.fsdecode(os.fsencode(paths.work) + b"/" + name))).touch()
    assert [path.name for path in RUBIN.log_files(paths)] == ["payload.txt"]
    assert len(caplog.records) == 1


def test_a_job_without_a_directory_has_no_logs() -> None:
    assert list(RUBIN.log_files(PATHS)) == []


def test_a_flood_of_logs_is_cut(paths: JobPaths) -> None:
    for number in range(150):
        (paths.work / f"payload_{number}.txt").touch()
    (paths.work / "pilotlog.txt").touch()
    files = RUBIN.log_files(paths)
    assert len(files) == 100
    assert files[0].name == "pilotlog.txt"
