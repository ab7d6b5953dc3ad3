"""Any bytes from outside, all the way in: a job, no job or a named error, and
no trace.

The single parsers have their own tests; here the real client reads the answer
and the real source hands the job on, as in a running pilot.
"""

import contextlib
import json
import tempfile
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core.base.budget import Budget
from pilot_core.config import JobsConfig, ServerConfig
from pilot_core.errors import BadJob, PilotError, ServerError
from pilot_core.jobs.pull import PullSource
from pilot_core.jobs.pushed import PushedSource
from pilot_core.local.definition import make
from pilot_core.model.job import Job
from pilot_core.model.report import JobReport, JobState, Node, Reply
from pilot_core.server.answer import Answer
from pilot_core.server.client import PandaServer
from pilot_core.server.contract import JobRequest
from tests.fakes.clock import FakeClock

JOB = {**make(transformation="https://pandaserver.cern.ch/run", parameters="-x"), "PandaID": 17}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
#: A good definition with some of its values changed, or taken away.
DEFINITIONS = st.dictionaries(st.sampled_from(sorted(JOB)), JSON, max_size=4).map(lambda new: {**JOB, **new})


def mostly(good: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """What is good, and once in a while anything."""
    return st.sampled_from([good, good, good, good, good, JSON]).flatmap(lambda chosen: chosen)


DATA = st.fixed_dictionaries(
    {
        "StatusCode": mostly(st.sampled_from([0, 0, 0, "0", 10, 20, 30, 60])),
        "jobs": mostly(st.lists(mostly(DEFINITIONS), min_size=1, max_size=2)),
        "command": mostly(st.sampled_from(["NULL", "tobekilled", "tail x", "debug,softkill"])),
    },
    optional={"pilotSecrets": JSON},
)
V1 = st.fixed_dictionaries(
    {"success": mostly(st.just(True)), "message": mostly(st.just("")), "data": mostly(DATA)}
)
#: Legacy answers hold a job's fields, or an update's, beside the StatusCode.
LEGACY = st.builds(lambda job, data: {**job, **data}, DEFINITIONS, DATA)
ENVELOPES = mostly(V1 | LEGACY)


@st.composite
def spoilt(draw: st.DrawFn, documents: st.SearchStrategy[object]) -> bytes:
    """A document as bytes; sometimes cut short, or with a byte changed."""
    data = bytearray(json.dumps(draw(documents)).encode())
    if draw(st.integers(0, 3)):
        return bytes(data)
    data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


class Says:
    """Stands in for `Http`: the same answer to every request."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def send(self, *_: object, **__: object) -> Answer:
        return self._answer

    def close(self) -> None:
        """Nothing is open."""


def server(body: bytes, status: int, api: str) -> PandaServer:
    made = PandaServer(ServerConfig(url="http://panda.invalid", api=api), clock=FakeClock())
    made._http = Says(Answer(status, "application/json", body))  # type: ignore[assignment]
    return made


STATUSES = st.sampled_from([200, 200, 200, 200, 403, 404, 500, 503])
APIS = st.sampled_from(["auto", "v1", "legacy"])


@settings(max_examples=300)
@given(body=st.binary(max_size=60) | spoilt(ENVELOPES), status=STATUSES, api=APIS)
def test_any_answer_to_a_request_for_a_job(body: bytes, status: int, api: str) -> None:
    clock, panda = FakeClock(), server(body, status, api)
    request = JobRequest("Q", "Q", "managed", "node", 1000, 1000)
    source = PullSource(
        lambda *, budget, stop: panda.acquire_job(request, budget=budget, stop=stop),
        config=JobsConfig(requests=1, failures=1),
        clock=clock,
    )
    with contextlib.suppress(ServerError, BadJob):
        found = source.next(budget=Budget(clock, 3600.0, "test"), stop=threading.Event())
        assert found is None or isinstance(found, Job)


@settings(max_examples=300)
@given(
    body=st.binary(max_size=60) | spoilt(ENVELOPES),
    status=STATUSES,
    api=APIS,
    state=st.sampled_from([JobState.RUNNING, JobState.FINISHED]),
)
def test_any_answer_to_an_update(body: bytes, status: int, api: str, state: JobState) -> None:
    budget = Budget(FakeClock(), 0.5, "test")
    report = JobReport(17, 1, state, "Q", Node("node"), start_s=1.0, end_s=2.0)
    with contextlib.suppress(ServerError):
        reply = server(body, status, api).update_job(report, budget=budget, stop=threading.Event())
        assert isinstance(reply, Reply)


@settings(max_examples=200)
@given(data=st.binary(max_size=60) | spoilt(DEFINITIONS | JSON | st.builds(lambda d: {"17": d}, DEFINITIONS)))
def test_any_pushed_file(data: bytes) -> None:
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pandaJobData.out"
        path.write_bytes(data)
        config = JobsConfig(submit_mode="PUSH", push_file=path, push_wait_s=5.0)
        source = PushedSource(config, home=Path(folder), clock=clock)
        with contextlib.suppress(PilotError):
            assert isinstance(source.next(budget=Budget(clock, 60.0, "test"), stop=threading.Event()), Job)
