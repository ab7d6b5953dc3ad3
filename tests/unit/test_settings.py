"""Options, variables and INI keys: one source a value."""

import dataclasses
import re
from pathlib import Path

import pytest

from pilot_core.cli import KINDS, groups, parse, show
from pilot_core.errors import SetupError
from pilot_core.ignored import IGNORED
from pilot_core.inifiles import read_ini
from pilot_core.main import run
from pilot_core.settings import MADE, SETTINGS

# What Rubin's starter and wrapper pass on GKE, duplicates and all.
RUBIN = [
    "-q",
    "DOMA_LSST_GOOGLE_TEST",
    "-i",
    "PR",
    "-j",
    "managed",
    "--pilot-user=rubin",
    "-x",
    "3",
    "-v",
    "5",
    "--resource-type",
    "SCORE",
    "--use-realtime-logging",
    "--realtime-logging-server",
    "google-cloud-logging",
    "--realtime-logname",
    "Panda-RubinLog",
    "--harvester-datadir",
    "/tmp",
    "-w",
    "generic",
    "--pilot-user",
    "rubin",
    "--url=https://pandaserver-doma.cern.ch",
    "-d",
    "--harvester-submit-mode",
    "PULL",
    "--allow-same-user=False",
    "-t",
]


def test_the_command_line_of_the_field() -> None:
    environment = {
        "REALTIME_LOGFILES": "payload-log.json",
        "HARVESTER_ID": "Rubin-1",
        "HARVESTER_WORKER_ID": "77",
        "proxyContent": "$proxyContent",
        "K8S_JOB_ID": "grid-job-77",
        "PANDA_HOSTNAME": "gke-node",
    }
    invocation = parse(RUBIN, environment)
    config = invocation.config
    assert config.worker.queue == "DOMA_LSST_GOOGLE_TEST"
    assert config.worker.worker_id == 77
    assert (config.worker.batch_type, config.worker.batch_id) == ("Kubernetes", "grid-job-77")
    assert config.worker.hostname == "gke-node"
    assert config.server.url == "https://pandaserver-doma.cern.ch:25443"
    assert config.payload.environment["PANDA_SERVER_URL"] == config.server.url
    assert (config.jobs.requests, config.jobs.failures) == (5, 3)
    assert config.jobs.allow_same_user is False
    assert config.realtime.enabled
    assert config.realtime.files == ("payload-log.json",)
    assert not invocation.remarks


def test_every_option_of_pilot3_is_accepted() -> None:
    argv = [
        "-a",
        "/tmp",
        "-i",
        "PR",
        "-z",
        "--no-pilot-log",
        "-d",
        "--redirect-stdout",
        "x",
        "-j",
        "ptest",
        "-v",
        "2",
        "-x",
        "5",
        "--country-group",
        "c",
        "--working-group",
        "w",
        "--allow-other-country",
        "no",
        "--allow-same-user",
        "yes",
        "--job-type",
        "t",
        "-w",
        "generic_hpc",
        "-l",
        "100",
        "-L",
        "3600",
        "-q",
        "Q",
        "-r",
        "R",
        "-s",
        "S",
        "--resource-type",
        "MCORE_HIMEM",
        "-b",
        "--stageout-attempts",
        "1",
        "--harvester-workdir",
        "/h",
        "--harvester-datadir",
        "/d",
        "--harvester-eventstatusdump",
        "e",
        "--harvester-workerattributes",
        "a",
        "--harvester-submit-mode",
        "push",
        "--input-dir",
        "i",
        "--input-destination-dir",
        "d",
        "--output-dir",
        "o",
        "--hpc-resource",
        "h",
        "--hpc-mode",
        "m",
        "--es-executor-type",
        "generic",
        "--pod",
        "-t",
        "-u",
        "-y",
        "--cacert",
        "/dev/null",
        "--capath",
        "/c",
        "--url",
        "http://h",
        "-p",
        "1",
        "--queuedata-url",
        "q",
        "--storagedata-url",
        "s",
        "-k",
        "--subscribe-to-msgsvc",
        "--use-https",
        "yes",
        "-g",
        "http://a,http://b",
        "--use-realtime-logging",
        "--realtime-logging-server",
        "s",
        "--realtime-logname",
        "n",
        "--use-rucio-traces",
        "no",
        "--rucio-host",
        "h",
        "--cleanup",
        "no",
    ]
    invocation = parse(argv, {})
    config = invocation.config
    assert config.server.url == "http://h:1"
    assert config.server.talk is False
    assert config.worker.send_worker_status is False
    assert config.jobs.submit_mode == "PUSH"
    assert config.jobs.push_file == Path("/d/pandaJobData.out")
    assert config.payload.base_urls == ("http://a", "http://b")
    assert any("--workflow" in remark for remark in invocation.remarks)


