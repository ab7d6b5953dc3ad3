"""Harvester's environment -> settings."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from pilot_core.errors import SetupError
from pilot_core.ledger import Ledger
from pilot_core.model.report import JobReport, JobState, Node
from pilot_starter.cli import build_config, main
from pilot_starter.config import StarterConfig
from pilot_starter.health import WorkerStatus, write_status
from pilot_starter.settings import read, settings
from pilot_starter.table import KINDS, MADE, SETTINGS

Q = {"pandaQueueName": "Q"}


def config(environment: dict[str, str], *argv: str) -> StarterConfig:
    return build_config(argv, {**Q, **environment})[1]


@pytest.mark.parametrize("value", ["", " ", "$resourceType", "${resourceType}"])
def test_empty_and_placeholder_values_are_unset(value: str) -> None:
    assert config({"resourceType": value}).resource_type == ""


def test_defaults() -> None:
    c = config({})
    assert (c.site, c.label, c.version_tag, c.submit_mode, c.source.url) == ("Q", "managed", "PR", "PULL", "")
    assert c.worker_log == Path("/tmp/wrapper-wid.log")
    assert c.state_file == Path("/tmp/wrapper-wid.json")
    assert c.grace_s == 12.0
    assert c.logging.server == ""


def test_options_come_before_the_environment() -> None:
    c = config(
        {"PILOT_SOURCE": "http://a/p", "prodSourceLabel": "test"},
        "-q",
        "R",
        "-j",
        "user",
        "--url",
        "http://s",
    )
    assert (c.queue, c.label, c.server_url) == ("R", "user", "http://s")


@pytest.mark.parametrize(
    ("environment", "url", "sha256"),
    [
        ({}, "", ""),
        ({"PILOT_SOURCE": "image"}, "", ""),
        ({"PILOT_SOURCE": "https://h/p.tgz", "PILOT_SHA256": "AB" * 32}, "https://h/p.tgz", "ab" * 32),
        ({"pilotUrlOpt": "--piloturl https://h/q.tgz"}, "https://h/q.tgz", ""),
        ({"pilotUrlOpt": f"--piloturl https://h/q.tgz#sha256={'0' * 64}"}, "https://h/q.tgz", "0" * 64),
        ({"pilotUrlOpt": ""}, "", ""),
        ({"PILOT_SOURCE": "file:///a", "pilotUrlOpt": "--piloturl https://h/q.tgz"}, "file:///a", ""),
    ],
)
def test_where_the_pilot_comes_from(environment: dict[str, str], url: str, sha256: str) -> None:
    source = config(environment).source
    assert (source.url, source.sha256) == (url, sha256)


@pytest.mark.parametrize(
    ("environment", "server"),
    [
        (
            {"USE_REALTIME_LOGGING": "yes", "REALTIME_LOGGING_SERVER": "google-cloud-logging"},
            "google-cloud-logging",
        ),
        ({"REALTIME_LOGGING_SERVER": "google-cloud-logging"}, ""),
        (
            {
                "USE_REALTIME_LOGGING": "y",
                "REALTIME_LOGGING_SERVER": "google-cloud-logging",
                "WORKERLOG_LOGGING_SERVER": "",
            },
            "",
        ),
        ({"WORKERLOG_LOGGING_SERVER": "file;/x"}, "file;/x"),
    ],
)
def test_where_the_workers_log_is_shipped(environment: dict[str, str], server: str) -> None:
    assert config(environment).logging.server == server


def test_log_has_a_name_only_in_harvester() -> None:
    assert config({"logs_frontend_w": "https://h"}).log_name == ""
    c = config({"HARVESTER_ID": "h", "HARVESTER_WORKER_ID": "7", "logs_frontend_w": "https://h"})
    assert c.log_name == "h_7_gz.out"


@pytest.mark.parametrize(("asked", "name"), [("h_7.out", "h_7.out"), ("../h_7.out", "h_7_gz.out")])
def test_an_older_harvester_tells_the_logs_name(asked: str, name: str) -> None:
    given = {"HARVESTER_ID": "h", "workerID": "7", "logs_frontend_w": "https://h", "stdout_name": asked}
    assert config(given).log_name == name


def test_rubins_own_origin_beats_harvesters_constant() -> None:
    given = {"PANDA_AUTH_TOKEN": "t", "PANDA_AUTH_ORIGIN": "atlas.pilot", "PILOT_AUTH_ORIGIN": "rubin.pilot"}
    assert config(given).credentials.token_origin == "rubin.pilot"


def test_prompts_and_the_like_are_no_placeholders() -> None:
    c = config({"PS1": "$ ", "X": "$Y", "computingSite": "$computingSite"})
    assert c.child_environment["PS1"] == "$ "
    assert c.child_environment["X"] == "$Y"
    assert "computingSite" not in c.child_environment


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"pandaQueueName": ""}, "no queue"),
        ({"workerID": "abc"}, "workerID='abc'"),
        ({"submit_mode": "both"}, "submit_mode"),
        ({"PILOT_GRACE_SECONDS": "soon"}, "PILOT_GRACE_SECONDS='soon'"),
        ({"PILOT_EXTRA_OPTIONS": "'half"}, "PILOT_EXTRA_OPTIONS"),
        ({"USE_REALTIME_LOGGING": "perhaps"}, "USE_REALTIME_LOGGING='perhaps': expected yes or no"),
        ({"PILOT_HEALTH_PORT": "abc"}, "PILOT_HEALTH_PORT='abc': expected"),
        (
            {"PANDA_SERVER_URL": "https://panda.cern.ch:port"},
            "PANDA_SERVER_URL='https://panda.cern.ch:port': Port could not",
        ),
        ({"PANDA_SERVER_URL": "panda:99999"}, "PANDA_SERVER_URL='panda:99999': Port out of range"),
        ({"PANDA_SERVER_URL": "panda:0"}, "PANDA_SERVER_URL='panda:0': expected http"),
        ({"PANDA_SERVER_URL": "https://[::1"}, "PANDA_SERVER_URL='https://\\[::1': Invalid IPv6"),
        ({"PANDA_SERVER_URL": "ftp://panda"}, "PANDA_SERVER_URL='ftp://panda': expected http"),
        ({"PILOT_SHA256": "zz"}, "PILOT_SHA256='zz': expected 64 hexadecimal digits"),
        (
            {"PILOT_SOURCE": "https://h/p#sha256=zz"},
            "PILOT_SOURCE='https://h/p#sha256=zz': after sha256= exp",
        ),
        ({"PILOT_PUBLIC_KEY": "/nope.pem"}, "PILOT_PUBLIC_KEY='/nope.pem': No such file or directory"),
    ],
)
def test_nonsense_is_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SetupError, match=words):
        config(environment)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--grace", "0"], "--grace='0': expected 3 seconds or more"),
        (["--grace", "soon"], "--grace='soon': expected a number of seconds"),
        (["--silent", "-5"], "--silent='-5': expected a number of seconds, not negative"),
        (["--silent", "0"], "--silent='0': expected seconds, more than 0"),
        (["--url", "https://h:port"], "--url='https://h:port': Port could not be cast"),
        (["--sha256", "zz"], "--sha256='zz': expected 64 hexadecimal digits"),
        (["--public-key", "/nope"], "--public-key='/nope': No such file or directory"),
        (["--public-key", __file__], "holds no public key"),
        (["--health-port", "abc"], "--health-port='abc': expected"),
        (["-q", ""], "no queue"),
    ],
)
def test_a_bad_option_ends_the_worker_before_it_starts(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["-q", "Q"] if "-q" not in argv else []
    assert main([*own, *argv]) == 65
    said = capsys.readouterr().err
    assert said.startswith("pilot-starter: ")
    assert words in said
    assert said.count("\n") == 1


def test_empty_options_are_not_given() -> None:
    assert config({"prodSourceLabel": "test"}, "--label", "", "--sha256", "").label == "test"


def test_show_config_says_what_sets_each_value_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "Q", "--grace", "30", "--show-config"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^grace_s +30 +s +--grace  \[--grace, PILOT_GRACE_SECONDS\]$", shown, re.MULTILINE)
    assert re.search(r"^site +Q +--queue ", shown, re.MULTILINE)
    assert "proxy_content" not in shown
    assert "child_environment" not in shown


def test_help_names_kind_default_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--grace SECONDS from SIGTERM to the end of everything [default 12; PILOT_GRACE_SECONDS]" in text
    assert "-q QUEUE, --queue QUEUE PanDA queue [pandaQueueName, PANDA_QUEUE]" in text


def test_what_is_made_of_others_names_its_source() -> None:
    given = {
        "pandaQueueName": "Q",
        "pilotUrlOpt": f"--piloturl https://h/q.tgz#sha256={'0' * 64}",
        "USE_REALTIME_LOGGING": "yes",
        "REALTIME_LOGGING_SERVER": "stdout",
        "HARVESTER_ID": "h",
        "workerID": "7",
        "logs_frontend_w": "https://w",
        "logs_frontend_r": "https://r",
        "PILOT_NO_FALLBACK": "yes",
        "HOSTNAME": "pod-1",
    }
    values = read({}, given)
    settings(values, [], given)
    assert {name: values[name].source for name in MADE} == {
        "site": "pandaQueueName",
        "source.url": "pilotUrlOpt",
        "source.fallback": "PILOT_NO_FALLBACK",
        "logging.server": "REALTIME_LOGGING_SERVER",
        "log_name": "HARVESTER_ID",
        "log_link": "logs_frontend_r",
    }
    assert values["source.sha256"].source == "pilotUrlOpt"
    assert "pod.pod" not in values


def test_the_option_beats_the_pin_and_the_pin_the_variable() -> None:
    given = {"PILOT_SOURCE": f"https://h/p#sha256={'1' * 64}", "PILOT_SHA256": "2" * 64}
    assert config(given).source.sha256 == "1" * 64
    assert config(given, "--sha256", "3" * 64).source.sha256 == "3" * 64


def test_every_setting_ends_in_the_configuration() -> None:
    """A row whose name is misspelt would be refused by its dataclass, or lost."""
    fields = {
        f"{part}.{item.name}".removeprefix(".")
        for part, kind in KINDS.items()
        for item in dataclasses.fields(kind)
    }
    origins = {origin for made in MADE.values() for origin in made}
    assert {setting.field for setting in SETTINGS} <= fields | origins


def test_healthcheck_needs_no_queue() -> None:
    command, _ = build_config(["healthcheck"], {})
    assert command == "healthcheck"


def test_secret_values_do_not_show_in_the_settings() -> None:
    shown = repr(config({"proxyContent": "PRIVATE", "PGPASSWORD": "geheim"}))
    assert "PRIVATE" not in shown
    assert "geheim" not in shown


def test_status_tells_where_the_job_and_its_payload_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = WorkerStatus("running", 1, 1, "Q", str(tmp_path / "log"), str(tmp_path), started=0.0)
    write_status(tmp_path / "wid.json", worker)
    report = JobReport(
        panda_id=5, attempt=1, state=JobState.RUNNING, site="S", node=Node(name="n"), start_s=60.0
    )
    ledger = Ledger(tmp_path)
    ledger.take(report, work=tmp_path / "PanDA_Pilot-5", shared=tmp_path, labels={}, engine="docker")
    ledger.runs_as("abc")
    monkeypatch.setenv("PILOT_WORKER_LOG", str(tmp_path / "wid.log"))
    assert main(["status", "-q", "Q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["started"] == "1970-01-01T00:00:00+00:00"
    assert told["job"] == {
        "PandaID": 5,
        "attempt": 1,
        "stage": "taken",
        "folder": str(tmp_path / "PanDA_Pilot-5"),
        "engine": "docker",
        "payload": "abc",
        "since": "1970-01-01T00:01:00+00:00",
    }
