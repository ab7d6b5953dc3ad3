"""Harvester's environment -> settings."""

from pathlib import Path

import pytest

from pilot_core.errors import SetupError
from pilot_starter.cli import build_config
from pilot_starter.config import StarterConfig

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
    ],
)
def test_nonsense_is_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SetupError, match=words):
        config(environment)


def test_healthcheck_needs_no_queue() -> None:
    command, _ = build_config(["healthcheck"], {})
    assert command == "healthcheck"


def test_secret_values_do_not_show_in_the_settings() -> None:
    shown = repr(config({"proxyContent": "PRIVATE", "PGPASSWORD": "geheim"}))
    assert "PRIVATE" not in shown
    assert "geheim" not in shown