@pytest.mark.parametrize(
    ("argv", "environment", "words"),
    [
        ([], {}, ["queue", "-q"]),
        (["-q", "Q", "-x", "many"], {}, ["--getjobfailures='many': expected a whole number"]),
        (["-q", "Q", "--lifetime=ten"], {}, ["--lifetime='ten': expected a whole number of seconds"]),
        (["-q", "Q", "--lifetime=-1"], {}, ["--lifetime='-1'", "seconds, not negative"]),
        (["-q", "Q", "-l", "9"], {"PANDAPILOT_LIFETIME": "x"}, ["PANDAPILOT_LIFETIME='x': expected a whole"]),
        (["-q", "Q", "--payload-grace", "nan"], {}, ["--payload-grace='nan'", "a number of seconds"]),
        (["-q", "Q", "--image-store-limit", "big"], {}, ["--image-store-limit='big'", "a number of GB"]),
        (["-q", "Q", "--log-cap", "1k"], {}, ["--log-cap='1k'", "a whole number of bytes"]),
        (["-q", "Q", "--port", "99999"], {}, ["--port='99999'", "1 to 65535"]),
        (["-q", "Q"], {"PILOT_LOAD_FACTOR": "busy"}, ["PILOT_LOAD_FACTOR='busy': expected a number"]),
        (["-q", "Q", "--cleanup", "perhaps"], {}, ["--cleanup", "'perhaps'", "yes or no"]),
        (["-q", "Q", "--url", "ftp://x"], {}, ["--url", "ftp://x"]),
        (["-q", "Q", "--url", "https://x:port"], {}, ["--url", "port"]),
        (["-q", "Q", "--resource-type", "BIG"], {}, ["--resource-type", "'BIG'"]),
        (["-q", "Q"], {"HARVESTER_WORKER_ID": "seven"}, ["HARVESTER_WORKER_ID='seven': expected a whole"]),
        (["-q", "Q"], {"HARVESTER_PILOT_CONFIG": "/nowhere.cfg"}, ["HARVESTER_PILOT_CONFIG", "/nowhere.cfg"]),
        (["-q", "Q", "--cacert", "/nowhere.pem"], {}, ["--cacert", "/nowhere.pem", "No such file"]),
        (["-q", "Q", "--harvester-submit-mode", "PUL"], {}, ["--harvester-submit-mode", "'PUL'"]),
    ],
)
def test_a_bad_value_is_named(argv: list[str], environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SetupError) as caught:
        parse(argv, environment)
    assert all(word in caught.value.diag for word in words), caught.value.diag
    assert "\n" not in caught.value.diag


