"""The shim before the real docker client: what it adds, and that this is all."""

import os
import pty
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container.companions import SHIM
from tests.fakes.images import TEST_LABEL, busybox_image

LABELS = "a=1\nb=two words\nc=$HOME;*'\""
ADDED = ["--label", "a=1", "--label", "b=two words", "--label", "c=$HOME;*'\"", "--init"]
SHELLS = [[name] for name in ("dash", "bash") if shutil.which(name)] + [["busybox", "sh"]]

# A client that only says what it was given, each argument ended by a NUL.
RECORDER = '#!/bin/sh\nprintf "%s\\0" "$@"\n'

# Arguments that must arrive as they are; no sub-command of ours among them.
UNTOUCHED = [
    [],
    ["ps", "-a", "--filter", "label=run"],
    ["--help"],
    ["-v"],
    ["exec", "x", "docker", "run", "y"],
    ["help", "run"],
    ["image", "build", "--tag", "run", "."],
    ["volume", "create", "run"],
    ["compose", "run", "service"],
    ["buildx", "create"],
    ["container", "ls"],
    ["container", "container", "run"],
    ["--host", "run"],
    ["-H", "run", "ps"],
    ["-DH", "run", "ps"],
    ["--config", "create", "logs", "run"],
    ["", "run"],
    [" run", "x"],
    ["run ", "x"],
]

# What stands before the point where ours goes, and what after it.
TOUCHED = [
    (["run"], ["image"]),
    (["create"], ["--name", "run", "image"]),
    (["container", "run"], ["image", "run"]),
    (["container", "create"], []),
    (["-H", "unix:///x", "run"], ["--rm", "image", "sh", "-c", "docker run y"]),
    (["-Hunix:///x", "run"], ["image"]),
    (["-DH", "unix:///x", "run"], ["image"]),
    (["-D", "-l", "debug", "run"], ["image"]),
    (["-Dldebug", "run"], ["image"]),
    (["--log-level=debug", "run"], ["image"]),
    (["--log-level", "debug", "--tls", "container", "run"], ["image"]),
    (["--context", "run", "run"], ["image"]),
    (
        ["run"],
        [
            "-v",
            "/a b:/c",
            "image",
            "",
            " ",
            "a\nb\n",
            "--",
            "run",
            "--label",
            "*",
            "$x",
            "\\",
            "'",
            '"',
            "é\t",
        ],
    ),
]


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    folder = tmp_path / "client bin"
    folder.mkdir()
    client = folder / "docker"
    client.write_text(RECORDER)
    client.chmod(0o755)
    return folder


def recorded(
    recorder: Path, arguments: Sequence[str], *, shell: Sequence[str] = (), **environment: str
) -> list[str]:
    done = subprocess.run(
        [*shell, str(SHIM / "docker"), *arguments],
        env={"PATH": f"{SHIM}:{recorder}:/usr/bin:/bin", "CONTAINER_LABELS": LABELS, **environment},
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert not done.stderr
    # printf writes one NUL even where it has no argument.
    return [] if not arguments else done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("arguments", UNTOUCHED, ids=" ".join)
def test_other_commands_are_handed_on_as_they_are(recorder: Path, arguments: list[str]) -> None:
    assert recorded(recorder, arguments) == arguments


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("before", "after"), TOUCHED)
def test_labels_stand_right_after_the_sub_command(
    recorder: Path, before: list[str], after: list[str], shell: list[str]
) -> None:
    assert recorded(recorder, [*before, *after], shell=shell) == [*before, *ADDED, *after]


ARGUMENT = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
) | st.sampled_from(["run", "--", "-", "--label", "container", "-H", "--rm", "*", "\n", ""])


@settings(max_examples=60, deadline=None)
@given(after=st.lists(ARGUMENT, max_size=12))
def test_any_argument_list_arrives_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, after: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "recorder"
    if not folder.exists():
        folder.mkdir()
        (folder / "docker").write_text(RECORDER)
        (folder / "docker").chmod(0o755)
    got = recorded(folder, ["run", *after], CONTAINER_INIT="no")
    assert got == ["run", *ADDED[:-1], *after]


