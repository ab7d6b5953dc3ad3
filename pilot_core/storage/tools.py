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

__all__ = ["COPYTOOLS", "installed"]


# Each is imported when a job's queue names it: a pilot that watches a payload
# does without most of them.
def _https(config: StorageConfig, clock: Clock) -> CopyTool:
    from pilot_core.storage.https import HttpsTool

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


def _gs(config: StorageConfig, clock: Clock) -> CopyTool:
    from pilot_core.storage.gcs import GcsTool

    link = "authenticated" if config.signed_s else config.link
    return GcsTool(clock=clock, endpoint=config.gcs_endpoint, link=link, signed_s=config.signed_s)


def _s3(config: StorageConfig, clock: Clock) -> CopyTool:
    from pilot_core.storage.s3 import S3Tool

    return S3Tool(clock=clock, profile=config.s3_profile, signed_s=config.signed_s)


def _gfal(_: StorageConfig, clock: Clock) -> CopyTool:
    from pilot_core.storage.gfal import GfalTool

    return GfalTool(clock=clock)


def _xrdcp(_: StorageConfig, clock: Clock) -> CopyTool:
    from pilot_core.storage.xrdcp import XrdcpTool

    return XrdcpTool(clock=clock)


def _rucio(_: StorageConfig, clock: Clock) -> CopyTool:
    from pilot_core.storage.rucio import RucioTool

    return RucioTool(clock=clock)


def _lsm(_: StorageConfig, clock: Clock) -> CopyTool:
    from pilot_core.storage.lsm import LsmTool

    return LsmTool(clock=clock)


def _local(name: str) -> Callable[[StorageConfig, Clock], CopyTool]:
    def make(_: StorageConfig, clock: Clock) -> CopyTool:
        from pilot_core.storage.local import LocalTool

        return LocalTool(clock=clock, name=name)

    return make


#: By the word in the queue's `copytools`.
COPYTOOLS: Mapping[str, Callable[[StorageConfig, Clock], CopyTool]] = {
    "gs": _gs,
    "s3": _s3,
    "https": _https,
    "gfal": _gfal,
    "xrdcp": _xrdcp,
    "rucio": _rucio,
    "lsm": _lsm,
    "mv": _local("mv"),
    "cp": _local("cp"),
    "local": _local("local"),
}

#: What each of them needs on this machine.
_PACKAGES = {"gs": "google.cloud.storage", "s3": "boto3", "rucio": "rucio"}
_PROGRAMS = {"gfal": "gfal-copy", "xrdcp": "xrdcp", "lsm": "lsm-put"}


def installed(name: str) -> bool:
    """Is the library or program here that this copytool stands on?"""
    if name in _PROGRAMS:
        return shutil.which(_PROGRAMS[name]) is not None
    return name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name]) is not None
