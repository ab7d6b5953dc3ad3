"""An engine in memory; what a payload does is said by its environment.

==================  ==========================================================
FAKE_EXIT           exit code, default 0
FAKE_SLEEP          seconds until it ends by itself on the given clock, default
0;
                    `inf` for never
FAKE_STDOUT/STDERR  text it prints at its start
FAKE_START_FAIL     `start` fails with this text
FAKE_TERM_EXIT      exit code after SIGTERM, default 143
FAKE_IGNORE_TERM    any text: SIGTERM does nothing
FAKE_UNKILLABLE     any text: SIGKILL does nothing either
FAKE_OOM            any text: it ends with 137 and `out_of_memory`
FAKE_LOST           its end is not seen; the text says why
FAKE_CPU_S, FAKE_RSS  what `stats` says of it
==================  ==========================================================

`on_call(name, spec)` is called first in each call of engine and container;
what
it raises, the call raises. `calls` keeps the names in order. The order of
calls
is checked: `start` twice with one name, or without the image, is an error.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

from container.contract import Leftover
from container.errors import Cancelled, EngineError, ImageNotFound, StartError
from container.labels import NAME_LABEL, carries
from container.spec import ContainerExit, ContainerSpec, PullProgress, Stats
from container.stopping import Stopping
from pilot_core.base.clock import Clock

__all__ = ["FakeContainer", "FakeEngine"]

Hook = Callable[[str, ContainerSpec | None], None]


class FakeContainer:
    """A payload that only has a time of its end."""

    def __init__(self, engine: "FakeEngine", spec: ContainerSpec, number: int) -> None:
        self.id = f"fake-{number}"
        self.pid = 0
        self.spec = spec
        self.term_count = 0
        self._engine = engine
        self._clock = engine.clock
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._end: ContainerExit | None = None
        self._ends_at = self._clock.monotonic() + float(spec.environment.get("FAKE_SLEEP", "0"))
        self._stopping = Stopping(
            spec.name, ask=self._ask, over=self._over, kill=self._kill, clock=self._clock
        )

    def wait(self, timeout_s: float) -> ContainerExit | None:
        self._engine.called("wait", self.spec)
        self._over(timeout_s)
        return self._end

    def stats(self) -> Stats:
        # The contract: stats never raises.
        self._engine.calls.append("stats")
        if self._look():
            return Stats()
        environment = self.spec.environment
        return Stats(
            cpu_s=float(environment.get("FAKE_CPU_S", "0.5")),
            rss=int(environment.get("FAKE_RSS", "1000000")),
            processes=1,
            threads=1,
            source="fake",
        )

    def processes(self) -> str:
        self._engine.called("processes", self.spec)
        command = " ".join(self.spec.argv)
        return f"PID COMMAND\n1 {command}" if not self._look() else "PID COMMAND"

    def backtrace(self, pid: int | None) -> str:
        self._engine.called("backtrace", self.spec)
        raise EngineError("gdb is not installed here")

    def stop(self, grace_s: float) -> ContainerExit:
        self._engine.called("stop", self.spec)
        self._stopping.run(grace_s)
        return self._end or ContainerExit(137, lost=f"{self.spec.name} cannot be killed")

    def remove(self) -> None:
        self._engine.called("remove", self.spec)
        self._engine.forget(self)

    def _natural(self) -> ContainerExit:
        environment = self.spec.environment
        if "FAKE_OOM" in environment:
            return ContainerExit(137, out_of_memory=True)
        if lost := environment.get("FAKE_LOST", ""):
            return ContainerExit(137, lost=lost)
        return ContainerExit(int(environment.get("FAKE_EXIT", "0")), cpu_s=0.5)

    def _look(self) -> bool:
        """True if it has ended; notes the end when its time has come."""
        with self._lock:
            if self._end is None and self._clock.monotonic() >= self._ends_at:
                self._end = self._natural()
            return self._end is not None

    def _over(self, timeout_s: float) -> bool:
        deadline = self._clock.monotonic() + timeout_s
        while not self._look():
            left = min(deadline, self._ends_at) - self._clock.monotonic()
            if left <= 0:
                return self._look()
            self._clock.wait(self._changed, left)
            if self._changed.is_set() and not self._look():
                return False
        return True

    def _ask(self) -> None:
        self.term_count += 1
        if "FAKE_IGNORE_TERM" not in self.spec.environment:
            self.finish(ContainerExit(int(self.spec.environment.get("FAKE_TERM_EXIT", "143"))))

    def _kill(self) -> None:
        if "FAKE_UNKILLABLE" not in self.spec.environment:
            self.finish(ContainerExit(137))

    def finish(self, end: ContainerExit) -> None:
        """End it now from outside, as the daemon or another process would."""
        with self._lock:
            if self._end is None:
                self._end = end
        self._changed.set()


class FakeEngine:
    """Implements `container.contract.Engine`.

    Parameters
    ----------
    clock
        Source of time.
    on_call
        See above.
    images
        Images that are on the node; others are pulled if they are in
        `registry`, and there are none else.
    """

    name = "fake"

    def __init__(
        self,
        *,
        clock: Clock,
        on_call: Hook | None = None,
        images: Sequence[str] = ("",),
        registry: Sequence[str] = (),
    ) -> None:
        self.clock = clock
        self.on_call = on_call
        self.images = set(images)
        self.registry = set(registry)
        self.calls: list[str] = []
        self.containers: dict[str, FakeContainer] = {}
        self.started: list[FakeContainer] = []
        self.closed = False

    def called(self, name: str, spec: ContainerSpec | None = None) -> None:
        """Note a call, and let the hook fail it."""
        self.calls.append(name)
        if self.on_call is not None:
            self.on_call(name, spec)

    def check(self) -> str:
        self.called("check")
        return "fake engine"

    def ensure_image(
        self,
        image: str,
        *,
        timeout_s: float,
        on_progress: Callable[[PullProgress], None],
        cancelled: threading.Event,
    ) -> None:
        self.called("ensure_image")
        if image in self.images:
            return
        if image not in self.registry:
            raise ImageNotFound(f"{image}: no such image")
        for done in (0, 1):
            if cancelled.is_set():
                raise Cancelled(f"pull of {image} was cancelled")
            on_progress(PullProgress(done, 1, done * 1000, 1000, "layer"))
        self.images.add(image)

    def start(self, spec: ContainerSpec) -> FakeContainer:
        self.called("start", spec)
        if why := spec.environment.get("FAKE_START_FAIL"):
            raise StartError(f"{spec.name}: {why}")
        if spec.image not in self.images:
            raise StartError(f"{spec.name}: no such image: {spec.image}")
        if spec.name in self.containers:
            raise StartError(f"{spec.name}: the name is in use")
        for path, key in ((spec.stdout, "FAKE_STDOUT"), (spec.stderr, "FAKE_STDERR")):
            with path.open("ab") as out:
                out.write(spec.environment.get(key, "").encode())
        container = FakeContainer(self, spec, len(self.started) + 1)
        self.containers[spec.name] = container
        self.started.append(container)
        return container

    def leftovers(self, labels: Mapping[str, str]) -> Sequence[Leftover]:
        self.called("leftovers")
        found = (
            Leftover(c.id, name, {**c.spec.labels, NAME_LABEL: name}, running=not c._look())
            for name, c in list(self.containers.items())
        )
        return [one for one in found if carries(one.labels, labels)]

    def remove_leftover(self, leftover: Leftover) -> None:
        self.called("remove_leftover")
        container = self.containers.pop(leftover.name, None)
        if container is not None:
            container.finish(ContainerExit(137, lost="removed by somebody else"))

    def forget(self, container: FakeContainer) -> None:
        """Delete a container that has ended or not."""
        if self.containers.get(container.spec.name) is container:
            del self.containers[container.spec.name]

    def close(self) -> None:
        self.called("close")
        self.closed = True
