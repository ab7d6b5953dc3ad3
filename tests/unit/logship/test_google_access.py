"""Where the pod is, as the metadata server says it."""

from pilot_core.logship.resource import PodFacts, Resource
from pilot_core.logship.sinks.google_access import in_cluster

POD = PodFacts(project="p", namespace="panda", pod="grid-1", container="pilot")
NODE = {
    "instance/attributes/cluster-location": "us-central1-f",
    "instance/attributes/cluster-name": "panda-1",
}


def test_all_labels_of_a_container() -> None:
    assert Resource.of(in_cluster(POD, NODE.__getitem__)).labels == {
        "project_id": "p",
        "location": "us-central1-f",
        "cluster_name": "panda-1",
        "namespace_name": "panda",
        "pod_name": "grid-1",
        "container_name": "pilot",
    }


def test_a_server_that_is_not_there_is_asked_once() -> None:
    asked = []

    def nobody(name: str) -> str:
        asked.append(name)
        return ""

    assert in_cluster(POD, nobody) == POD
    assert len(asked) == 1
