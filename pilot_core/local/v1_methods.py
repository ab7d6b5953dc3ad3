"""The methods of the v1 dialect: who may call them, parameters, types,
defaults.

Source: panda-server 1.0.3. A value equal to a parameter's default is accepted
whatever its type; everything else must be of the declared one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["METHODS", "PREFIX", "REQUIRED", "TYPES", "Method", "Param"]

PREFIX = "/api/v1/"
REQUIRED: Any = object()

Kind = Literal["int", "str", "bool", "float", "number", "list", "any"]
TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "float": (float,),
    "number": (int, float),
    "list": (list,),
    "any": (object,),
}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: type, and the default that is always accepted."""

    kind: Kind
    default: Any = None


@dataclass(frozen=True, slots=True)
class Method:
    """A method: what it is called here, how it is asked, who may ask."""

    name: str
    params: Mapping[str, Param]
    http: str = "POST"
    secure: bool = True
    production: bool = False


def _params(kind: Kind, names: str, default: Any = None) -> dict[str, Param]:
    return {name: Param(kind, default) for name in names.split()}


_UPDATE_FIELDS: dict[str, Param] = {
    **_params(
        "str",
        "job_output_report node cpu_consumption_unit scheduler_id pilot_id site_name pilot_log meta_data"
        " exe_error_diag pilot_error_diag pilot_timing start_time end_time batch_id job_metrics stdout"
        " job_sub_status corrupted_files cpu_architecture_level grid source_site destination_site",
    ),
    **_params(
        "int",
        "trans_exit_code pilot_error_code exe_error_code cpu_consumption_time n_events n_input_files"
        " attempt_nr core_count mean_core_count",
    ),
    **_params(
        "number",
        "cpu_conversion_factor max_rss max_vmem max_swap max_pss avg_rss avg_vmem avg_swap avg_pss"
        " tot_rchar tot_wchar tot_rbytes tot_wbytes rate_rchar rate_wchar rate_rbytes rate_wbytes",
    ),
    "timeout": Param("int", 60),
}

METHODS: Mapping[str, Method] = {
    "pilot/acquire_jobs": Method(
        "acquire_jobs",
        {
            "site_name": Param("str", REQUIRED),
            "timeout": Param("int", 60),
            **_params("int", "memory disk_space task_id worker_id"),
            "n_jobs": Param("int", 1),
            **_params(
                "str",
                "prod_source_label node computing_element prod_user_id get_proxy_key resource_type"
                " harvester_id scheduler_id job_type",
            ),
            **_params("bool", "background via_topic"),
            "remaining_time": Param("any"),
        },
    ),
    "pilot/update_job": Method(
        "update_job",
        {"job_id": Param("int", REQUIRED), "job_status": Param("str", REQUIRED), **_UPDATE_FIELDS},
        production=True,
    ),
    "pilot/update_jobs_bulk": Method(
        "update_jobs_bulk",
        {"job_list": Param("list", REQUIRED), "harvester_id": Param("str")},
        production=True,
    ),
    "pilot/get_job_status": Method(
        "get_job_status", {"job_ids": Param("list", REQUIRED), "timeout": Param("int", 60)}, http="GET"
    ),
    "pilot/update_worker_status": Method(
        "update_worker_status",
        {
            **_params("any", "worker_id harvester_id status", REQUIRED),
            "timeout": Param("any", 60),
            "node_id": Param("any"),
        },
        production=True,
    ),
    "pilot/update_worker_node": Method(
        "update_worker_node",
        {
            **_params("str", "site host_name cpu_model", REQUIRED),
            **_params("str", "panda_queue cpu_architecture cpu_architecture_level"),
            **_params(
                "int",
                "n_logical_cpus n_sockets cores_per_socket threads_per_core total_memory total_local_disk",
            ),
            "clock_speed": Param("float"),
            "timeout": Param("int", 60),
        },
        production=True,
    ),
    "job/get_status": Method("get_status", {"job_ids": Param("list", REQUIRED)}, http="GET"),
    "job/kill": Method("kill", {"job_ids": Param("list", REQUIRED), "code": Param("int")}),
    "job/set_command": Method(
        "set_command",
        {"job_id": Param("int", REQUIRED), "command": Param("str", REQUIRED)},
        production=True,
    ),
    "job/set_debug_mode": Method(
        "set_debug_mode", {"job_id": Param("int", REQUIRED), "mode": Param("bool", REQUIRED)}, production=True
    ),
    "creds/get_access_token": Method(
        "get_access_token", {"client_name": Param("str", REQUIRED), "token_key": Param("str")}, http="GET"
    ),
    "creds/get_proxy": Method("get_proxy", _params("str", "role dn"), http="GET"),
    "file_server/upload_cache_file": Method("upload", {"file": Param("any")}),
    "metaconfig/get_resource_types": Method("get_resource_types", {}, http="GET", secure=False),
    "system/is_alive": Method("is_alive", {}, http="GET", secure=False),
}
