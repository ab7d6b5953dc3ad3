"""PURE: a job definition as a real server sends it, from the few things that
matter.

The keys, their order and the three spellings of "unset" (`"NULL"`, `""`, null)
are those of a job that JEDI made from a task of `ctrl_bps_panda` on
panda-server 1.0.3. Only resource_type is another, the one Harvester's workers
for one core ask for.
"""

import base64
import uuid
from collections.abc import Mapping

__all__ = ["KEYS", "QUEUE_KEY", "complete", "make"]

#: Key of the queue in a definition that is submitted; no pilot is sent it.
QUEUE_KEY = "computingSite"

TEMPLATE: Mapping[str, object] = {
    "PandaID": 0,
    "prodSourceLabel": "managed",
    "swRelease": "",
    "homepackage": "NULL",
    "transformation": "",
    "jobName": "",
    "jobDefinitionID": 0,
    "cloud": "LSST",
    "inFiles": "",
    "dispatchDblock": "",
    "dispatchDBlockToken": "",
    "dispatchDBlockTokenForOut": "NULL",
    "outFiles": "log.tgz",
    "destinationDblock": "PandaJob_#{pandaid}/",
    "destinationDBlockToken": "local",
    "prodDBlocks": "",
    "prodDBlockToken": "",
    "realDatasets": "PandaJob_#{pandaid}/",
    "realDatasetsIn": "",
    "fileDestinationSE": "local",
    "logFile": "log.tgz",
    "logGUID": "",
    "jobPars": "",
    "attemptNr": 1,
    "GUID": "",
    "checksum": "",
    "fsize": "",
    "scopeIn": "",
    "scopeOut": "",
    "scopeLog": "PandaJob_#{pandaid}/",
    "ddmEndPointIn": "",
    "ddmEndPointOut": "",
    "destinationSE": "NULL",
    "prodUserID": "local user",
    "maxCpuCount": 0,
    "minRamCount": 1800,
    "maxDiskCount": 300,
    "cmtConfig": "",
    "processingType": "NULL",
    "transferType": "NULL",
    "sourceSite": "NULL",
    "currentPriority": 900,
    "taskID": 1,
    "coreCount": 1,
    "jobsetID": 1,
    "reqID": 1,
    "nucleus": "NULL",
    "maxWalltime": 0,
    "resource_type": "SCORE",
    "ioIntensity": None,
    "ioIntensityUnit": None,
    "nSent": 0,
}

#: Sent only with jobs that have them.
_OPTIONAL = (
    "altStageOut",
    "container_name",
    "debug",
    "debug_command",
    "encJobParams",
    "eventService",
    "loopingCheck",
    "pilotSecrets",
    "secrets",
)

#: Every key that means something to server or pilot.
KEYS = frozenset({*TEMPLATE, *_OPTIONAL, QUEUE_KEY})


def make(
    *,
    queue: str = "LOCAL",
    transformation: str = "",
    parameters: str = "",
    image: str = "",
    name: str = "",
    label: str = "managed",
    task_id: int = 1,
    request_id: int = 1,
    encode: bool = False,
    **more: object,
) -> dict[str, object]:
    """A definition ready for `Store.submit`.

    Parameters
    ----------
    transformation
        URL of the payload script; may be empty for an image job.
    parameters
        jobPars. With `encode` they are sent as base64, as the tasks of
        ctrl_bps_panda ask for (`encJobParams`); `bash-c-enc` decodes them.
    image
        Sent as `container_name`.
    **more
        Any further key of the server's (`maxWalltime=60`,
        `outFiles="a,log.tgz"`).
    """
    if encode:
        parameters = base64.b64encode(parameters.encode()).decode()
    definition: dict[str, object] = {
        QUEUE_KEY: queue,
        "transformation": transformation,
        "jobPars": parameters,
        "prodSourceLabel": label,
        "taskID": task_id,
        "reqID": request_id,
        **({"jobName": name} if name else {}),
        **({"container_name": image} if image else {}),
        **more,
    }
    return complete(definition)


def complete(definition: Mapping[str, object]) -> dict[str, object]:
    """Fill in what a definition leaves out; keys it has are kept as they are."""
    full = {**TEMPLATE, **definition}
    if "realDatasets" not in definition:
        # They run beside the files, one for each.
        files = [name for name in str(full["outFiles"] or "").split(",") if name]
        full["realDatasets"] = ",".join([str(TEMPLATE["realDatasets"])] * len(files))
    full["logGUID"] = full["logGUID"] or str(uuid.uuid4())
    full.setdefault(QUEUE_KEY, "LOCAL")
    return full
