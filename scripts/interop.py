"""Run the starter and the wrappers of others, unchanged, with our tarball.

    CHECKOUT=FOLDER python scripts/interop.py [starter] [gke] [rubin] [atlas]

`FOLDER` holds checkouts of lsst-dm/panda-conf and PanDAWMS/pilot-wrapper (the
latter is read from its git objects, whatever branch is checked out). Needs
root, for namespaces: each run gets a network of its own where the hosts that
those scripts have built in are this machine, a /tmp and a /cvmfs of its own,
and nothing it leaves running survives it. docs/interop.md tells what came out.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pilot_core.local.definition import make  # noqa: E402 - runs from a checkout that is not installed, too
from pilot_core.local.server import LocalPanda  # noqa: E402
from tests.fakes.cloud_logging import CloudLogging  # noqa: E402

QUEUE = "RUBIN_INTEROP"
PANDA = "https://pandaserver-doma.cern.ch"
BUCKET = "/drp-us-central1-containers"
HOSTS = (
    "pandaserver-doma.cern.ch",
    "datalake-cric.cern.ch",
    "storage.googleapis.com",
    "logging.googleapis.com",
)
SITE_ENVIRONMENT = "sw.lsst.eu/almalinux-x86_64"
#: Seconds for a whole run; for the end after SIGTERM, which is a pod's 30.
LIMIT_S, GRACE_S = 90.0, 30.0


@dataclass(frozen=True)
class Site:
    """Where a run happens; all of it is the run's own."""

    checkout: Path
    folder: Path

    def script(self, repository: str, path: str, *, ref: str = "HEAD") -> Path:
        """A file of a checkout, at the tip of a branch, as an executable copy."""
        target = self.folder / Path(path).name
        tree = str(self.checkout / repository)
        why = ""
        for branch in (f"origin/{ref}", ref):
            command = ["git", "-C", tree, "show", f"{branch}:{path}"]
            found = subprocess.run(command, capture_output=True, timeout=30, check=False)
            why = found.stderr.decode().strip()
            if found.returncode == 0:
                target.write_bytes(found.stdout)
                target.chmod(0o755)
                return target
        raise SystemExit(f"{tree}: {why}")


OPTIONS = (
    *("-s", QUEUE, "-r", QUEUE, "-q", QUEUE, "--resource-type", "SCORE", "-j", "managed", "-i", "PR"),
    *("--use-realtime-logging", "--realtime-logging-server", "google-cloud-logging"),
    *("--realtime-logname", "Panda-RubinLog", "-w", "generic", "--pilot-user", "rubin"),
    *(f"--url={PANDA}", "-d", "--harvester-submit-mode", "PULL", "--allow-same-user=False", "-t"),
    *("--piloturl", f"https://storage.googleapis.com{BUCKET}/pilot3.tar.gz"),
)


def starter(site: Site) -> list[str]:
    """Rubin's GKE starter, which fetches the wrapper and the tarball itself."""
    script = site.script("panda-conf", "pilot-scripts-for-GKE/pilot3_starter-20220816.py")
    return [os.environ.get("STARTER_PYTHON", sys.executable), str(script)]


def gke(site: Site) -> list[str]:
    """The GKE wrapper alone."""
    return ["bash", str(site.script("panda-conf", "pilot-scripts-for-GKE/runpilot3-wrapper.sh")), *OPTIONS]


def rubin(site: Site) -> list[str]:
    """The wrapper of the data facilities; needs its corner of CVMFS."""
    return ["bash", str(site.script("pilot-wrapper", "rubin-wrapper.sh", ref="rubin")), *OPTIONS]


def atlas(site: Site) -> list[str]:
    """ATLAS's wrapper without ATLAS's software; reads queuedata.json on the
    spot.
    """
    script = site.script("pilot-wrapper", "runpilot2-wrapper.sh", ref="master")
    return ["bash", str(script), "--container", "--localpy", "--mute", *OPTIONS]


CASES: Mapping[str, Callable[[Site], list[str]]] = {
    "starter": starter,
    "gke": gke,
    "rubin": rubin,
    "atlas": atlas,
}


