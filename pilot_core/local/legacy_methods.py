"""The methods of the legacy dialect, and the v1 names of their parameters.

Source: panda-server 0.8.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METHODS", "PREFIX", "Method"]

PREFIX = "/server/panda/"


@dataclass(frozen=True, slots=True)
class Method:
    """A method; its parameters with their v1 names (empty: accepted and
    ignored).
    """

    name: str
    params: Mapping[str, str]
    required: tuple[str, ...] = ()
    production: bool = False


def _ignored(names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), "")


_UPDATE: Mapping[str, str] = {
    "jobId": "job_id",
    "state": "job_status",
    "transExitCode": "trans_exit_code",
    "pilotErrorCode": "pilot_error_code",
    "pilotErrorDiag": "pilot_error_diag",
    "timeout": "timeout",
    "xml": "job_output_report",
    "node": "node",
    "cpuConsumptionTime": "cpu_consumption_time",
    "cpuConsumptionUnit": "cpu_consumption_unit",
    "schedulerID": "scheduler_id",
    "pilotID": "pilot_id",
    "siteName": "site_name",
    "pilotLog": "pilot_log",
    "metaData": "meta_data",
    "cpuConversionFactor": "cpu_conversion_factor",
    "exeErrorCode": "exe_error_code",
    "exeErrorDiag": "exe_error_diag",
    "pilotTiming": "pilot_timing",
    "startTime": "start_time",
    "endTime": "end_time",
    "nEvents": "n_events",
    "nInputFiles": "n_input_files",
    "batchID": "batch_id",
    "attemptNr": "attempt_nr",
    "jobMetrics": "job_metrics",
    "stdout": "stdout",
    "jobSubStatus": "job_sub_status",
    "coreCount": "core_count",
    **{
        f"{kind}{name.upper()}": f"{kind}_{name}"
        for kind, names in (
            ("max", "rss vmem swap pss"),
            ("avg", "rss vmem swap pss"),
            ("tot", "rchar wchar rbytes wbytes"),
            ("rate", "rchar wchar rbytes wbytes"),
        )
        for name in names.split()
    },
    "corruptedFiles": "corrupted_files",
    "meanCoreCount": "mean_core_count",
    "cpu_architecture_level": "cpu_architecture_level",
    "grid": "grid",
    "source_site": "source_site",
    "destination_site": "destination_site",
    **_ignored("token timestamp workdir remainingSpace messageLevel computingElement"),
}

_ACQUIRE: Mapping[str, str] = {
    "siteName": "site_name",
    "timeout": "timeout",
    "mem": "memory",
    "diskSpace": "disk_space",
    "prodSourceLabel": "prod_source_label",
    "node": "node",
    "computingElement": "computing_element",
    "prodUserID": "prod_user_id",
    "getProxyKey": "get_proxy_key",
    "taskID": "task_id",
    "nJobs": "n_jobs",
    "background": "background",
    "resourceType": "resource_type",
    "harvester_id": "harvester_id",
    "worker_id": "worker_id",
    "schedulerID": "scheduler_id",
    "jobType": "job_type",
    "viaTopic": "via_topic",
    "remaining_time": "remaining_time",
    **_ignored("token cpu AtlasRelease countryGroup workingGroup allowOtherCountry"),
}

_WORKER: Mapping[str, str] = {
    "site": "site",
    "workerID": "worker_id",
    "harvesterID": "harvester_id",
    "status": "status",
    "timeout": "timeout",
    "node_id": "node_id",
}

METHODS: Mapping[str, Method] = {
    "getJob": Method("acquire_jobs", _ACQUIRE, ("siteName",)),
    "updateJob": Method("update_job", _UPDATE, ("jobId", "state"), production=True),
    "updateJobsInBulk": Method(
        "update_jobs_bulk",
        {"jobList": "job_list", "harvester_id": "harvester_id"},
        ("jobList",),
        production=True,
    ),
    "getStatus": Method("get_job_status", {"ids": "job_ids", "timeout": "timeout"}, ("ids",)),
    "checkJobStatus": Method("get_status", {"ids": "job_ids", "timeout": "timeout"}, ("ids",)),
    "updateWorkerPilotStatus": Method(
        "update_worker_status", _WORKER, ("site", "workerID", "harvesterID", "status")
    ),
    "get_access_token": Method(
        "get_access_token", {"client_name": "client_name", "token_key": "token_key"}, ("client_name",)
    ),
    "getProxy": Method("get_proxy", {"role": "role", "dn": "dn"}),
    "getResourceTypes": Method("get_resource_types", {"timeout": "timeout"}),
    "putFile": Method("upload", {"file": "file"}),
    "isAlive": Method("is_alive", {}),
}
