"""A real Rubin payload for tests: an image, a repository, jobs as Rubin makes
them.

The image is built from a recipe that is named from outside (PILOT_RUBIN_TOY):
a
folder with the package `lsst.toy` (an instrument, its raws, three
PipelineTasks),
pins, and the build script of an image that looks to a job like an
`lsst_distrib`.
"""

import base64
import binascii
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "IMAGE",
    "RubinData",
    "build_image",
    "clear_shared",
    "job_definition",
    "left_behind",
    "make_data",
    "remove_data",
    "runner_command",
]

IMAGE = "rubin-payload:test"
LABEL = "pilot-test=rubin"

_BUILD = Path(__file__).parents[2] / "scripts" / "images" / "rubin.sh"
_OUTPUT_RUN = "u/test/rubin"

# Runs in the image, as its user, with the folder as argument.
_PREPARE = f"""
set -e
. /opt/lsst/software/stack/loadLSST.bash
umask 000
cd "$1"
butler create repo
python3 -m lsst.toy.ingest repo 1 1
toy=$(python3 -c 'import lsst.toy, os; print(os.path.dirname(lsst.toy.__file__))')
pipetask qgraph --butler-config repo -i ToyCam/raw/all --output-run {_OUTPUT_RUN} \
    --pipeline "$toy/toy_drp.yaml#step1" --save-qgraph toy.qg --qgraph-datastore-records \
    -d "instrument='ToyCam'"
pipetask pre-exec-init-qbb repo toy.qg
python3 - > quanta.json <<'PYTHON'
import json
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
with PredictedQuantumGraph.open("toy.qg") as reader:
    reader.read_thin_graph()
    graph = reader.finish()
print(json.dumps({{task: str(number) for task, found in graph.quanta_by_task.items()
                  for number in found.values()}}))
PYTHON
"""

# What stands between pilot and payload on Rubin's queues with Docker: the
# `runnerCommand` of ctrl_bps_panda's configuration for the IDF, in its order.
_RUNNER = r"""
logDir=/tmp/panda/${PANDAID}; mkdir ${logDir};
logFile=${logDir}/${REALTIME_LOGFILES}; touch ${logFile};
chmod ugo+w ${logFile}; chmod ugo+w ${logDir}; ln -s ${logFile} ./;
docker run --rm @LABEL@ -v ${logDir}:${logDir} -v ${logFile}:/tmp/${REALTIME_LOGFILES} -v @DATA@:@DATA@
 --network host --privileged @ENVIRONMENT@ --env S3_ENDPOINT_URL=${S3_ENDPOINT_URL} @IMAGE@
 /bin/bash -c ". /opt/lsst/software/stack/loadLSST.bash; cd /tmp; ls -al; setup lsst_distrib; pwd;
 prmon -i 1 -f ${logDir}/prmon.txt -j ${logDir}/prmon.json --
 python3 \${CTRL_BPS_PANDA_DIR}/python/lsst/ctrl/bps/panda/edgenode/cmd_line_decoder.py
 @HEX@ @PSEUDO@ @DATA@ runQgraphFile:toy.qg runQgraphFile;" >&2;
retStat=$?;
ln -fs ${logDir}/prmon.txt memory_monitor_output.txt;
ln -fs ${logDir}/prmon.json memory_monitor_summary.json;
exit $retStat
"""


@dataclass(frozen=True, slots=True)
class RubinData:
    """A repository with one raw, and the graph that processes it.

    Attributes
    ----------
    folder
        Holds `repo/` and `toy.qg`; mounted into the payload at the same path.
    quanta
        Quantum id by task label, in the order they must run.
    """

    folder: Path
    quanta: Mapping[str, str]


def build_image(recipe: Path) -> str:
    """Build the image unless it is up to date; 1 to 2 min the first time."""
    _run([str(_BUILD), "--recipe", str(recipe)], timeout_s=900)
    return IMAGE


