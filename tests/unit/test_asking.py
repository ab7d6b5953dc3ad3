"""What is asked for: what fits the node, the queue and the time that is left."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_core.asking import Asking, life_left_s
from pilot_core.base.budget import Budget
from pilot_core.config import Config, InfoConfig, JobsConfig, ServerConfig, WorkerConfig, WrapupConfig
from pilot_core.model.queue import Queue
from pilot_core.model.report import Node
from pilot_core.server.contract import JobRequest
from pilot_core.server.wire import Definition
from tests.fakes.clock import FakeClock
from tests.fakes.server import FakeServer

QUEUE = Queue(name="Q", resource="R")
NODE = Node("node", cores=4, memory_mb=15_000, cpu_mhz=2_200.0)


class Shelf(FakeServer):
    """Hands out what it is given, and keeps the requests."""

    def __init__(self, *jobs: Mapping[str, object]) -> None:
        super().__init__()
        self.jobs = list(jobs)
        self.asked: list[JobRequest] = []

    def acquire_job(self, request: JobRequest, *, budget: Budget, stop: threading.Event) -> Definition | None:
        self.asked.append(request)
        return self.jobs.pop(0) if self.jobs else None


def config(home: Path, **jobs: object) -> Config:
    return Config(
        worker=WorkerConfig(queue="Q-given", home=home, lifetime_s=10_000),
        server=ServerConfig("http://panda.invalid"),
        info=InfoConfig(folder=home),
        jobs=JobsConfig(**jobs),  # type: ignore[arg-type]
        wrapup=WrapupConfig(drain_s=30.0, upload_s=900.0),
    )


def asking(server: FakeServer, config: Config, *, age: float = 0.0, load: float = 0.0) -> Asking:
    return Asking(server, QUEUE, config=config, node=NODE, age_s=lambda: age, load=lambda: load)


def ask(asking: Asking) -> Definition | None:
    return asking.acquire(budget=Budget(FakeClock(), 60.0, "test"), stop=threading.Event())


@pytest.mark.parametrize(
    ("maxtime", "age", "left"),
    [(0, 0.0, 10_000), (0, 9_000.0, 1_000), (6_000, 1_000.0, 5_000), (60_000, 1_000.0, 9_000)],
)
def test_what_is_left_to_live(tmp_path: Path, maxtime: int, age: float, left: float) -> None:
    queue = replace(QUEUE, maxtime_s=maxtime)
    assert life_left_s(config(tmp_path), queue, age) == left


def test_the_request_names_node_queue_and_time(tmp_path: Path) -> None:
    asked = asking(FakeServer(), config(tmp_path), age=1_000.0).request()
    assert (asked.site, asked.computing_element, asked.node) == ("R", "Q-given", "node")
    assert (asked.memory_mb, asked.cpu_mhz) == (15_000, 2_200.0)
    # Without what the end of a job needs.
    assert asked.remaining_s == 10_000 - 1_000 - 930
    assert asking(FakeServer(), config(tmp_path), age=9_999.0).request().remaining_s == 1


def test_a_queue_in_test_asks_for_test_jobs(tmp_path: Path) -> None:
    source = asking(FakeServer(), config(tmp_path))
    assert source.request().label == "managed"
    source.queue = replace(QUEUE, status="test", maxwdir_mb=1)
    assert (source.request().label, source.request().disk_mb) == ("test", 1)


def test_a_busy_node_asks_for_nothing(tmp_path: Path) -> None:
    server = Shelf({"PandaID": 1})
    busy = config(tmp_path, wait_for_load=True, load_factor=1.2)
    assert ask(asking(server, busy, load=4.9)) is None
    assert server.asked == []
    assert ask(asking(server, busy, load=4.7)) is not None
    assert ask(asking(Shelf({"PandaID": 2}), config(tmp_path), load=99.0)) is not None


@pytest.mark.parametrize(
    ("task", "known"), [(7, 7), ("7", 7), (None, None), ("NULL", None), ("9" * 40, None), ([], None)]
)
def test_the_next_job_comes_from_the_same_task(tmp_path: Path, task: object, known: int | None) -> None:
    server = Shelf({"taskID": task}, {"taskID": task})
    source = asking(server, config(tmp_path))
    ask(source)
    ask(source)
    assert [request.task_id for request in server.asked] == [None, known]
    server = Shelf({"taskID": task})
    source = asking(server, config(tmp_path, allow_same_user=False))
    ask(source)
    ask(source)
    assert [request.task_id for request in server.asked] == [None, None]
