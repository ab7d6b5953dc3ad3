"""CRIC's copytools and their classes: another one is a line here and a file
beside.
"""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pilot_core.base.clock import Clock
from pilot_core.config import StorageConfig
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.contract import CopyTool
from pilot_core.storage.gcs import GcsTool
from pilot_core.storage.gfal import GfalTool
from pilot_core.storage.https import HttpsTool
from pilot_core.storage.local import LocalTool
from pilot_core.storage.lsm import LsmTool
from pilot_core.storage.rucio import RucioTool
from pilot_core.storage.s3 import S3Tool
from pilot_core.storage.xrdcp import XrdcpTool

__all__ = ["COPYTOOLS", "installed"]


def _https(config: StorageConfig, clock: Clock) -> CopyTool:
    token_file = config.token_file
    return HttpsTool(
        clock=clock,
        token=None if token_file is None else lambda: _token(token_file),
        certificate=None if token_file is not None else config.proxy_file,
        ca=config.ca_path,
    )


def _token(path: Path) -> str:
    """The token of this moment: something else renews the file."""
    try:
        return path.read_text().strip()
    except OSError as err:
        raise StorageError(f"token {path}: {err.strerror}", ErrorCode.MISSINGCREDENTIALS) from err


#: By the word in the queue's `copytools`.
COPYTOOLS: Mapping[str, Callable[[StorageConfig, Clock], CopyTool]] = {
    "gs": lambda cfg, clock: GcsTool(
        clock=clock,
        endpoint=cfg.gcs_endpoint,
        link="authenticated" if cfg.signed_s else cfg.link,
        signed_s=cfg.signed_s,
    ),
    "s3": lambda cfg, clock: S3Tool(clock=clock, profile=cfg.s3_profile, signed_s=cfg.signed_s),
    "https": _https,
    "gfal": lambda _, clock: GfalTool(clock=clock),
    "xrdcp": lambda _, clock: XrdcpTool(clock=clock),
    "rucio": lambda _, clock: RucioTool(clock=clock),
    "lsm": lambda _, clock: LsmTool(clock=clock),
    "mv": lambda _, clock: LocalTool(clock=clock, name="mv"),
    "cp": lambda _, clock: LocalTool(clock=clock, name="cp"),
    "local": lambda _, clock: LocalTool(clock=clock),
}

#: What each of them needs on this machine.
_PACKAGES = {"gs": "google.cloud.storage", "s3": "boto3", "rucio": "rucio"}
_PROGRAMS = {"gfal": "gfal-copy", "xrdcp": "xrdcp", "lsm": "lsm-put"}


def installed(name: str) -> bool:
    """Is the library or program here that this copytool stands on?"""
    if name in _PROGRAMS:
        return shutil.which(_PROGRAMS[name]) is not None
    return name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name]) is not None