def make_data(folder: Path) -> RubinData:
    """A fresh repository in `folder`, made by the payload's own software; 10
    s.
    """
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    container = ["docker", "run", "--rm", "-i", "--label", LABEL, "-v", f"{folder}:{folder}", IMAGE]
    _run([*container, "bash", "-s", str(folder)], stdin=_PREPARE, timeout_s=120)
    return RubinData(folder, json.loads((folder / "quanta.json").read_text()))


def remove_data(data: RubinData) -> None:
    """Take the repository away: as root in a container, since the payload owns
    it.
    """
    parent = data.folder.parent
    container = ["docker", "run", "--rm", "--user", "0", "--label", LABEL, "-v", f"{parent}:{parent}", IMAGE]
    _run([*container, "rm", "-rf", str(data.folder)], timeout_s=60)


def runner_command(data: RubinData, task: str, *, environment: Mapping[str, str] | None = None) -> str:
    """The job's command line, before it is encoded.

    Parameters
    ----------
    task
        Label of the task whose quantum runs.
    environment
        Knobs of the toy tasks (`TOY_FAIL`...), passed to the container.
    """
    quantum = (
        "<ENV:CTRL_MPEXEC_DIR>/bin/pipetask --long-log --log-level=VERBOSE --log-file payload-log.json"
        f" --log-label REPO={data.folder}/repo run-qbb {data.folder}/repo"
        f" {data.folder}/<FILE:runQgraphFile> --qgraph-node-id {{qgraphNodeId}}"
    )
    values = {
        "@LABEL@": f"--label {LABEL}",
        "@DATA@": str(data.folder),
        "@ENVIRONMENT@": " ".join(f"--env {name}={value}" for name, value in (environment or {}).items()),
        "@IMAGE@": IMAGE,
        "@HEX@": binascii.hexlify(quantum.encode()).decode(),
        "@PSEUDO@": f"{data.quanta[task]}_{task}_1+qgraphNodeId:{data.quanta[task]}",
    }
    # Continued lines start with a blank; the plug-in's YAML folds them as
    # well.
    text = _RUNNER.replace("\n ", " ")
    for place, value in values.items():
        text = text.replace(place, value)
    return text


def job_definition(
    data: RubinData,
    task: str,
    *,
    panda_id: int,
    transformations: str,
    environment: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """A job as a task of BPS defines it, for the server's `submit`."""
    command = runner_command(data, task, environment=environment)
    return {
        "PandaID": panda_id,
        "jobName": f"u_test_rubin_{task}.{panda_id}",
        "taskID": 45012,
        "reqID": 1093,
        "transformation": f"{transformations.rstrip('/')}/bash-c-enc",
        "jobPars": base64.b64encode(command.encode()).decode(),
        "inFiles": f"000000:{data.quanta[task]}_{task}_1+qgraphNodeId:{data.quanta[task]}",
        "ddmEndPointIn": "GKE-LSST_LOGS",
        "ddmEndPointOut": "GKE-LSST_LOGS",
        "outFiles": "log.tgz",
        "logFile": "log.tgz",
        "realDatasets": "PandaJob_#{pandaid}/",
        "destinationDblock": "PandaJob_#{pandaid}/",
        "minRamCount": 2048,
        "resource_type": "SCORE",
    }


def left_behind(panda_id: int) -> list[str]:
    """Ids of containers of this job's payload, running or not."""
    mounted = f"volume=/tmp/panda/{panda_id}"
    listed = subprocess.run(
        ["docker", "ps", "-a", "-q", "--filter", f"label={LABEL}", "--filter", mounted],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return listed.stdout.split()


def clear_shared(panda_id: int) -> None:
    """Remove the job's shared folder, as the owner of the node would."""
    shutil.rmtree(Path("/tmp/panda") / str(panda_id), ignore_errors=True)


def _run(argv: list[str], *, timeout_s: float, stdin: str = "") -> None:
    done = subprocess.run(
        argv,
        input=stdin,
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
    )
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
