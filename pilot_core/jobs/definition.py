"""PURE: a raw job definition, from whatever dialect or file, to a `Job`.

Facts: panda-server 1.0.3 and 0.8.1 (their recorded definitions), and pilot3's
reading of them (`info/jobdata.py`).
"""

import json
import logging
import re
from collections.abc import Mapping

from pilot_core.base.redact import secret_values
from pilot_core.errors import BadJob
from pilot_core.jobs.fields import flag, items, number, pilot_secrets, plain_folder, plain_name, text
from pilot_core.model.codes import ErrorCode
from pilot_core.model.job import InputFile, Job, OutputFile

__all__ = ["read_definition"]

log = logging.getLogger(__name__)

# Each line of the pilot's log, and each record of the payload's, is searched
# for every one of them: so many cost some ms.
_MOST_SECRETS = 10_000

#: Never in `Job.definition`, which is written to files and logs.
_SECRET = ("secrets", "pilotSecrets")

# ` --containerImage X` and ` --containerImage=X`. A value in quotes, or one
# that ends in a quote because the whole stands inside a quoted command, is
# part of the payload's own command line and stays.
_IMAGE = re.compile(r"(?:^| )--containerImage[ =]([^\s'\"]+)(?=\s|$)")

# pilot3 lets a job change its queue's and storage's settings by these options.
# A definition is written by a user and a queue by its site: what may be used
# at a site is not the user's to say, so they are left alone, and where they
# are.
_OVERWRITE = re.compile(r"--overwrite(?:QueueData|Queuedata|StorageData)\b")


def read_definition(raw: Mapping[str, object]) -> Job:
    """Understand a definition.

    Parameters
    ----------
    raw
        The server's flat map, or Harvester's copy of it; values as they came.

    Raises
    ------
    BadJob
        A field is missing or malformed. It names the PandaID and the attempt
        where the definition at least says so much.
    """
    panda_id: int | None = None
    attempt: int | None = None
    try:
        panda_id = _required(raw, "PandaID", at_least=1)
        attempt = _required(raw, "attemptNr", at_least=0)
        return _job(raw, panda_id, attempt)
    except BadJob as err:
        err.panda_id, err.attempt = panda_id, attempt
        raise


def _required(raw: Mapping[str, object], field: str, *, at_least: int) -> int:
    value = number(raw, field)
    if value is None or value < at_least:
        raise BadJob(field, raw.get(field), "missing" if value is None else f"less than {at_least}")
    return value


def _job(raw: Mapping[str, object], panda_id: int, attempt: int) -> Job:
    image, parameters = _take_image(text(raw, "jobPars", exact=True))
    image = text(raw, "container_name") or image
    transformation = text(raw, "transformation")
    if not transformation and not image:
        raise BadJob("transformation", raw.get("transformation"), "missing, and no container image either")
    if flag(raw, "eventService", default=False):
        # Run as an ordinary job it would be finished without an event done.
        why = "this pilot runs no event service"
        raise BadJob("eventService", raw["eventService"], why, code=ErrorCode.NOTIMPLEMENTED)
    if _OVERWRITE.search(parameters):
        log.warning("job %d asks to overwrite its queue's settings, which is ignored", panda_id)
    outputs, log_file = _outputs(raw)
    return Job(
        panda_id=panda_id,
        attempt=attempt,
        transformation=transformation,
        parameters=parameters,
        image=image,
        name=text(raw, "jobName"),
        task_id=number(raw, "taskID"),
        request_id=number(raw, "reqID"),
        jobset_id=number(raw, "jobsetID"),
        label=text(raw, "prodSourceLabel"),
        inputs=_inputs(raw),
        outputs=outputs,
        log=log_file,
        cores=max(1, number(raw, "coreCount") or 1),
        max_walltime_s=_amount(raw, "maxWalltime"),
        min_ram_mb=_amount(raw, "minRamCount"),
        max_disk_mb=_amount(raw, "maxDiskCount"),
        resource_type=text(raw, "resource_type"),
        looping_check=flag(raw, "loopingCheck", default=True),
        debug=flag(raw, "debug", default=False),
        debug_command=text(raw, "debug_command"),
        secrets=_secrets(raw),
        pilot_secrets=pilot_secrets(raw),
        definition={str(key): value for key, value in raw.items() if key not in _SECRET},
    )


def _amount(raw: Mapping[str, object], field: str) -> int:
    """A limit: below zero is one of the ways to say that there is none."""
    return max(0, number(raw, field) or 0)


