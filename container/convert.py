"""PURE: a `ContainerSpec` in the words of the Docker Engine API.

The image's own ENTRYPOINT stays, as with `docker run IMAGE COMMAND`: images
with an entry point that sets up their software expect it.
"""

from typing import Any

from container.labels import NAME_LABEL
from container.spec import ContainerSpec

__all__ = ["create_arguments"]


def create_arguments(spec: ContainerSpec) -> dict[str, Any]:
    """Keyword arguments of `docker.APIClient.create_container`.

    The host configuration is written with the Engine API's own keys (v1.41,
    POST /containers/create) rather than through the SDK's helper, so that this
    file needs no SDK.
    """
    return {
        "name": spec.name,
        "image": spec.image,
        "command": list(spec.argv),
        "working_dir": spec.workdir or None,
        "environment": dict(spec.environment),
        "labels": {**spec.labels, NAME_LABEL: spec.name},
        "user": spec.user or None,
        # No terminal: it would turn line ends into CR LF and merge both
        # outputs.
        "tty": False,
        "stdin_open": False,
        # The SDK would add HTTP_PROXY from the docker config to a declared
        # environment.
        "use_config_proxy": False,
        "host_config": _host_config(spec),
    }


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NetworkMode": spec.network,
        "Mounts": [_mount(m.source, m.target, m.read_only) for m in spec.mounts],
        "Init": spec.init,
        # The output is read from the attached stream; a copy at the daemon
        # would fill the disk of the node with what the payload prints.
        "LogConfig": {"Type": "none", "Config": {}},
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
    }
    if spec.memory_bytes:
        config["Memory"] = spec.memory_bytes
        # Memory and swap together: equal to Memory means no swap. The default
        # is twice the memory, and a limit that swaps is none.
        config["MemorySwap"] = spec.memory_bytes
    if spec.cpus:
        config["NanoCpus"] = round(spec.cpus * 1e9)
    if spec.processes:
        config["PidsLimit"] = spec.processes
    return config


def _mount(source: str, target: str, read_only: bool) -> dict[str, Any]:
    # A mount of this form fails if the source is missing; the older "binds"
    # create it, owned by root and empty, and the payload fails later.
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
