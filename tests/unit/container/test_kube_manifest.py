"""A spec as a pod: valid by the published schemas, without privilege."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from container.errors import EngineError
from container.kube_manifest import Home, home_of, pod_manifest, pod_name, selector
from container.spec import ContainerSpec, Mount

VERSIONS = ("1.27", "1.30", "1.33")
FOLDER = "/tmp/panda/7"
SPEC = ContainerSpec(
    name="panda-7",
    argv=("/bin/bash", "-c", "echo $$ $(date)"),
    workdir=FOLDER,
    stdout=Path("/w/payload.stdout"),
    stderr=Path("/w/payload.stderr"),
    image="lsst/stack:w_2026_05",
    environment={"PANDAID": "7", "ODD": "$(PANDAID)", "BASH_FUNC_x%%": "() { :; }"},
    labels={"org.panda.pilot.family": "panda", "org.panda.pilot.queue": "A QUEUE/1"},
    mounts=(Mount(FOLDER, FOLDER),),
    memory_bytes=3200 * 2**20,
    cpus=1.0,
)
PILOT: dict[str, Any] = {
    "metadata": {
        "name": "grid-job-77-abcde",
        "uid": "0123abcd-1111-2222-3333-444455556666",
        "namespace": "panda",
    },
    "spec": {
        "nodeName": "gke-node-1",
        "priorityClassName": "score",
        "tolerations": [{"key": "cloud.google.com/gke-spot", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [
            {
                "name": "pilot",
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "panda", "mountPath": "/tmp/panda/"},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "panda", "hostPath": {"path": "/mnt/panda", "type": "DirectoryOrCreate"}},
        ],
    },
}


def home(**volume: object) -> Home:
    """The pilot's pod, with another kind of volume for the shared folder."""
    pod = copy.deepcopy(PILOT)
    if volume:
        pod["spec"]["volumes"][1] = {"name": "panda", **volume}
    return home_of(pod)


def manifest(spec: ContainerSpec = SPEC, where: Home | None = None) -> dict[str, Any]:
    return pod_manifest(spec, where or home(), mark="m", deadline_s=100)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "volume", [{}, {"persistentVolumeClaim": {"claimName": "shared"}}], ids=["node", "pvc"]
)
def test_valid(version: str, volume: dict[str, object]) -> None:
    kubernetes_validate.validate(manifest(where=home(**volume)), version, strict=True)


def test_it_has_no_privilege_and_belongs_to_the_pilot() -> None:
    pod = manifest()
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 100)
    assert not {"serviceAccountName", "hostNetwork", "hostPID", "nodeName"} & set(spec)
    assert container["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Pod", PILOT["metadata"]["uid"])
    assert spec["imagePullSecrets"] == PILOT["spec"]["imagePullSecrets"]
    assert spec["tolerations"] == PILOT["spec"]["tolerations"]
    assert spec["priorityClassName"] == "score"


def test_kubernetes_expands_nothing_of_it() -> None:
    (container,) = manifest()["spec"]["containers"]
    assert container["args"] == ["/bin/bash", "-c", "echo $$$$ $$(date)"]
    assert "command" not in container, "the image's entry point stays"
    # A name that the API server refuses is left out.
    assert container["env"] == [{"name": "PANDAID", "value": "7"}, {"name": "ODD", "value": "$$(PANDAID)"}]


def test_a_folder_of_the_node_binds_it_there_and_asks_for_nothing() -> None:
    pod = manifest()["spec"]
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["gke-node-1"]}]
    resources = pod["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "1000m", "memory": str(3200 * 2**20)}
    assert resources["requests"] == {"cpu": "10m", "memory": "16Mi"}
    assert pod["volumes"] == [PILOT["spec"]["volumes"][1]]
    assert pod["containers"][0]["volumeMounts"] == [
        {"name": "panda", "mountPath": FOLDER, "subPath": "7", "readOnly": False}
    ]


def test_a_claim_lets_it_go_anywhere_and_asks_for_all_it_may_use() -> None:
    pod = manifest(where=home(persistentVolumeClaim={"claimName": "shared"}))["spec"]
    assert "affinity" not in pod
    resources = pod["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/data/7", "is on no volume of pod"),
        ("/tmp/other", "which no other pod can mount"),
        ("/tmp/pandas", "no other"),
    ],
)
def test_a_folder_that_cannot_be_shared(path: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        manifest(replace(SPEC, mounts=(Mount(path, path),)))


def test_users_are_numbers() -> None:
    (container,) = manifest(replace(SPEC, user="1000:2000"))["spec"]["containers"]
    assert (container["securityContext"]["runAsUser"], container["securityContext"]["runAsGroup"]) == (
        1000,
        2000,
    )
    with pytest.raises(EngineError, match="lsst"):
        manifest(replace(SPEC, user="lsst"))


def test_names_and_labels_are_what_the_server_takes() -> None:
    about = manifest()["metadata"]
    assert about["name"] == "panda-7-0123abcd"
    assert pod_name("UPPER_case..." + "x" * 80, home()) == "upper-case-" + "x" * 39 + "-0123abcd"
    # What is no label is in the annotation, with all the rest.
    assert "org.panda.pilot.queue" not in about["labels"]
    assert "org.panda.pilot.queue=A QUEUE/1" in about["annotations"]["container/labels"]
    assert about["labels"]["container.node"] == "gke-node-1"
    assert selector(SPEC.labels) == "org.panda.pilot.family=panda"