def _take_image(parameters: str) -> tuple[str, str]:
    """Container image named among the parameters, and the parameters without
    it.
    """
    match = _IMAGE.search(parameters)
    if match is None:
        return "", parameters
    rest = parameters[match.end() :]
    if match.start() == 0:
        rest = rest.removeprefix(" ")
    return match[1], parameters[: match.start()] + rest


def _secrets(raw: Mapping[str, object]) -> str:
    value = raw.get("secrets")
    try:
        found = json.dumps(value, default=str) if isinstance(value, Mapping) else text(raw, "secrets")
    except BadJob:
        raise BadJob("secrets", "***", "neither text nor a JSON object") from None
    if sum(max(1, len(secret.splitlines())) for secret in secret_values(found)) > _MOST_SECRETS:
        raise BadJob("secrets", "***", f"more than {_MOST_SECRETS} lines and values")
    return found


def _parallel(raw: Mapping[str, object], field: str, names: list[str], what: str) -> list[str]:
    """A list that runs beside the file names, item by item; all "" where
    unset.

    Raises
    ------
    BadJob
        Of another length: a checksum would be held against the wrong file.
    """
    found = items(raw, field)
    if not found:
        return [""] * len(names)
    if len(found) != len(names):
        raise BadJob(field, raw.get(field), f"{len(found)} items beside {len(names)} {what}")
    return found


# What the pilot writes in the folder that inputs are fetched to.
_OURS = frozenset({"pilotlog.txt", "payload.stdout", "payload.stderr", "panda_secrets.json"})

_IN_LISTS = ("GUID", "fsize", "checksum", "scopeIn", "ddmEndPointIn", "realDatasetsIn", "prodDBlockToken")


def _inputs(raw: Mapping[str, object]) -> tuple[InputFile, ...]:
    """Files to fetch. Pseudo inputs, which only steer the workflow, are none.

    A pseudo input is in no catalogue (no guid, no size, no checksum), or has
    no storage: no endpoint, and no guid or the token `local`. iDDS names its
    dataset `pseudo_dataset`; a pseudo name of ctrl_bps_panda carries the
    quantum, as in `000000:isr_1+qgraphNodeId:...`.
    """
    names = items(raw, "inFiles")
    columns = (_parallel(raw, field, names, "inFiles") for field in _IN_LISTS)
    found: dict[str, InputFile] = {}
    for name, guid, size, checksum, scope, endpoint, dataset, token in zip(names, *columns, strict=True):
        unknown = not guid and not checksum and size in ("", "0")
        unstored = not endpoint and (token == "local" or not guid)
        if not name or name in found or unknown or unstored or dataset == "pseudo_dataset":
            continue
        if name in _OURS:
            raise BadJob("inFiles", name, "a file of the pilot's")
        found[name] = InputFile(
            lfn=plain_name("inFiles", name),
            guid=guid,
            scope=plain_folder("scopeIn", scope),
            dataset=plain_folder("realDatasetsIn", dataset),
            endpoint=endpoint and plain_name("ddmEndPointIn", endpoint),
            size=_amount({"fsize": size}, "fsize"),
            checksum=checksum,
        )
    return tuple(found.values())


def _outputs(raw: Mapping[str, object]) -> tuple[tuple[OutputFile, ...], OutputFile | None]:
    """Files to store, and the log, which the server lists among them.

    `scopeOut` runs beside the files without the log; the log has its own
    `scopeLog`.
    """
    names = items(raw, "outFiles")
    log_name = text(raw, "logFile").strip()
    endpoints = _parallel(raw, "ddmEndPointOut", names, "outFiles")
    datasets = _parallel(raw, "realDatasets", names, "outFiles")
    scopes = iter(_parallel(raw, "scopeOut", [n for n in names if n != log_name], "outFiles without the log"))
    found: dict[str, OutputFile] = {}
    log_file = OutputFile(plain_name("logFile", log_name)) if log_name else None
    for name, endpoint, dataset in zip(names, endpoints, datasets, strict=True):
        scope = text(raw, "scopeLog") if name == log_name else next(scopes)
        guid = text(raw, "logGUID") if name == log_name else ""
        if not name or name in found:
            continue
        found[name] = OutputFile(
            plain_name("outFiles", name),
            guid,
            plain_folder("scopeOut", scope),
            plain_folder("realDatasets", dataset),
            endpoint and plain_name("ddmEndPointOut", endpoint),
        )
    if log_name in found:
        log_file = found.pop(log_name)
    return tuple(found.values()), log_file