def test_sources_and_their_order(tmp_path: Path) -> None:
    ini = tmp_path / "pilot.cfg"
    ini.write_text(
        "[Pilot]\nheartbeat: 2\nfree_space_limit: 3 GB\nlocal_size_limit_stdout: 10\npandaserver: $SRV\n"
    )
    environment = {
        "HARVESTER_PILOT_CONFIG": str(ini),
        "PANDAPILOT_LIFETIME": "50",
        "PANDA_API": "v1",
        "SRV": "http://from-ini",
    }
    invocation = parse(["-q", "Q", "-l", "100", "--panda-api", "legacy"], environment)
    assert invocation.config.heartbeat.period_s == 2.0
    assert invocation.config.jobs.min_free_mb == 3072
    assert invocation.config.monitor.output_bytes == 10240
    assert invocation.config.worker.lifetime_s == 50
    assert invocation.config.server.api == "legacy"
    assert invocation.config.server.url == "http://from-ini:25443"
    text = show(invocation)
    assert "PANDAPILOT_LIFETIME" in text
    assert "Pilot.heartbeat" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("heartbeat: soon", "Pilot.heartbeat='soon': expected a number of seconds"),
        (
            "local_size_limit_stdout: 1 MB",
            "Pilot.local_size_limit_stdout='1 MB': expected a whole number of kB",
        ),
        ("pandaserver: ftp://x", "Pilot.pandaserver='ftp://x': expected http(s)://host[:port]"),
    ],
)
def test_a_bad_value_in_a_file_is_named_with_the_file(tmp_path: Path, text: str, words: str) -> None:
    ini = tmp_path / "pilot.cfg"
    ini.write_text(f"[Pilot]\n{text}\n")
    with pytest.raises(SetupError) as caught:
        parse(["-q", "Q"], {"HARVESTER_PILOT_CONFIG": str(ini)})
    assert caught.value.diag == f"{ini}: {words}"


def test_show_config_says_what_sets_each_value() -> None:
    text = show(parse(["-q", "Q"], {}))
    assert re.search(
        r"^worker\.lifetime_s +324000 +s +default  \[PANDAPILOT_LIFETIME, --lifetime\]$", text, re.M
    )
    assert re.search(r"^server\.url .* default  \[--url, Pilot\.pandaserver, --port\]$", text, re.M)
    assert re.search(r"^jobs\.push_wait_s +600 +s +default$", text, re.M)


def test_help_names_kind_default_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {})
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "-l SECONDS, --lifetime SECONDS longest life of the pilot [default 324000; PANDAPILOT_LIFETIME]"
        in text
    )
    assert "--engine auto|docker|process|kubernetes what runs payloads [default auto; PILOT_ENGINE]" in text
    assert "--cacert PATH " in text
    assert " X " not in text


def test_no_name_is_two_settings_options() -> None:
    flags = [flag for setting in SETTINGS for flag in setting.flags]
    flags += [flag for ignored in IGNORED for flag in ignored.flags]
    assert len(flags) == len(set(flags))
    assert {setting.field for group in groups().values() for setting in group} == {s.field for s in SETTINGS}


def test_every_setting_ends_in_the_configuration() -> None:
    """A row whose name is misspelt would set nothing."""
    fields = {f"{part}.{item.name}" for part, kind in KINDS.items() for item in dataclasses.fields(kind)}
    origins = {origin for made in MADE.values() for origin in made}
    assert {setting.field for setting in SETTINGS} <= fields | origins
    assert set(MADE) <= fields


def test_show_config_tells_no_environment() -> None:
    text = show(parse(["-q", "Q"], {"SECRET_TOKEN": "hunter2-hunter2"}))
    assert "hunter2" not in text


