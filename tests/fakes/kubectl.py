"""`kubectl` for one pod on this machine's Docker: create, exec, delete.

A pod's manifest becomes `docker run`: command, environment, rights, volumes.
What a cluster would know, a JSON file says, named by KUBECTL_CLUSTER:

images     by their names in manifests, those that are here
variables  for all containers, instead of the manifest's
secrets    folders, by name; one that is missing must be optional
paths      of the node, by those that manifests name; mounted as such, too
options    for `docker run`
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["install"]

Json = dict[str, Any]


def install(folder: Path, cluster: Json) -> dict[str, str]:
    """Write the program and its cluster into `folder`; variables that find
    them.
    """
    program = folder / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    program.chmod(0o755)
    (folder / "cluster.json").write_text(json.dumps(cluster))
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "KUBECTL_CLUSTER": str(folder / "cluster.json"),
        "TERM": "dumb",
    }


def _value(variable: Json) -> str:
    field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
    return str(variable.get("value", "")) or field.rpartition(".")[2]


def _environment(container: Json, cluster: Json) -> Iterator[str]:
    given = {variable["name"]: _value(variable) for variable in container["env"]}
    for name, value in {**given, **cluster["variables"]}.items():
        yield from ("--env", f"{name}={value}")


def _rights(context: Json) -> Iterator[str]:
    assert context["allowPrivilegeEscalation"] is False
    yield from ("--user", str(context["runAsUser"]), "--security-opt", "no-new-privileges")
    for right in context["capabilities"]["drop"]:
        yield from ("--cap-drop", right)
    for right in context["capabilities"]["add"]:
        yield from ("--cap-add", right)


def _mounts(container: Json, volumes: dict[str, Json], cluster: Json) -> Iterator[str]:
    for mount in container["volumeMounts"]:
        volume, target = volumes[mount["name"]], mount["mountPath"]
        mode = ":ro" if mount.get("readOnly") else ""
        if "secret" in volume:
            folder = cluster["secrets"].get(volume["secret"]["secretName"])
            assert folder or volume["secret"]["optional"], f"{mount['name']}: no such secret"
            if folder:
                yield from ("--volume", f"{folder}:{target}{mode}")
        elif "hostPath" in volume:
            path = volume["hostPath"]["path"]
            assert path == target, "a payload's container is given paths of the pilot's"
            path = cluster["paths"].get(path, path)
            yield from ("--volume", f"{path}:{path}{mode}")
        else:
            assert "emptyDir" in volume, volume
            yield from ("--volume", f"{target}{mode}")


def create(manifest: str, cluster: Json) -> int:
    """`create -f`: prints the pod's name."""
    pod = yaml.safe_load(Path(manifest).read_text())
    spec = pod["spec"]
    (container,) = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    name = pod["metadata"]["generateName"] + uuid.uuid4().hex[:5]
    entry, *arguments = container["command"]
    command = ["docker", "run", "--detach", "--name", name, "--workdir", container["workingDir"]]
    command += [*cluster["options"], "--entrypoint", entry, *_environment(container, cluster)]
    command += [*_rights(container["securityContext"]), *_mounts(container, volumes, cluster)]
    command += [cluster["images"][container["image"]], *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=False)
    if done.returncode == 0:
        sys.stdout.write(f"pod/{name} created\n")
    return done.returncode


def main(argv: Sequence[str]) -> int:
    """As much of kubectl as the documents use."""
    cluster = json.loads(Path(os.environ["KUBECTL_CLUSTER"]).read_text())
    verb, *rest = argv
    if verb == "create":
        flag, manifest = rest
        assert flag == "-f", argv
        return create(manifest, cluster)
    if verb == "exec":
        cut = rest.index("--")
        return os.execvp("docker", ["docker", "exec", *rest[:cut], *rest[cut + 1 :]])
    kind, name = rest
    assert (verb, kind) == ("delete", "pod"), argv
    done = subprocess.run(
        ["docker", "rm", "--force", "--volumes", name], stdout=subprocess.DEVNULL, timeout=60
    )
    sys.stdout.write(f'pod "{name}" deleted\n')
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