def environment(site: Site, google_key: Path) -> dict[str, str]:
    """What Harvester and the job template set, and what a site has to set for
    us.
    """
    ca = str(site.folder / "cert.pem")
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "HOSTNAME": "interop-pod",
        "PYTHONUNBUFFERED": "1",
        # Harvester
        "computingSite": QUEUE,
        "pandaQueueName": QUEUE,
        "resourceType": "SCORE",
        "prodSourceLabel": "managed",
        "jobType": "unified",
        "HARVESTER_ID": "interop",
        "HARVESTER_WORKER_ID": "42",
        "workerID": "42",
        "PANDA_JSID": "harvester-interop",
        "submit_mode": "PULL",
        "proxySecretPath": str(site.folder / "proxy.pem"),
        "proxyContent": "$proxyContent",
        "logs_frontend_w": f"{PANDA}:25443/server/panda",
        "logs_frontend_r": f"{PANDA}:25443/cache",
        # Rubin's template
        "USE_REALTIME_LOGGING": "yes",
        "REALTIME_LOGGING_SERVER": "google-cloud-logging",
        "REALTIME_LOGNAME": "Panda-RubinLog",
        "REALTIME_LOGFILES": "payload-log.json",
        "GOOGLE_APPLICATION_CREDENTIALS": str(google_key),
        "PILOT_NOKILL": "True",
        # This machine instead of the world: its CA, and HTTP instead of gRPC.
        "CURL_CA_BUNDLE": ca,
        "REQUESTS_CA_BUNDLE": ca,
        "SSL_CERT_FILE": ca,
        "GOOGLE_CLOUD_DISABLE_GRPC": "true",
        "PILOT_ENGINE": "process",
    }


#: google.logging.type.LogSeverity by number.
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")


def plain_entries(body: bytes) -> bytes:
    """A request to Cloud Logging as today's clients write it.

    Older ones use what protobuf's JSON mapping also allows, and our fake of
    the
    service does not know: names with underscores, severities as numbers.
    """
    request = json.loads(body)
    for old, new in (("dry_run", "dryRun"), ("partial_success", "partialSuccess")):
        if old in request:
            request[new] = request.pop(old)
    for entry in request.get("entries", []):
        if isinstance(entry.get("severity"), int):
            entry["severity"] = SEVERITIES[entry["severity"] // 100]
    return json.dumps(request).encode()


class Front(BaseHTTPRequestHandler):
    """All of `HOSTS` behind one certificate; passes on to the servers of this
    run.
    """

    protocol_version = "HTTP/1.1"
    upstream: Mapping[str, str] = {}

    def _pass_on(self) -> None:
        host = (self.headers.get("Host") or "").split(":")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        path = self.path.removeprefix(BUCKET) if host == "storage.googleapis.com" else self.path
        if host == "logging.googleapis.com":
            path, body = path.split("?")[0], plain_entries(body or b"{}")
        skip = ("host", "connection", "accept-encoding", "content-length")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in skip}
        call = urllib.request.Request(
            self.upstream[host] + path, data=body, headers=headers, method=self.command
        )
        try:
            with urllib.request.urlopen(call, timeout=60) as answer:
                status, kind, data = answer.status, answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as err:
            status, kind, data = err.code, err.headers.get_content_type(), err.read()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _pass_on

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def fronts(site: Site, upstream: Mapping[str, str]) -> Iterator[None]:
    """TLS on the ports that others have built in."""
    Front.upstream = upstream
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.folder / "cert.pem", site.folder / "key.pem")
    servers = [ThreadingHTTPServer(("127.0.0.1", port), Front) for port in (443, 25443)]
    threads = []
    for server in servers:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threads.append(threading.Thread(target=server.serve_forever, args=(0.1,)))
        threads[-1].start()
    try:
        yield
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join(5)
            server.server_close()


