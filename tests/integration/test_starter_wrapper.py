"""The wrapper alone, as a batch system starts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.pilot.process import wait_for
from tests.fakes.pilot.tarball import FAKE_PILOT, make_tarball
from tests.fakes.pilot.web import Web, serve

WRAPPER = Path(__file__).resolve().parents[2] / "pilot_starter/wrapper.sh"


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        yield running


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "CRIC_URL": "",
        "FAKE_NOTES": str(tmp_path / "notes"),
        "PILOT_PYTHON": sys.executable,
    }


def start(env: dict[str, str], cwd: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", str(WRAPPER), *options],
        env=env,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(env: dict[str, str], cwd: Path, *options: str) -> tuple[int, str]:
    process = start(env, cwd, *options)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out


def notes(env: dict[str, str]) -> list[dict[str, object]]:
    path = Path(env["FAKE_NOTES"])
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def offer(web: Web, tmp_path: Path) -> tuple[str, str]:
    sha = make_tarball(tmp_path / "t.gz")
    web.routes["/pilot3.tar.gz"] = (200, (tmp_path / "t.gz").read_bytes())
    return f"{web.url}/pilot3.tar.gz", sha


def test_shellcheck_has_nothing_to_say() -> None:
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("shellcheck is not installed")
    result = subprocess.run([found, str(WRAPPER)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "")


def test_no_eval_and_no_unverified_tls() -> None:
    code = [line.split("#")[0] for line in WRAPPER.read_text().splitlines()]
    assert not [line for line in code if "eval " in line or "--insecure" in line or "curl -k" in line]


def test_downloads_checks_runs_and_cleans(env: dict[str, str], tmp_path: Path, web: Web) -> None:
    url, sha = offer(web, tmp_path)
    env["FAKE_EXIT"] = "3"
    code, out = run(
        env,
        tmp_path,
        *("-s", "S", "-r", "R", "-q", "Q", "-j", "managed", "-i", "PR", "--piloturl", url),
        *("--pilotsha256", sha, "-w", "generic", "-t", "--mute", "--name", "a b $HOME `id`", ""),
    )
    assert code == 3, out
    (note,) = [n for n in notes(env) if "argv" in n]
    assert note["program"] == "pilot3/pilot.py"
    assert note["argv"] == [
        *("-q", "Q", "-i", "PR", "-j", "managed"),
        *("-w", "generic", "-t", "--name", "a b $HOME `id`", ""),
    ]
    assert "Pilot exit status: 3" in out
    assert "pilot version: 3.99.0.1" in out
    assert not list(tmp_path.glob("panda_*"))


@pytest.mark.parametrize(
    ("sha256", "body"),
    [("0" * 64, None), ("", b"<html>404</html>"), ("", b"half"), ("", b"outside")],
    ids=["checksum", "html", "half", "outside"],
)
def test_bad_downloads_end_it(
    env: dict[str, str], tmp_path: Path, web: Web, sha256: str, body: bytes | None
) -> None:
    url, _ = offer(web, tmp_path)
    good = (tmp_path / "t.gz").read_bytes()
    if body == b"half":
        body = good[: len(good) // 2]
    elif body == b"outside":
        make_tarball(tmp_path / "o.gz", files={"pilot3/../../evil": b"x"})
        body = (tmp_path / "o.gz").read_bytes()
    web.routes["/pilot3.tar.gz"] = (200, good if body is None else body)
    options = ["--pilotsha256", sha256] if sha256 else []
    code, out = run(env, tmp_path, "-q", "Q", "--piloturl", url, *options)
    assert code == 1
    assert "FATAL" in out
    assert not notes(env)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("signed", ["ours", "theirs", "not"])
def test_a_key_asks_for_a_signature(env: dict[str, str], tmp_path: Path, web: Web, signed: str) -> None:
    url, _ = offer(web, tmp_path)
    tarball, keys = tmp_path / "t.gz", {}
    for name in ("ours", "theirs"):
        keys[name] = tmp_path / f"{name}.pem"
        kind = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        for words in (
            ("genpkey", *kind, "-out", keys[name]),
            ("pkey", "-in", keys[name], "-pubout", "-out", tmp_path / f"{name}.pub"),
            ("dgst", "-sha256", "-sign", keys[name], "-out", tmp_path / f"{name}.sig", tarball),
        ):
            subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
    if signed in keys:
        web.routes["/pilot3.tar.gz.sig"] = (200, (tmp_path / f"{signed}.sig").read_bytes())
    # The key's name is relative to where the wrapper starts.
    code, out = run(env, tmp_path, "-q", "Q", "--piloturl", f"{url}?a=b", "--pilotkey", "ours.pub")
    assert bool(notes(env)) == (signed == "ours"), out
    assert (code == 0) == (signed == "ours")
    if signed == "theirs":
        assert "is not signed with the key" in out


def test_a_key_that_is_not_there_ends_it(env: dict[str, str], tmp_path: Path, web: Web) -> None:
    url, _ = offer(web, tmp_path)
    code, _ = run(env, tmp_path, "-q", "Q", "--piloturl", url, "--pilotkey", "no.pub")
    assert code == 64
    assert not notes(env)


def test_404_ends_it(env: dict[str, str], tmp_path: Path, web: Web) -> None:
    code, out = run(env, tmp_path, "-q", "Q", "--piloturl", f"{web.url}/none.tar.gz")
    assert code == 1
    assert "cannot be downloaded" in out


def test_local_pilot_here(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    code, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert code == 0, out
    assert (tmp_path / "pilot3/pilot.py").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT", "SIGXCPU"])
def test_signals_reach_the_pilot_and_its_exit_code_comes_back(
    env: dict[str, str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    env["FAKE_RUN_S"] = "60"
    process = start(env, tmp_path, "-q", "Q", "--piloturl", "local")
    try:
        wait_for(lambda: any("up" in n for n in notes(env)))
        process.send_signal(signal.Signals[name])
        if name == "SIGUSR1":
            wait_for(lambda: any(n.get("signal") == name for n in notes(env)))
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            name = "SIGTERM"
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 128 + signal.Signals[name], out
    assert f"caught {name}" in out
    assert f"Pilot exit status: {128 + signal.Signals[name]}" in out


def test_site_scripts_are_sourced_before_and_after(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    (tmp_path / "prolog").write_text('export FROM_PROLOG="yes $NOT_SET_ANYWHERE"\n')
    (tmp_path / "epilog").write_text('echo "epilog sees $FROM_PROLOG"\n')
    env.update(LSST_LOCAL_PROLOG=str(tmp_path / "prolog"), LSST_LOCAL_EPILOG=str(tmp_path / "epilog"))
    code, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert code == 0
    assert "epilog sees yes" in out
    (note,) = [n for n in notes(env) if "argv" in n]
    assert isinstance(note["env"], dict)
    assert note["env"]["FROM_PROLOG"] == "yes "


def test_pandaids_are_said(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pilot3").mkdir()
    (tmp_path / "pilot3/pilot.py").write_text("open('pandaIDs.out', 'w').write('11\\n12\\n')\n")
    _, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert "pandaids: 11 12" in out


def test_environment_is_shown_without_secrets(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    proxy = tmp_path / "x509"
    proxy.write_text("PEM")
    env.update(
        PGPASSWORD="hunter22",
        OIDC_AUTH_TOKEN="eyJhbGciOi",
        X509_USER_PROXY=str(proxy),
        GOOGLE_APPLICATION_CREDENTIALS=str(proxy),
        PANDA_MULTI="one\ntwo",
        DB_URL="postgres://me:geheim@db/x",
        https_proxy="http://geheim@proxy:3128",
        SLURM_JWT="hunter22",
        _CONDOR_CREDS="hunter22",
    )
    _, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert "hunter22" not in out
    assert "eyJhb" not in out
    assert "geheim" not in out
    assert f"X509_USER_PROXY={proxy}" in out
    assert f"GOOGLE_APPLICATION_CREDENTIALS={proxy}" in out
    assert "PANDA_MULTI=one\\ntwo" in out


def test_only_known_settings_are_shown(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    hidden = (
        "DB_PASS",
        "MYSQL_PWD",
        "SIGNING_KEY",
        "RUCIO_PASSWORD",
        "PANDA_AUTH_TOKEN",
        "PINCODE",
        "PATH_X",
    )
    env.update(dict.fromkeys(hidden, "hunter22"), LSST_RUN="1", _CONDOR_SLOT="slot1", EMPTY="")
    _, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert "hunter22" not in out
    for line in (*(f"{name}=***" for name in hidden), "LSST_RUN=1", "_CONDOR_SLOT=slot1", "EMPTY="):
        assert f"\n{line}\n" in out


@pytest.mark.parametrize("owed", ["pilot_job_state.json", "pilot_job_state.unreadable", "PanDA_Pilot-1"])
def test_what_is_owed_outlives_the_wrapper(env: dict[str, str], tmp_path: Path, owed: str) -> None:
    code = f"import os\nos.mkdir({owed!r})\nopen({owed!r} + '/panda_secrets.json', 'w').close()\n"
    make_tarball(tmp_path / "t.gz", files={"pilot3/pilot.py": code.encode()})
    _, out = run(env, tmp_path, "-q", "Q", "--piloturl", f"file://{tmp_path}/t.gz")
    (home,) = tmp_path.glob("panda_*")
    assert f"{home} is kept for {owed}\n" in out
    assert list((home / owed).iterdir()) == []


def test_drain_before_the_pilot_listens_kills_nobody(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pilot3").mkdir()
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGUSR2)\nprint('still here')\n"
    (tmp_path / "pilot3/pilot.py").write_text(code)
    (tmp_path / "prolog").write_text("kill -s USR2 $$\n")
    env["LSST_LOCAL_PROLOG"] = str(tmp_path / "prolog")
    for options in ([], ["--exec"]):
        code, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local", *options)
        assert (code, "still here" in out) == (0, True), out


def test_queue_data_for_this_queue_only(env: dict[str, str], tmp_path: Path, web: Web) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    web.routes["/api/atlas/pandaqueue/query/"] = (200, b'{"Q": {"state": "ACTIVE"}}')
    env["CRIC_URL"] = web.url
    _, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert "cric_pandaqueues.json: Q from" in out
    assert json.loads((tmp_path / "cric_pandaqueues.json").read_text()) == {"Q": {"state": "ACTIVE"}}


def test_a_python_without_a_pilot_is_told_so(env: dict[str, str], tmp_path: Path) -> None:
    python = tmp_path / "python"
    # Not the one of these tests, which has our packages.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    env["PILOT_PYTHON"] = str(python)
    code, out = run(env, tmp_path, "-q", "Q")
    assert code == 1
    said = (
        f"FATAL: {python} has no pilot: --piloturl names one to fetch, PILOT_PYTHON a Python that has one\n"
    )
    assert said in out


def test_the_pilots_own_cric_is_asked(env: dict[str, str], tmp_path: Path, web: Web) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    web.routes["/api/atlas/pandaqueue/query/"] = (200, b'{"Q": {"state": "ACTIVE"}}')
    del env["CRIC_URL"]
    env["PILOT_CRIC_URL"] = f"{web.url}/"
    _, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert f"cric_pandaqueues.json: Q from {web.url}\n" in out


@pytest.mark.parametrize("answer", [(404, b"<html>"), (200, b"<html>sorry</html>"), (200, b'{"R": {}}')])
def test_cric_that_does_not_answer_is_no_disaster(
    env: dict[str, str], tmp_path: Path, web: Web, answer: tuple[int, bytes]
) -> None:
    (tmp_path / "pilot3").mkdir()
    shutil.copy(FAKE_PILOT, tmp_path / "pilot3/pilot.py")
    web.routes["/api/atlas/pandaqueue/query/"] = answer
    env["CRIC_URL"] = web.url
    code, out = run(env, tmp_path, "-q", "Q", "--piloturl", "local")
    assert code == 0
    assert "the pilot will ask for them" in out
    assert not (tmp_path / "cric_pandaqueues.json").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 64, "no queue given"),
        (["-q"], 64, "needs a value"),
        (["-q", "Q", "--piloturl", "local"], 1, "no pilot3/pilot.py"),
        (["--help"], 0, "Usage"),
    ],
)
def test_wrong_use_is_said(
    env: dict[str, str], tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    got, out = run(env, tmp_path, *options)
    assert got == code
    assert words in out
