"""A spec in Docker's words."""

from pathlib import Path

from container.convert import create_arguments
from container.spec import ContainerSpec, Mount

OUT = Path("/w/payload.stdout")
ERR = Path("/w/payload.stderr")


def test_the_smallest_spec() -> None:
    spec = ContainerSpec(name="n", argv=("true",), workdir="", stdout=OUT, stderr=ERR, image="i")
    assert create_arguments(spec) == {
        "name": "n",
        "image": "i",
        "command": ["true"],
        "working_dir": None,
        "environment": {},
        "labels": {"container.name": "n"},
        "user": None,
        "tty": False,
        "stdin_open": False,
        "use_config_proxy": False,
        "host_config": {
            "NetworkMode": "host",
            "Mounts": [],
            "Init": True,
            "LogConfig": {"Type": "none", "Config": {}},
            "AutoRemove": False,
            "RestartPolicy": {"Name": "no"},
        },
    }


def test_a_full_spec() -> None:
    spec = ContainerSpec(
        name="pilot-1234",
        argv=("/bin/bash", "-c", "echo 'a b'\n"),
        workdir="/w",
        stdout=OUT,
        stderr=ERR,
        image="registry/image:tag",
        environment={"A": "1", "EMPTY": ""},
        labels={"job": "1234"},
        mounts=(Mount("/tmp/panda/1234", "/tmp/panda/1234"), Mount("/cvmfs", "/cvmfs", read_only=True)),
        network="none",
        user="1000:1000",
        init=False,
        memory_bytes=4_000_000_000,
        cpus=1.5,
        processes=1000,
    )
    got = create_arguments(spec)
    assert got["command"] == ["/bin/bash", "-c", "echo 'a b'\n"]
    assert got["environment"] == {"A": "1", "EMPTY": ""}
    assert got["labels"] == {"job": "1234", "container.name": "pilot-1234"}
    assert (got["user"], got["working_dir"]) == ("1000:1000", "/w")
    assert got["host_config"] == {
        "NetworkMode": "none",
        "Mounts": [
            {"Type": "bind", "Source": "/tmp/panda/1234", "Target": "/tmp/panda/1234", "ReadOnly": False},
            {"Type": "bind", "Source": "/cvmfs", "Target": "/cvmfs", "ReadOnly": True},
        ],
        "Init": False,
        "LogConfig": {"Type": "none", "Config": {}},
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        "Memory": 4_000_000_000,
        "MemorySwap": 4_000_000_000,
        "NanoCpus": 1_500_000_000,
        "PidsLimit": 1000,
    }
