"""One tool for every URL: its scheme decides which of the copytools serves it."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pilot_core.base.budget import Budget
from pilot_core.base.clock import Clock
from pilot_core.config import StorageConfig
from pilot_core.errors import StorageError
from pilot_core.model.codes import ErrorCode
from pilot_core.storage.contract import CopyTool, Progress, Stored

__all__ = ["SchemeTool"]

#: CRIC's copytool for a scheme; "" is a plain path.
TOOLS: Mapping[str, str] = {
    "": "local",
    "file": "local",
    "gs": "gs",
    "s3": "s3",
    "http": "https",
    "https": "https",
    "dav": "https",
    "davs": "https",
    "root": "xrdcp",
    "roots": "xrdcp",
    "xroot": "xrdcp",
    "xroots": "xrdcp",
    "rucio": "rucio",
}


class SchemeTool:
    """A `CopyTool` in front of others, which are made on first use.

    Parameters
    ----------
    makers
        By CRIC's name of the tool.
    own
        Tools by scheme, before those of `makers`.
    """

    name = "scheme"

    def __init__(
        self,
        makers: Mapping[str, Callable[[StorageConfig, Clock], CopyTool]],
        config: StorageConfig,
        clock: Clock,
        own: Mapping[str, CopyTool],
    ) -> None:
        self._makers = makers
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._tools = dict(own)

    def put(
        self,
        source: Path,
        target: str,
        *,
        budget: Budget,
        content_type: str = "",
        progress: Progress | None = None,
    ) -> Stored:
        """See `CopyTool.put`."""
        tool = self._tool(target)
        return tool.put(source, target, budget=budget, content_type=content_type, progress=progress)

    def get(self, source: str, target: Path, *, budget: Budget, progress: Progress | None = None) -> Stored:
        """See `CopyTool.get`."""
        return self._tool(source).get(source, target, budget=budget, progress=progress)

    def public_url(self, target: str) -> str:
        """See `CopyTool.public_url`."""
        return self._tool(target).public_url(target)

    def _tool(self, url: str) -> CopyTool:
        scheme = url.partition("://")[0] if "://" in url else ""
        with self._lock:
            if scheme not in self._tools:
                if scheme not in TOOLS:
                    raise StorageError(f"no copytool knows {scheme}:// URLs", ErrorCode.NOSTORAGEPROTOCOL)
                self._tools[scheme] = self._makers[TOOLS[scheme]](self._config, self._clock)
            return self._tools[scheme]
