"""Options, environment and INI files into `Config`: the only reader of
`os.environ`.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pilot_core import __version__
from pilot_core.config import Config, JobsConfig
from pilot_core.errors import SetupError
from pilot_core.ignored import IGNORED
from pilot_core.inifiles import read_ini
from pilot_core.model.codes import ErrorCode
from pilot_core.options import Help, Parser, add_options, listing
from pilot_core.resolve import BadSetting, Setting, Value, resolve
from pilot_core.server.url import DEFAULT_SERVER, base_url
from pilot_core.settings import GROUPS, MADE, SETTINGS

__all__ = ["KINDS", "Invocation", "groups", "parse", "show"]

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

#: Dataclass of each part of the settings.
KINDS: Mapping[str, Any] = {f.name: f.type for f in fields(Config)}


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
        values = resolve(SETTINGS, options, environment, ini.texts, place=ini.source)
        config = _build(values, environment)
    except BadSetting as err:
        raise SetupError(str(err), ErrorCode.GENERALERROR) from err
    remarks += ini.remarks(setting.ini for setting in SETTINGS)
    return Invocation(config, values, remarks, show=bool(show))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pilot.py",
        usage="pilot.py -q QUEUE [options]",
        description="PanDA pilot: takes jobs from a PanDA server and sees each one through.",
        epilog="In brackets: default, and variables that set the same; the option comes before them, but "
        "PANDAPILOT_LIFETIME before -l. Some settings have only variables, or keys in pilot.cfg: "
        "--show-config names all of them. Accepted for pilot3's sake, without effect: "
        f"{', '.join(ignored.flags[-1] for ignored in IGNORED)}.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--show-config",
        action="store_true",
        help="print each setting with value, unit, source and what sets it, and end",
    )
    add_options(parser, groups(), KINDS)
    for ignored in IGNORED:
        dest = "ignored_" + ignored.flags[-1].lstrip("-")
        remark = f"option {ignored.flags[-1]} has no effect: {ignored.why}" if ignored.why else ""
        parser.add_argument(
            *ignored.flags,
            dest=dest,
            action=_Remark,
            nargs=None if ignored.takes_value else 0,
            const=remark,
            help=argparse.SUPPRESS,
        )
    return parser


def groups() -> dict[str, list[Setting]]:
    """The settings by what they are about; one that only others are made of
    stands with the first of these.
    """
    found: dict[str, list[Setting]] = {title: [] for title in GROUPS.values()}
    for setting in SETTINGS:
        made = next((name for name, origins in MADE.items() if setting.field in origins), "")
        name = made if setting.field.startswith("cli.") else setting.field
        found[GROUPS[name.partition(".")[0]]].append(setting)
    return found


class _Remark(argparse.Action):
    """Remember what to say about an option that has no effect."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, _option: Any = None) -> None:
        setattr(namespace, self.dest, "" if values == "generic" else self.const)


def _build(values: dict[str, Value], environment: Mapping[str, str]) -> Config:
    """The settings; what is made out of others is put into `values`, too, with
    the source of the first of those that was given.
    """

    def made(field: str, value: Any, *origins: str) -> Any:
        source = next((values[name].source for name in origins or MADE[field] if name in values), "")
        if source:
            values[field] = Value(value, source)
        return value

    def cli(name: str) -> Any:
        value = values.get(f"cli.{name}")
        return value.value if value is not None else None

    def part(section: str, **more: Any) -> Any:
        kind = KINDS[section]
        names = {f.name for f in fields(kind)}
        given = {k.split(".")[1]: v.value for k, v in values.items() if k.startswith(section + ".")}
        return kind(**{**more, **{k: v for k, v in given.items() if k in names}})

    if "worker.queue" not in values or not values["worker.queue"].value:
        raise BadSetting("no queue given: -q QUEUE or PILOT_QUEUE is needed")
    home = _home(cli("workdir"))
    for field in ("worker.home", "info.folder", "server.spare_folder"):
        made(field, home)
    for key, name in BATCH_SYSTEMS:
        if environment.get(key):
            values["worker.batch_type"] = Value(name, key)
            values["worker.batch_id"] = Value(environment[key], key)
            break
    hostname = values["worker.hostname"].value if "worker.hostname" in values else socket.gethostname()
    if slot := environment.get("_CONDOR_SLOT"):
        hostname = f"{slot}@{hostname}"
    _find_cvmfs(values, environment)
    worker = replace(
        part("worker", home=home, queue=""),
        hostname=hostname,
        id_file=_id_file(environment),
    )
    url_from = values["cli.url"].source if "cli.url" in values else "--url"
    url = made("server.url", base_url(cli("url") or DEFAULT_SERVER, setting=url_from, port=cli("port")))
    proxy, ca_file = _certificates(cli("proxy"), cli("cacert"))
    made("server.proxy_file", proxy, "cli.cacert" if proxy == cli("cacert") else "cli.proxy")
    for field in ("server.ca_file", "info.ca_file", "payload.ca_file") if ca_file else ():
        made(field, ca_file)
    server = part("server", url=url, proxy_file=proxy, ca_file=ca_file, spare_folder=home)
    server = replace(
        server,
        ca_path=server.ca_path or (GRID_CERTIFICATES if GRID_CERTIFICATES.is_dir() else None),
        token_file=made("server.token_file", _token(cli("token"), cli("token_dir"), proxy, environment)),
        token_key_file=made(
            "server.token_key_file", _token(cli("token_key"), cli("token_dir"), proxy, environment)
        ),
    )
    made("info.ca_path", server.ca_path)
    made("realtime.enabled", bool(cli("use_realtime")))
    harvester = part("harvester")
    server_info = made("info.server_url", url if server.talk else "")
    jobs = _jobs(part("jobs"), cli("datadir"), harvester.folder, home)
    made("jobs.push_file", jobs.push_file)
    return Config(
        worker=worker,
        server=server,
        info=part("info", folder=home, server_url=server_info, ca_file=ca_file, ca_path=server.ca_path),
        harvester=harvester,
        jobs=jobs,
        heartbeat=part("heartbeat"),
        payload=replace(
            part("payload"), ca_file=ca_file, environment={**environment, "PANDA_SERVER_URL": url}
        ),
        kubernetes=part("kubernetes"),
        realtime=part("realtime"),
        monitor=part("monitor"),
        storage=part("storage"),
        wrapup=part("wrapup"),
    )


def _find_cvmfs(values: dict[str, Value], environment: Mapping[str, str]) -> None:
    """Put the place of CVMFS on this machine for pilot3's word for it."""
    base = environment.get("ATLAS_SW_BASE") or "/cvmfs"
    for field in ("info.queues_cvmfs", "info.storages_cvmfs"):
        if value := values.get(field):
            values[field] = replace(value, value=Path(str(value.value).replace("CVMFS_PATH", base)))


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


def _home(workdir: Path | None) -> Path:
    """The pilot's own folder: the current one, or a new one below -a."""
    if not workdir:
        return Path.cwd()
    return workdir.absolute() / f"PanDA_Pilot3_{os.getpid()}_{int(time.time())}"


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
    """Each setting with value, unit, source and what sets it; secrets are file
    names only.
    """
    return listing(invocation.config, invocation.values, SETTINGS, MADE)