def shown(argv: list[str], environment: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Unit and source of each setting that `--show-config` prints."""
    found = {}
    for line in show(parse(["-q", "Q", "--show-config", *argv], environment)).splitlines()[1:]:
        *_, value, source = re.split(r"  +", line.partition("  [")[0])
        unit = value.rpartition(" ")[2]
        found[line.split()[0]] = (unit if unit in ("s", "MB", "bytes") else "", source)
    return found


def test_what_is_made_of_others_names_its_source(tmp_path: Path) -> None:
    proxy = tmp_path / "p"
    proxy.write_text("-----BEGIN PRIVATE KEY-----")
    found = shown(
        ["-a", "/w", "--url", "https://h", "--harvester-submit-mode", "PUSH", "--harvester-datadir", "/d"],
        {"PANDA_AUTH_TOKEN": "/t", "PANDA_AUTH_ORIGIN": "vo.r", "X509_USER_PROXY": "/x", "SLURM_JOB_ID": "7"},
    )
    expected = {
        "worker.home": "--workdir",
        "info.folder": "--workdir",
        "worker.batch_id": "SLURM_JOB_ID",
        "server.url": "--url",
        "info.server_url": "--url",
        "server.token_file": "PANDA_AUTH_TOKEN",
        "server.proxy_file": "X509_USER_PROXY",
        "jobs.push_file": "--harvester-datadir",
        "server.api": "default",
    }
    assert {name: found[name][1] for name in expected} == expected
    found = shown(["--cacert", str(proxy), "-z", "--use-realtime-logging"], {"X509_USER_PROXY": "/x"})
    assert found["server.proxy_file"][1] == "--cacert"
    assert found["info.server_url"][1] == "--noserverupdate"
    assert found["realtime.enabled"][1] == "--use-realtime-logging"


def test_every_time_and_size_has_its_unit() -> None:
    units = {name: unit for name, (unit, _) in shown([], {}).items()}
    assert [name for name, unit in units.items() if name.endswith("_s") and unit != "s"] == []
    assert [name for name, unit in units.items() if name.endswith("_mb") and unit != "MB"] == []
    assert [name for name, unit in units.items() if name.endswith("_bytes") and unit != "bytes"] == []


@pytest.mark.parametrize(("environment", "base"), [({}, "/cvmfs"), ({"ATLAS_SW_BASE": "/sw"}, "/sw")])
def test_pilot3s_word_for_cvmfs_is_a_place(tmp_path: Path, environment: dict[str, str], base: str) -> None:
    ini = tmp_path / "pilot.cfg"
    ini.write_text(
        "[Information]\nqueues_cvmfs: CVMFS_PATH/sw.lsst.eu/q.json\nstorages_cvmfs: /elsewhere/s.json\n"
    )
    invocation = parse(["-q", "Q"], {"HARVESTER_PILOT_CONFIG": str(ini), **environment})
    info = invocation.config.info
    assert (info.queues_cvmfs, info.storages_cvmfs) == (
        Path(base, "sw.lsst.eu/q.json"),
        Path("/elsewhere/s.json"),
    )
    assert not invocation.remarks


def test_ini_files_are_named_and_what_they_say_in_vain_is_said(tmp_path: Path) -> None:
    site, named = tmp_path / "site.cfg", tmp_path / "named.cfg"
    site.write_text("[Pilot]\nheartbeat: 900\nhttp_maxtime: 5\n[Rucio]\nurl: x\n")
    named.write_text("[Pilot]\nheartbeat: $BEAT\nmemory: 1\n")
    ini = read_ini({"HARVESTER_PILOT_CONFIG": str(named), "BEAT": "600"}, [site, tmp_path / "nothing"])
    assert ini.texts == {
        "Pilot.heartbeat": "600", "Pilot.http_maxtime": "5", "Rucio.url": "x", "Pilot.memory": "1"
    }  # fmt: skip
    assert ini.source("Pilot.heartbeat") == f"{named}: Pilot.heartbeat"
    assert ini.source("--url") == "--url"
    assert ini.remarks(["Pilot.heartbeat", "Pilot.http_maxtime"]) == [
        f"{named}: without effect: Pilot.memory",
        f"{site}: without effect: Rucio.url",
    ]
    found = shown([], {"HARVESTER_PILOT_CONFIG": str(named), "BEAT": "600"})
    assert found["heartbeat.period_s"] == ("s", f"{named}: Pilot.heartbeat")
    remarks = parse(["-q", "Q"], {"HARVESTER_PILOT_CONFIG": str(named)}).remarks
    assert remarks == [f"{named}: without effect: Pilot.memory"]


def test_show_config_refuses_an_unknown_log_service(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["-q", "Q", "--use-realtime-logging", "--show-config", "--realtime-logging-server"]
    assert run([*given, "google-cloud-logging"]) == 0
    capsys.readouterr()
    assert run([*given, "nosuch"]) == 65
    out, err = capsys.readouterr()
    assert "realtime.server" in out
    assert err.startswith("pilot.py: real-time logging would be off: --realtime-logging-server ")
    assert "nosuch" in err


def test_a_misspelt_option_is_told_what_it_may_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(["-q", "Q", "--use-realtime-loging"])
    assert "--use-realtime-loging: is it --use-realtime-logging?" in capsys.readouterr().err