def settle_in(site: Site) -> None:
    """The namespace's network, host names, /tmp and /cvmfs; a certificate for
    all.
    """
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    (site.folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(HOSTS)}\n")
    panda_env = site.folder / "cvmfs" / SITE_ENVIRONMENT / "panda_env/v1/conda/install/bin"
    panda_env.mkdir(parents=True)
    (site.folder / "cvmfs" / SITE_ENVIRONMENT / "lsst_distrib").mkdir()
    (panda_env / "activate").write_text("# the environment is active already\n")
    (site.folder / "tmp").mkdir()
    certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    certificate += ["-nodes", "-days", "2", "-subj", "/CN=interop", "-addext", f"subjectAltName={names}"]
    certificate += ["-keyout", str(site.folder / "key.pem"), "-out", str(site.folder / "cert.pem")]
    for command in (
        certificate,
        ["ip", "link", "set", "lo", "up"],
        ["mount", "--bind", str(site.folder / "hosts"), "/etc/hosts"],
        ["mount", "--bind", str(site.folder / "cvmfs"), "/cvmfs"],
        ["mount", "--bind", str(site.folder / "tmp"), "/tmp"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    proxy = site.folder / "proxy.pem"
    proxy.write_text((site.folder / "cert.pem").read_text() + (site.folder / "key.pem").read_text())
    proxy.chmod(0o600)


PAYLOAD = """echo '{"name": "lsst.isr", "levelname": "WARNING", "message": "few stars"}' >payload-log.json
echo up; sleep %s; echo end"""


def run_case(name: str, *, kill: bool, site: Site) -> dict[str, object]:
    """Inside the namespaces: one worker, one job; what became of them."""
    # Before /tmp is another one: the checkout may be there.
    command = CASES[name](site)
    wrapper = site.script("panda-conf", "pilot-scripts-for-GKE/runpilot3-wrapper.sh")
    settle_in(site)
    with LocalPanda(site.folder / "panda") as panda, CloudLogging(token="t") as google:
        panda.cric.add_queue(QUEUE, timefloor=0)
        cache = panda.folder / "cache"
        shutil.copy(site.folder / "pilot3.tar.gz", cache / "pilot3.tar.gz")
        shutil.copy(site.folder / "pilot3.tar.gz", cache / "pilot3-v3331_5.tgz")
        shutil.copy(wrapper, cache)
        shutil.copy(ROOT / "pilot_core/local/transformations/bash-c-enc", cache)
        trf = f"https://storage.googleapis.com{BUCKET}/bash-c-enc"
        payload = PAYLOAD % (60 if kill else 1)
        job = panda.store.submit(make(queue=QUEUE, transformation=trf, parameters=payload, encode=True))
        work = Path("/tmp/work")
        work.mkdir()
        (work / "queuedata.json").write_text(json.dumps(panda.cric.queue(QUEUE), indent=1))
        upstream = dict.fromkeys(HOSTS, panda.url) | {"logging.googleapis.com": google.url}
        upstream["storage.googleapis.com"] = f"{panda.url}/cache"
        env = environment(site, google.credentials(site.folder / "google.json"))
        output = site.folder / "output"
        with fronts(site, upstream), output.open("wb") as out:
            worker = subprocess.Popen(
                command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            began = time.monotonic()
            if kill:
                panda.store.wait_status(job, "running", LIMIT_S)
                began = time.monotonic()
                worker.send_signal(signal.SIGTERM)
            code: int | str
            try:
                code = worker.wait(GRACE_S if kill else LIMIT_S)
            except subprocess.TimeoutExpired:
                code = "still runs"
            took_s = time.monotonic() - began
            row = panda.store.job(job)
            said = output.read_text(errors="replace")
            worker_log = google.entries("Panda-WorkerLog")
            return {
                "case": name + (" SIGTERM" if kill else ""),
                "job": row.status,
                "pilot error": row.pilot_error[0],
                "exit": code,
                "seconds": round(took_s, 1),
                "pandaIDs": f"pandaids: {job}" in said,
                "payload records": len(google.entries("Panda-RubinLog")),
                "worker records": len(worker_log),
                "with PandaJobID": sum(e["jsonPayload"].get("PandaJobID") == str(job) for e in worker_log),
                "log uploaded": any(p.name.startswith("interop_42") for p in cache.iterdir()),
                "output": str(output),
            }


def outside(names: list[str]) -> int:
    """Two runs a case, each in namespaces of its own; 0 if every job finished."""
    checkout = os.environ.get("CHECKOUT")
    if not checkout or os.getuid() != 0:
        raise SystemExit(__doc__)
    folder = Path(tempfile.mkdtemp(prefix="interop-", dir="/var/tmp"))
    made = not Path("/cvmfs").exists()
    Path("/cvmfs").mkdir(exist_ok=True)
    good = True
    try:
        for name in names or CASES:
            for kill in (False, True):
                site = Site(Path(checkout).resolve(), folder / f"{name}{'-sigterm' if kill else ''}")
                site.folder.mkdir()
                subprocess.run(
                    [ROOT / "scripts/tarball.sh", site.folder / "pilot3.tar.gz"],
                    check=True,
                    capture_output=True,
                    timeout=60,
                )
                # --mount-proc: what runs inside sees its own processes only.
                space = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
                words = [name, "kill" if kill else "finish", str(site.checkout), str(site.folder)]
                subprocess.run(
                    [*space, sys.executable, __file__, "--inside", *words], timeout=300, check=False
                )
                told = site.folder / "result.json"
                result = json.loads(told.read_text()) if told.exists() else {"case": words[:2], "job": "?"}
                good = good and (kill or result["job"] == "finished")
                print("  ".join(f"{key}: {value}" for key, value in result.items()), flush=True)
    finally:
        if made:
            Path("/cvmfs").rmdir()
    return 0 if good else 1


def main(argv: list[str]) -> int:
    """Outside: every case named; inside the namespaces: one run."""
    if argv[:1] != ["--inside"]:
        return outside(argv)
    name, how, checkout, folder = argv[1:]
    site = Site(Path(checkout), Path(folder))
    result = run_case(name, kill=how == "kill", site=site)
    (site.folder / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
