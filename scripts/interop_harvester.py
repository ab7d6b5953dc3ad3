"""Give our job templates to Harvester's own code; see what a cluster would get.

    CHECKOUT=FOLDER HARVESTER_PYTHON=BIN python scripts/interop_harvester.py

`FOLDER` holds a checkout of HSF/harvester, `BIN` is a Python with what that
needs (docs/interop.md). Its `k8s_Client.create_job_from_yaml` runs unchanged
and posts to an HTTP server here in place of the API server. What arrives is
validated against Kubernetes' schemas, and compared with the rules of Harvester
as `tests/unit/deploy/test_manifests.py` writes them down.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
#: The one that `test_manifests.py` renders, so that both can be compared.
WORKER = 123456789
NAMESPACE = "panda"
LIMIT_S = 120.0

#: As much of panda_harvester.cfg as its Kubernetes client reads.
CONFIG = """
[master]
harvester_id = harvester
loggername = harvester
[db]
engine = sqlite
database_filename = {folder}/harvester.db
nConnections = 1
verbose = False
useInspect = False
reconnectTimeout = 300
cacheEntryTimeout = 10
[qconf]
refreshInterval = 10
[pandacon]
pandaCacheURL = https://panda:443
pandaCacheURL_W_path = /server/panda
pandaCacheURL_R_path = /cache
"""
LOGGER = """
[logger]
logdir = {folder}
loghost = localhost
monport-apache = 80
monurlprefix = /
method = GET
encoding = url
nemitters = 1
"""

#: The classes of jobs of a PanDA server, as far as affinities need them.
RESOURCE_TYPES = [
    {"resource_name": "SCORE", "mincore": 1, "maxcore": 1, "minrampercore": None, "maxrampercore": 2000},
    {"resource_name": "MCORE", "mincore": 2, "maxcore": None, "minrampercore": None, "maxrampercore": 2000},
]


# --- inside: Harvester's Python ---------------------------------------------


def submit(folder: Path, url: str) -> None:
    """Have Harvester submit a worker with each template; only its packages are
    needed.
    """
    import pandacommon
    import yaml

    # As Harvester's own service file has it.
    sys.path.append(pandacommon.__path__[0])
    from pandaharvester.harvestercore import core_utils
    from pandaharvester.harvestercore.work_spec import WorkSpec
    from pandaharvester.harvestermisc.k8s_utils import k8s_Client

    # What its cacher would have fetched from CRIC and from the server.
    cached = core_utils.get_global_dict()
    cric = {}
    for path in sorted((ROOT / "pilot_core/local/queues").glob("DOMA_LSST_*.json")):
        cric.update(json.loads(path.read_text()))
    cached["cache|panda_queues.json|None"] = cric
    cached["cache|resource_types.json|None"] = RESOURCE_TYPES
    cluster = {"name": "here", "cluster": {"server": url}}
    context = {"name": "here", "context": {"cluster": "here", "user": "here"}}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [context],
        "current-context": "here",
        "users": [{"name": "here", "user": {}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    for name in ("pandaJobData.out", "PoolFileCatalog_H.xml"):
        (folder / name).write_text("as dropped by the messenger")
    modes = yaml.safe_load((ROOT / "deploy/queues.yaml").read_text())["queues"]
    for path in sorted((ROOT / "deploy/harvester").rglob("*.yaml")):
        queue = path.stem
        client = k8s_Client(NAMESPACE, config_file=str(folder / "kubeconfig"), queue_name=queue)
        work = WorkSpec()
        work.workerID, work.computingSite = WORKER, queue
        work.mapType = {"PULL": "NoJob", "PUSH": "OneToOne"}[modes[queue]["mode"]]
        work.resourceType, work.nCore, work.minRamCount, work.jobType = "SCORE", 1, 1000, "managed"
        work.accessPoint = str(folder)
        work.workAttributes = {"stdOut": f"https://panda:443/cache/harvester_{WORKER}_gz.out"}
        done, _ = client.create_job_from_yaml(
            client.read_yaml_file(str(path)),
            work,
            "managed",
            "PR",
            "",
            "--pythonversion 3",
            "1",
            None,
            "/proxy/x509up_u25606",
            None,
            None,
            None,
            max_time=cric[queue]["maxtime"],
        )
        if not done:
            raise SystemExit(f"{path}: Harvester did not submit it")


# --- outside: a cluster's ear, and the verdict ------------------------------


class _Api(BaseHTTPRequestHandler):
    """Takes what is posted and says so."""

    posted: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        """Create something."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, json.loads(body)))
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def api_server() -> Iterator[str]:
    """Its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def _by_name(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        return {one["name"]: one for one in value}
    return value


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Places where two documents differ; items of lists by their names, of
    which the last one counts.
    """
    ours, theirs = _by_name(ours), _by_name(theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            yield from differences(ours.get(key), theirs.get(key), f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, f"{where}[{i}]")
    elif ours != theirs:
        yield where


def judge() -> int:
    """Say what came; 0 if all of it is as it should be."""
    import kubernetes_validate

    sys.path.insert(0, str(ROOT))
    from tests.unit.deploy import test_manifests as rules

    kinds = Counter(path.rpartition("/")[2] for path, _ in _Api.posted)
    print(", ".join(f"{count} {kind} posted" for kind, count in kinds.items()))
    jobs = [body for path, body in _Api.posted if path.endswith("/jobs")]
    bad = 0
    unlike: Counter[str] = Counter()
    modes = {queue.name: queue.mode for queue in rules.render.queues()}
    for path, job in zip(rules.TEMPLATES, jobs, strict=True):
        for version in rules.VERSIONS:
            try:
                kubernetes_validate.validate(job, version, strict=True)
            except kubernetes_validate.ValidationError as err:
                bad += 1
                print(f"{path.parent.name}/{path.stem}, Kubernetes {version}: {err}")
        push = modes[path.stem] == "PUSH"
        ours = rules.harvested(rules.load(path), worker=WORKER, queue=path.stem, push=push)
        unlike.update(differences(ours, job))
    print(f"{len(jobs)} Jobs x {len(rules.VERSIONS)} versions {', '.join(rules.VERSIONS)}: {bad} refused")
    for where, count in unlike.items():
        print(f"{count} Jobs differ from the rules of test_manifests.py in {where}")
    return 1 if bad or len(jobs) != len(rules.TEMPLATES) else 0


def main(argv: list[str]) -> int:
    """Outside: server and verdict; inside: Harvester."""
    if argv[:1] == ["--inside"]:
        submit(Path(argv[1]), argv[2])
        return 0
    checkout, python = os.environ.get("CHECKOUT"), os.environ.get("HARVESTER_PYTHON")
    if not checkout or not python:
        raise SystemExit(__doc__)
    harvester = str((Path(checkout) / "harvester").resolve())
    with tempfile.TemporaryDirectory(prefix="interop-") as folder, api_server() as url:
        place = Path(folder, "etc/panda")
        place.mkdir(parents=True)
        (place / "panda_harvester.cfg").write_text(CONFIG.format(folder=folder))
        (place / "panda_common.cfg").write_text(LOGGER.format(folder=folder))
        command = [python, __file__, "--inside", folder, url]
        # The cluster's address comes from the kubeconfig alone.
        environment = {
            "PATH": os.environ["PATH"],
            "PANDA_HOME": folder,
            "PYTHONPATH": harvester,
            "HOME": folder,
        }
        subprocess.run(command, env=environment, check=True, timeout=LIMIT_S)
    return judge()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
