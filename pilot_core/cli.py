"""Options, environment and INI files into `Config`: the only reader of
`os.environ`.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilot_core import __version__
from pilot_core.config import (
    Config,
    HarvesterConfig,
    HeartbeatConfig,
    InfoConfig,
    JobsConfig,
    KubernetesConfig,
    MonitorConfig,
    PayloadConfig,
    RealtimeConfig,
    ServerConfig,
    StorageConfig,
    WorkerConfig,
    WrapupConfig,
)
from pilot_core.errors import SetupError
from pilot_core.inifiles import read_ini
from pilot_core.model.codes import ErrorCode
from pilot_core.resolve import BadSetting, Value, resolve
from pilot_core.settings import IGNORED, SETTINGS

__all__ = ["Invocation", "parse", "show"]

DEFAULT_SERVER = "https://pandaserver-doma.cern.ch"
DEFAULT_PORT = 25443
GRID_CERTIFICATES = Path("/etc/grid-security/certificates")

# Batch systems by the variable that gives their job's id, in pilot3's order
# and with the names that the server's statistics know.
BATCH_SYSTEMS = (
    ("QSUB_REQNAME", "BQS"),
    ("BQSCLUSTER", "BQS"),
    ("PBS_JOBID", "Torque"),
    ("LSB_JOBID", "LSF"),
    ("JOB_ID", "Grid Engine"),
    ("clusterid", "Condor"),
    ("SLURM_JOB_ID", "SLURM"),
    ("K8S_JOB_ID", "Kubernetes"),
)

# What the end of a setting's name says.
UNITS = {"s": "s", "mb": "MB", "bytes": "bytes"}

_SECTIONS: Mapping[str, type] = {
    "worker": WorkerConfig,
    "server": ServerConfig,
    "info": InfoConfig,
    "jobs": JobsConfig,
    "harvester": HarvesterConfig,
    "heartbeat": HeartbeatConfig,
    "payload": PayloadConfig,
    "kubernetes": KubernetesConfig,
    "realtime": RealtimeConfig,
    "monitor": MonitorConfig,
    "storage": StorageConfig,
    "wrapup": WrapupConfig,
}


class Invocation:
    """What was asked of the program: settings, their sources, and remarks for
    the log.
    """

    def __init__(
        self, config: Config, values: Mapping[str, Value], remarks: Sequence[str], *, show: bool
    ) -> None:
        self.config = config
        self.values = values
        self.remarks = remarks
        self.show = show


def parse(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Invocation:
    """Read options, environment and INI files.

    Raises
    ------
    SetupError
        With one line that names the option, variable or key and its value.
    SystemExit
        For `--help`, `--version` and unknown options (argparse's own words).
    """
    environment = dict(os.environ) if environment is None else environment
    options = vars(_parser().parse_args(list(argv)))
    show = options.pop("show_config", False)
    remarks = [why for key, why in options.items() if key.startswith("ignored_") and why]
    options = {k: v for k, v in options.items() if not k.startswith("ignored_")}
    try:
        ini = read_ini(environment)
        values = resolve(SETTINGS, options, environment, ini.texts)
        values = {field: replace(value, source=ini.source(value.source)) for field, value in values.items()}
        config = _build(values, environment)
    except BadSetting as err:
        raise SetupError(str(err), ErrorCode.GENERALERROR) from err
    remarks += ini.remarks(setting.ini for setting in SETTINGS)
    return Invocation(config, values, remarks, show=bool(show))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pilot.py",
        description="PanDA pilot: takes jobs from a PanDA server and sees each one through.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--show-config", action="store_true", help="print each setting with unit and source, and end"
    )
    for setting in SETTINGS:
        if not setting.flags:
            continue
        text = setting.meaning + (f" [{setting.unit}]" if setting.unit else "")
        if setting.const is not None:
            parser.add_argument(
                *setting.flags, dest=setting.dest, action="store_const", const=setting.const, help=text
            )
        else:
            parser.add_argument(*setting.flags, dest=setting.dest, metavar="X", help=text)
    group = parser.add_argument_group("accepted for pilot3's sake, without effect")
    for ignored in IGNORED:
        dest = "ignored_" + ignored.flags[-1].lstrip("-")
        remark = f"option {ignored.flags[-1]} has no effect: {ignored.why}" if ignored.why else ""
        group.add_argument(
            *ignored.flags,
            dest=dest,
            action=_Remark,
            nargs=None if ignored.takes_value else 0,
            const=remark,
            metavar="X",
            help=ignored.why or argparse.SUPPRESS,
        )
    return parser


class _Remark(argparse.Action):
    """Remember what to say about an option that has no effect."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, _option: Any = None) -> None:
        setattr(namespace, self.dest, "" if values == "generic" else self.const)


def _build(values: dict[str, Value], environment: Mapping[str, str]) -> Config:
    """The settings; what is made out of others is put into `values`, too, with
    the source of the first of those that was given.
    """

    def made(field: str, value: Any, *origins: str) -> Any:
        source = next((values[name].source for name in origins if name in values), "")
        if source:
            values[field] = Value(value, source)
        return value

    def cli(name: str) -> Any:
        value = values.get(f"cli.{name}")
        return value.value if value is not None else None

    def part(section: str, **more: Any) -> Any:
        kind = _SECTIONS[section]
        names = {f.name for f in fields(kind)}
        given = {k.split(".")[1]: v.value for k, v in values.items() if k.startswith(section + ".")}
        return kind(**{**more, **{k: v for k, v in given.items() if k in names}})

    if "worker.queue" not in values or not values["worker.queue"].value:
        raise BadSetting("no queue given: -q QUEUE is needed")
    home = _home(cli("workdir"))
    for field in ("worker.home", "info.folder", "server.spare_folder"):
        made(field, home, "cli.workdir")
    for key, name in BATCH_SYSTEMS:
        if environment.get(key):
            values["worker.batch_type"] = Value(name, key)
            values["worker.batch_id"] = Value(environment[key], key)
            break
    hostname = values["worker.hostname"].value if "worker.hostname" in values else socket.gethostname()
    if slot := environment.get("_CONDOR_SLOT"):
        hostname = f"{slot}@{hostname}"
    worker = replace(
        part("worker", home=home, queue=""),
        hostname=hostname,
        id_file=_id_file(environment),
    )
    url = made("server.url", _server_url(cli("url") or DEFAULT_SERVER, cli("port")), "cli.url", "cli.port")
    proxy, ca_file = _certificates(cli("proxy"), cli("cacert"))
    made("server.proxy_file", proxy, "cli.cacert" if proxy == cli("cacert") else "cli.proxy")
    for field in ("server.ca_file", "info.ca_file", "payload.ca_file") if ca_file else ():
        made(field, ca_file, "cli.cacert")
    server = part("server", url=url, proxy_file=proxy, ca_file=ca_file, spare_folder=home)
    server = replace(
        server,
        ca_path=server.ca_path or (GRID_CERTIFICATES if GRID_CERTIFICATES.is_dir() else None),
        token_file=made(
            "server.token_file", _token(cli("token"), cli("token_dir"), proxy, environment), "cli.token"
        ),
        token_key_file=made(
            "server.token_key_file",
            _token(cli("token_key"), cli("token_dir"), proxy, environment),
            "cli.token_key",
        ),
    )
    made("info.ca_path", server.ca_path, "server.ca_path")
    made("realtime.enabled", bool(cli("use_realtime")), "cli.use_realtime")
    harvester = part("harvester")
    server_info = made("info.server_url", url if server.talk else "", "server.talk", "cli.url", "cli.port")
    jobs = _jobs(part("jobs"), cli("datadir"), harvester.folder, home)
    made("jobs.push_file", jobs.push_file, "cli.datadir", "harvester.folder", "jobs.submit_mode")
    return Config(
        worker=worker,
        server=server,
        info=part("info", folder=home, server_url=server_info, ca_file=ca_file, ca_path=server.ca_path),
        harvester=harvester,
        jobs=jobs,
        heartbeat=part("heartbeat"),
        payload=replace(part("payload"), ca_file=ca_file, environment=dict(environment)),
        kubernetes=part("kubernetes"),
        realtime=part("realtime"),
        monitor=part("monitor"),
        storage=part("storage"),
        wrapup=part("wrapup"),
    )


def _id_file(environment: Mapping[str, str]) -> Path | None:
    """pandaIDs.out beside an unpacked pilot, where the wrapper looks for it;
    nowhere else.

    Absolute, because wrappers name the folder as `pilot3/` and -a moves the
    pilot elsewhere; none where it cannot be written, such as on CVMFS.
    """
    named = environment.get("PANDA_PILOT_SOURCE", "")
    folder = Path(named or sys.path[0] or ".").absolute()
    if not named and not (folder / "PILOTVERSION").is_file():
        return None
    return folder / "pandaIDs.out" if os.access(folder, os.W_OK) else None


def _home(workdir: str | None) -> Path:
    """The pilot's own folder: the current one, or a new one below -a."""
    if not workdir:
        return Path.cwd()
    return Path(workdir).absolute() / f"PanDA_Pilot3_{os.getpid()}_{int(time.time())}"


def _server_url(url: str, port: int | None) -> str:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    try:
        given = parts.port
    except ValueError as err:
        raise BadSetting(f"--url={url!r}: {err}") from err
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSetting(f"--url={url!r}: expected http(s)://host[:port]")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{given or port or DEFAULT_PORT}"


def _certificates(proxy: Path | None, cacert: Path | None) -> tuple[Path | None, Path | None]:
    """Client proxy and CA bundle: --cacert is either, and its content tells."""
    if cacert is not None:
        try:
            text = cacert.read_text(errors="replace")
        except OSError as err:
            raise BadSetting(f"--cacert={str(cacert)!r}: {err.strerror}") from err
        if "PRIVATE KEY" in text:
            return cacert, None
    default = Path(f"/tmp/x509up_u{os.getuid()}")
    if proxy is None and default.is_file() and default.stat().st_uid == os.getuid():
        proxy = default
    return proxy, cacert


def _token(
    name: str | None, folder: str | None, proxy: Path | None, environment: Mapping[str, str]
) -> Path | None:
    """A token file: as given, or by name in the places where Harvester puts
    it, in a fixed order.
    """
    if not name:
        return None
    places = [Path(folder) if folder else None, Path(folder).parent if folder else None]
    places += [proxy.parent if proxy else None, Path.cwd(), Path(environment.get("HOME") or "/")]
    candidates = [Path(name)] if Path(name).is_absolute() else [p / name for p in places if p is not None]
    return next((c for c in candidates if c.is_file()), candidates[0])


def _jobs(jobs: JobsConfig, datadir: Path | None, harvester_workdir: Path | None, home: Path) -> JobsConfig:
    if jobs.submit_mode != "PUSH":
        return jobs
    folder = datadir or harvester_workdir or home
    return replace(jobs, push_file=folder / "pandaJobData.out")


def show(invocation: Invocation) -> str:
    """Each setting with value, unit and source; secrets are file names only."""
    units = {s.field: s.unit for s in SETTINGS if s.unit}
    lines = []
    for section in fields(invocation.config):
        part = getattr(invocation.config, section.name)
        if not is_dataclass(part):
            continue
        for item in fields(part):
            if not item.repr:
                continue
            name = f"{section.name}.{item.name}"
            given = invocation.values.get(name)
            source = given.source if given is not None else "default"
            unit = units.get(name) or UNITS.get(item.name.rpartition("_")[2], "")
            lines.append(f"{name:28} {getattr(part, item.name)!s:44} {unit:6} {source}")
    return "\n".join(lines)
