"""A PanDA queue and the storage behind it, as CRIC describes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Protocol", "Queue", "Storage"]


@dataclass(frozen=True, slots=True)
class Queue:
    """The parts of CRIC's queue data that a pilot obeys.

    Attributes
    ----------
    name
        PanDA queue (`nickname`).
    resource
        `panda_resource`: siteName in requests and updates.
    state, status
        `ACTIVE`...; `online`, `offline`, `test`, `brokeroff`.
    timefloor_s
        A pilot younger than this asks for another job; 0 means one job.
    maxtime_s
        Longest life of a pilot; 0 for no limit.
    maxrss_mb, maxwdir_mb
        Memory and work directory a job may use, MB; 0 for no limit.
    copytools
        By activity (`write_lan`, `pl`...), in order of preference.
    setups
        By copytool: a script of the site's for bash to read before the tool's
        programs run.
    storages
        ddmendpoint names by activity.
    params, catchall
        As CRIC has them.
    """

    name: str
    resource: str
    state: str = "ACTIVE"
    status: str = "online"
    type: str = "production"
    resource_type: str = ""
    timefloor_s: int = 0
    maxtime_s: int = 0
    maxrss_mb: int = 0
    maxwdir_mb: int = 0
    corecount: int = 1
    container_type: str = ""
    container_options: str = ""
    catchall: str = ""
    copytools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    setups: Mapping[str, str] = field(default_factory=dict)
    storages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to reach a storage: `endpoint` + `path` is the prefix of every
    file.
    """

    endpoint: str
    path: str
    flavour: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """A ddmendpoint (RSE).

    Attributes
    ----------
    name
        ddmendpoint name.
    type
        `GS`, `OS_LOGS`, `DATADISK`...
    token
        Its space token (`ATLASDATADISK`); empty for none.
    protocols
        By activity, in CRIC's order; "" holds those for every activity.
    """

    name: str
    type: str = ""
    token: str = ""
    deterministic: bool = False
    protocols: Mapping[str, tuple[Protocol, ...]] = field(default_factory=dict)