@pytest.mark.parametrize(
    "word", ["--pid=host", "--pid", "--init=false", "/sbin/init", "/lib/systemd/systemd", "/init"]
)
def test_no_init_where_it_may_not_be_safe(recorder: Path, word: str) -> None:
    assert "--init" not in recorded(recorder, ["run", word, "image"])


def test_limits_and_cidfile_are_added_when_asked_for(recorder: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    ids.mkdir()
    limits = {"CONTAINER_MEMORY": "1000000", "CONTAINER_CPUS": "1.5", "CONTAINER_PIDS": "300"}
    asked = {**limits, "CONTAINER_CIDDIR": str(ids)}
    got = recorded(recorder, ["run", "image"], **asked)
    assert got[got.index("--memory") + 1] == "1000000"
    assert got[got.index("--cpus") + 1] == "1.5"
    assert got[got.index("--pids-limit") + 1] == "300"
    assert Path(got[got.index("--cidfile") + 1]).parent == ids
    got = recorded(recorder, ["run", "--memory-reservation=1g", "--cpu-quota", "1", "image"], **asked)
    assert "--memory" not in got
    assert "--cpus" not in got
    gone = {**asked, "CONTAINER_CIDDIR": str(tmp_path / "none")}
    assert "--cidfile" not in recorded(recorder, ["run", "image"], **gone)


def test_without_labels_nothing_is_labelled(recorder: Path) -> None:
    got = recorded(recorder, ["run", "image"], CONTAINER_LABELS="", CONTAINER_INIT="no")
    assert got == ["run", "image"]


def test_the_environment_of_the_client_is_the_caller_s(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\nexec env -0\n")
    client.chmod(0o755)
    environment = {
        "PATH": f"{SHIM}:{tmp_path}:/usr/bin:/bin",
        "CONTAINER_LABELS": LABELS,
        "arg": "mine",
        "count": "mine",
        "IFS": "x",
        "dir": "a\nb",
    }

    def seen(program: Path) -> set[bytes]:
        done = subprocess.run([program, "run", "i"], env=environment, capture_output=True, timeout=20)
        return set(done.stdout.split(b"\0"))

    assert seen(SHIM / "docker") == seen(client)


def test_no_client_is_said_as_a_shell_would(tmp_path: Path) -> None:
    done = subprocess.run(
        [SHIM / "docker", "run", "x"], env={"PATH": f"{SHIM}:{tmp_path}"}, capture_output=True, timeout=20
    )
    assert done.returncode == 127
    assert done.stderr == b"docker: command not found\n"


def test_the_shim_never_finds_itself(recorder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / "docker").symlink_to(SHIM / "docker")
    path = f"{SHIM}:{SHIM}:{again}:{recorder}:/usr/bin:/bin"
    assert recorded(recorder, ["run", "i"], PATH=path) == ["run", *ADDED, "i"]


def test_shellcheck_has_nothing_to_say() -> None:
    checker = shutil.which("shellcheck") or str(Path(shutil.which("python") or "").parent / "shellcheck")
    done = subprocess.run([checker, SHIM / "docker"], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout.decode()


class RealClient:
    """The real client behind the shim, and what a test left behind."""

    def __init__(self, ids: Path) -> None:
        self.image = busybox_image()
        self.token = uuid.uuid4().hex
        self.ids = ids
        client = shutil.which("docker")
        assert client
        self.client = client
        self.environment = {
            "PATH": f"{SHIM}:{Path(client).parent}:/usr/bin:/bin",
            "CONTAINER_LABELS": f"{TEST_LABEL}={self.token}\nother=two words",
            "CONTAINER_CIDDIR": str(ids),
            "HOME": str(ids),
        }

    def popen(self, *arguments: str, **options: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["docker", *arguments], env=self.environment, **options)  # type: ignore[call-overload,no-any-return]

    def run(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["docker", *arguments], env=self.environment, input=stdin, capture_output=True, timeout=30
        )

    def mine(self) -> list[str]:
        done = subprocess.run(
            [self.client, "ps", "-aq", "--no-trunc", "--filter", f"label={TEST_LABEL}={self.token}"],
            capture_output=True,
            timeout=20,
            check=True,
        )
        return done.stdout.decode().split()

    def clean(self) -> None:
        for found in self.mine():
            subprocess.run([self.client, "rm", "-f", found], capture_output=True, timeout=20)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealClient]:
    client = RealClient(tmp_path)
    try:
        yield client
    finally:
        client.clean()


@pytest.mark.docker
@pytest.mark.parametrize(
    "front",
    [
        ["run"],
        ["container", "run"],
        ["--log-level=debug", "run"],
        ["-DH", "unix:///var/run/docker.sock", "run"],
    ],
    ids=" ".join,
)
def test_real_run_is_labelled_and_keeps_code_input_and_output(real: RealClient, front: list[str]) -> None:
    script = "cat; echo err >&2; exit 42"
    done = real.run(*front, "-i", "--network", "none", real.image, "sh", "-c", script, stdin=b"in\xff\0put")
    assert done.returncode == 42
    assert done.stdout == b"in\xff\0put"
    assert b"err\n" in done.stderr
    (found,) = real.mine()
    about = subprocess.run(
        [real.client, "inspect", "--format", '{{.HostConfig.Init}}|{{index .Config.Labels "other"}}', found],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert about.stdout == b"true|two words\n"
    (cid,) = [path.read_text() for path in real.ids.iterdir() if path.is_file()]
    assert cid == found


@pytest.mark.docker
def test_real_arguments_arrive_byte_for_byte(real: RealClient) -> None:
    awkward = ["", " ", "a\nb", "--", "run", "--label", "$HOME", "*", "\\n", "é"]
    done = real.run("run", "--rm", "--network", "none", real.image, "printf", "%s|", *awkward)
    assert done.stdout.decode() == "".join(f"{word}|" for word in awkward)


@pytest.mark.docker
def test_the_caller_s_own_options_win(real: RealClient, tmp_path: Path) -> None:
    own = tmp_path / "own.cid"
    real.environment["CONTAINER_MEMORY"] = "50000000"
    done = real.run(
        *("create", "--init=false", "--cidfile", str(own), "--label", "other=mine", "--memory", "70m"),
        *(real.image, "true"),
    )
    assert done.returncode == 0, done.stderr
    (found,) = real.mine()
    assert own.read_text() == found
    about = subprocess.run(
        [
            real.client,
            "inspect",
            "--format",
            "{{.HostConfig.Init}}|{{.Config.Labels.other}}|{{.HostConfig.Memory}}",
            found,
        ],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert about.stdout == b"false|mine|73400320\n"


@pytest.mark.docker
def test_a_signal_reaches_the_payload(real: RealClient) -> None:
    script = "trap 'echo heard; exit 9' TERM; echo up; while :; do sleep 0.05; done"
    process = real.popen(
        "run", "--rm", "--network", "none", real.image, "sh", "-c", script, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert out.read() == b"heard\n"
    assert process.wait(20) == 9


@pytest.mark.docker
def test_a_terminal_stays_a_terminal(real: RealClient) -> None:
    master, slave = pty.openpty()
    process = real.popen(
        *("run", "--rm", "-it", "--network", "none", real.image, "sh", "-c", "tty; exit 5"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    assert process.wait(20) == 5
    assert b"/dev/pts/0" in os.read(master, 4096)
    os.close(master)


@pytest.mark.docker
def test_errors_of_the_client_are_its_own(real: RealClient) -> None:
    shimmed = real.run("run", "--no-such-option", real.image)
    plain = subprocess.run(
        [real.client, "run", "--no-such-option", real.image], capture_output=True, timeout=20
    )
    assert (shimmed.returncode, shimmed.stderr) == (plain.returncode, plain.stderr)
