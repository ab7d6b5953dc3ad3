"""Queue and storage data from dictionaries."""

from collections.abc import Iterable

from pilot_core.base.budget import Budget
from pilot_core.errors import SetupError
from pilot_core.model.codes import ErrorCode
from pilot_core.model.queue import Queue, Storage


class FakeInformation:
    """Knows what it is given; `asked` lists the names in the order of the
    calls.
    """

    def __init__(self, *, queues: Iterable[Queue] = (), storages: Iterable[Storage] = ()) -> None:
        self.queues = {queue.name: queue for queue in queues}
        self.storages = {storage.name: storage for storage in storages}
        self.asked: list[str] = []

    def queue(self, name: str, *, budget: Budget) -> Queue:
        self.asked.append(name)
        if name not in self.queues:
            raise SetupError(f"no usable data for queue {name}: unknown here", ErrorCode.QUEUEDATA)
        return self.queues[name]

    def storage(self, name: str, *, budget: Budget) -> Storage:
        self.asked.append(name)
        if name not in self.storages:
            raise SetupError(f"no usable data for ddmendpoint {name}: unknown here", ErrorCode.NOSTORAGE)
        return self.storages[name]
