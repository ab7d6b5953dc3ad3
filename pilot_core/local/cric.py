"""Queue and storage data, served in the two shapes a pilot asks for."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Cric"]

_HERE = Path(__file__).parent / "queues"

#: Stands for the server's folder in the storage definitions.
FOLDER = "{folder}"


class Cric:
    """What CRIC would say, from the files in `queues/`; thread-safe.

    Each file holds one queue or one storage under its own name. `{folder}`
    inside becomes the server's folder, where LOCAL_LOGS keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, dict[str, Any]] = {}
        self._storages: dict[str, dict[str, Any]] = {}
        for path in sorted(_HERE.glob("*.json")):
            text = path.read_text().replace(FOLDER, json.dumps(str(folder))[1:-1])
            for name, entry in json.loads(text).items():
                (self._storages if "arprotocols" in entry else self._queues)[name] = entry

    def add_queue(self, name: str, **settings: object) -> None:
        """Add a queue like LOCAL, or change an existing one, with these
        settings.
        """
        with self._lock:
            base = self._queues.get(name) or {
                **self._queues["LOCAL"],
                **dict.fromkeys(("name", "nickname", "panda_resource", "siteid"), name),
            }
            self._queues[name] = {**base, **settings}

    def add_storage(self, name: str, **settings: object) -> None:
        """Add a storage like LOCAL_LOGS, or change an existing one."""
        with self._lock:
            base = self._storages.get(name) or {**self._storages["LOCAL_LOGS"], "name": name}
            self._storages[name] = {**base, **settings}

    def names(self) -> list[str]:
        """Names of the queues."""
        with self._lock:
            return sorted(self._queues)

    def status(self, queue: str) -> str:
        """Status of a queue; empty for one that does not exist."""
        with self._lock:
            return str(self._queues.get(queue, {}).get("status", ""))

    def queue(self, name: str) -> Mapping[str, Any] | None:
        """One queue's settings, as `/cache/schedconfig/<queue>.all.json` has
        them.
        """
        with self._lock:
            return self._queues.get(name)

    def query(self, what: str, name: str) -> Mapping[str, Any]:
        """A map by name, as CRIC's own API answers: one entry, or all without
        a name.

        Parameters
        ----------
        what
            `pandaqueue` or `ddmendpoint`.
        """
        with self._lock:
            table = dict(self._queues if what == "pandaqueue" else self._storages)
        return table if not name else {key: table[key] for key in [name] if key in table}
