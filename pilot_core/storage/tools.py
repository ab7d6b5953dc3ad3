"""CRIC's copytools and their classes: another one is a line here and a file beside."""

from collections.abc import Callable, Mapping

from pilot_core.base.clock import Clock
from pilot_core.config import StorageConfig
from pilot_core.storage.contract import CopyTool
from pilot_core.storage.gcs import GcsTool
from pilot_core.storage.local import LocalTool

__all__ = ["COPYTOOLS"]

#: By the word in the queue's `copytools`.
COPYTOOLS: Mapping[str, Callable[[StorageConfig, Clock], CopyTool]] = {
    "gs": lambda cfg, clock: GcsTool(clock=clock, endpoint=cfg.gcs_endpoint, link=cfg.gcs_link),
    "mv": lambda _, clock: LocalTool(clock=clock, name="mv"),
    "cp": lambda _, clock: LocalTool(clock=clock, name="cp"),
    "local": lambda _, clock: LocalTool(clock=clock),
}
