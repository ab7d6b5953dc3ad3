"""PURE: settings in, the wrapper's arguments and environment out."""

import sys
from collections.abc import Mapping
from pathlib import Path

from pilot_starter.config import StarterConfig

__all__ = ["KILL_RESERVE_S", "PILOT_EXIT_S", "pilot_options", "wrapper_argv", "wrapper_environment"]

# Of the time after SIGTERM this much is the starter's: kill what is left, say
# the last word for a pilot that did not, drain the worker's log, upload it.
KILL_RESERVE_S = 3.0
# From the end of the pilot's budget to the end of its process.
PILOT_EXIT_S = 1.0


def pilot_options(config: StarterConfig, home: Path) -> list[str]:
    """Options of the pilot, apart from -q, -i and -j, which the wrapper puts
    first.

    Names, values and order are those of Rubin's GKE starter and wrapper of
    2022, so that either side can be replaced alone; `--pilot-user` stands
    there
    twice.
    """
    options = ["--pilot-user=rubin", "-x", "3", "-v", "5"]
    if config.resource_type:
        options += ["--resource-type", config.resource_type]
    if config.use_realtime:
        options.append("--use-realtime-logging")
        if config.realtime_server:
            options += ["--realtime-logging-server", config.realtime_server]
        if config.realtime_logname:
            options += ["--realtime-logname", config.realtime_logname]
    if config.submit_mode == "PUSH":
        options += ["--harvester-datadir", str(home)]
    options += ["-w", "generic", "--pilot-user", "rubin", f"--url={config.server_url}"]
    if config.debug:
        options.append("-d")
    options += ["--harvester-submit-mode", config.submit_mode, "--allow-same-user=False", "-t"]
    return [*options, *config.extra_options]


def wrapper_argv(config: StarterConfig, *, wrapper: Path, home: Path, installed: bool) -> list[str]:
    """The wrapper's command line.

    Parameters
    ----------
    wrapper
        The script.
    home
        The pilot's folder, where the wrapper will run.
    installed
        Run the pilot installed beside the starter rather than
        `pilot3/pilot.py`.
    """
    argv = ["bash", str(wrapper), "--exec", "--piloturl", "image" if installed else "local"]
    argv += ["-s", config.site, "-r", config.queue, "-q", config.queue]
    argv += ["-i", config.version_tag, "-j", config.label]
    return [*argv, *pilot_options(config, home)]


def wrapper_environment(
    config: StarterConfig, *, home: Path, credentials: Mapping[str, str]
) -> dict[str, str]:
    """Environment of wrapper and pilot.

    The pilot runs with this interpreter: it has the libraries that a tarball
    does not bring.
    """
    env = {**config.child_environment, **credentials}
    env["PILOT_PYTHON"] = sys.executable
    env["PANDA_PILOT_SOURCE"] = str(home)
    # The pilot must be through before it is killed: its own budget and its
    # exit.
    env["PILOT_GRACE_SECONDS"] = f"{max(1.0, config.grace_s - KILL_RESERVE_S - PILOT_EXIT_S):g}"
    if config.worker_id is not None:
        env["HARVESTER_WORKER_ID"] = str(config.worker_id)
    if config.harvester_id:
        env["HARVESTER_ID"] = config.harvester_id
    if config.log_link:
        env["GTAG"] = config.log_link
    return env
