"""PURE. Who writes, as Cloud Logging wants it: the monitored resource."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PodFacts", "Resource"]


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of the place the pilot runs at; empty for unknown.

    Attributes
    ----------
    project, location, cluster
        Of the cluster; filled from Google's metadata server where empty.
    namespace, pod, container
        From the downward API.
    job, task
        Outside Kubernetes: the queue, and the worker within it.
    """

    project: str = ""
    location: str = ""
    cluster: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    job: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """Type and labels of a monitored resource."""

    type: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, facts: PodFacts) -> "Resource":
        """In a pod `k8s_container`, at a batch site `generic_task`, else
        `global`.

        Labels as in Google's list of monitored resource types; a label that
        is not in the list makes the service refuse the request.
        """
        if facts.pod and facts.namespace:
            labels = {
                "project_id": facts.project,
                "location": facts.location,
                "cluster_name": facts.cluster,
                "namespace_name": facts.namespace,
                "pod_name": facts.pod,
                "container_name": facts.container,
            }
            return cls("k8s_container", labels)
        if facts.location and facts.job:
            labels = {
                "project_id": facts.project,
                "location": facts.location,
                "namespace": facts.namespace,
                "job": facts.job,
                "task_id": facts.task,
            }
            return cls("generic_task", labels)
        return cls("global", {"project_id": facts.project})
