"""The pilot's command: today's, word for word, unless somebody asks for more."""

from pathlib import Path

from pilot_starter.cli import build_config
from pilot_starter.command import pilot_options, wrapper_argv, wrapper_environment

# What Rubin's GKE job template sets, as the pod sees it after Harvester.
GKE = {
    "computingSite": "DOMA_LSST_GOOGLE_TEST",
    "pandaQueueName": "DOMA_LSST_GOOGLE_TEST",
    "resourceType": "SCORE",
    "prodSourceLabel": "managed",
    "jobType": "unified",
    "pilotType": "PR",
    "HARVESTER_ID": "harvester-1",
    "workerID": "123",
    "proxyContent": "$proxyContent",
    "USE_REALTIME_LOGGING": "yes",
    "REALTIME_LOGGING_SERVER": "google-cloud-logging",
    "REALTIME_LOGNAME": "Panda-RubinLog",
    "REALTIME_LOGFILES": "payload-log.json",
    "TMPDIR": "/tmp",
    "HOME": "/tmp",
}


def effective(environment: dict[str, str]) -> str:
    """The pilot's options as the wrapper puts them together: -q, -i and -j
    first.
    """
    _, config = build_config([], environment)
    home = Path("/tmp")
    head = ["-q", config.queue, "-i", config.version_tag, "-j", config.label]
    return " ".join([*head, *pilot_options(config, home)])


def test_pull_command_is_todays() -> None:
    assert effective(GKE) == (
        "-q DOMA_LSST_GOOGLE_TEST -i PR -j managed --pilot-user=rubin -x 3 -v 5 --resource-type SCORE "
        "--use-realtime-logging --realtime-logging-server google-cloud-logging "
        "--realtime-logname Panda-RubinLog -w generic --pilot-user rubin "
        "--url=https://pandaserver-doma.cern.ch -d --harvester-submit-mode PULL --allow-same-user=False -t"
    )


def test_push_command_is_todays() -> None:
    bare = {k: v for k, v in GKE.items() if not k.startswith(("REALTIME", "USE_")) and k != "resourceType"}
    assert effective({**bare, "submit_mode": "PUSH"}) == (
        "-q DOMA_LSST_GOOGLE_TEST -i PR -j managed --pilot-user=rubin -x 3 -v 5 --harvester-datadir /tmp "
        "-w generic --pilot-user rubin --url=https://pandaserver-doma.cern.ch -d "
        "--harvester-submit-mode PUSH --allow-same-user=False -t"
    )


def test_extra_options_come_last_and_whole() -> None:
    extra = effective({**GKE, "PILOT_EXTRA_OPTIONS": "--a 'b c'"})
    assert extra.endswith("-t --a b c")
    _, config = build_config(["--", "--last", "x y"], {**GKE, "PILOT_EXTRA_OPTIONS": "--a 'b c'"})
    assert pilot_options(config, Path("/tmp"))[-4:] == ["--a", "b c", "--last", "x y"]


def test_wrapper_is_told_where_the_pilot_is() -> None:
    _, config = build_config([], GKE)
    for installed, word in ((True, "image"), (False, "local")):
        argv = wrapper_argv(config, wrapper=Path("/w.sh"), home=Path("/h"), installed=installed)
        assert argv[:5] == ["bash", "/w.sh", "--exec", "--piloturl", word]


def test_environment_names_the_workers_log_and_leaves_the_pilot_less_time_than_us() -> None:
    environment = {**GKE, "logs_frontend_r": "https://panda/cache/", "PILOT_GRACE_SECONDS": "12"}
    _, config = build_config([], environment)
    env = wrapper_environment(config, home=Path("/h"), credentials={"X509_USER_PROXY": "/p"})
    assert env["GTAG"] == "https://panda/cache/harvester-1_123_gz.out"
    assert env["HARVESTER_WORKER_ID"] == "123"
    assert env["X509_USER_PROXY"] == "/p"
    assert env["REALTIME_LOGFILES"] == "payload-log.json"
    assert float(env["PILOT_GRACE_SECONDS"]) == 8.0
    assert "proxyContent" not in env
