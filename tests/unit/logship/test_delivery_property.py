"""Whatever happens to file, shipper and service: each record once, in order.

`PILOT_SOAK=<cases>` runs more of them.
"""

import contextlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind
from tests.fakes.shipping import Rig, line
from tests.fakes.sink import AGAIN, LOST_ANSWER, YES, MemorySink

CASES = int(os.environ.get("PILOT_SOAK", "300"))

DENIED = Outcome(OutcomeKind.DENIED, detail="403")


class World:
    """A rig, and the writer's side: what was written, and a line begun."""

    def __init__(self, folder: Path, seed: int) -> None:
        chance = random.Random(seed)
        self.failing = True

        def mood(batch: Sequence[Entry]) -> Outcome:
            if not self.failing:
                return YES
            return chance.choice((YES, YES, YES, AGAIN, LOST_ANSWER, DENIED))

        # Small bounds, so that few records make many chunks, loads and requests.
        self.rig = Rig(folder, MemorySink(mood), memory_bytes=1 << 20)
        self.rig.sink.limits = self.rig.sink.limits.__class__(batch_entries=7)
        self.written: list[int] = []
        self.begun = b""
        self.turns = 0

    def write(self, count: int) -> None:
        self.complete()
        self.written += self.rig.lines(count)

    def begin(self, cut: int) -> None:
        """The first bytes of a record; the rest comes later."""
        self.complete()
        number = self.rig._made
        self.rig._made += 1
        whole = line(number)
        cut %= len(whole)
        self.rig.append(whole[:cut])
        self.begun = whole[cut:]
        self.written.append(number)

    def complete(self) -> None:
        if self.begun:
            self.rig.append(self.begun)
            self.begun = b""

    def ship(self, _: int) -> None:
        self.rig.ship()

    def kill(self, _: int) -> None:
        """At any point: with or without the last positions on disk."""
        self.rig.kill()

    def kill_in_a_request(self, steps: int) -> None:
        """The process is gone after so many answers."""
        answers = steps % 4

        class Killed(Exception):
            pass

        mood, left = self.rig.sink.mood, [answers]

        def deadly(batch: Sequence[Entry]) -> Outcome:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return mood(batch)

        self.rig.sink.mood = deadly
        with contextlib.suppress(Killed):
            self.rig.ship()
        self.rig.sink.mood = mood
        self.rig.kill()

    def rename(self, _: int) -> None:
        """Rotation. Looked at before, so that the old file is known."""
        if not self.rig.path.exists():
            return
        self.complete()
        self.rig.ship()
        self.turns += 1
        os.rename(self.rig.path, self.rig.path.with_name(f"{self.rig.path.name}.{self.turns}"))

    def truncate(self, _: int) -> None:
        """copytruncate. Read before: what was not is in the copy only."""
        if not self.rig.path.exists():
            return
        self.complete()
        self.rig.ship()
        os.truncate(self.rig.path, 0)

    def stop(self, _: int) -> None:
        """An orderly end, with or without the sink's help, and a new pilot."""
        self.complete()
        self.rig.finish(seconds=1.0)
        self.rig.kill()


STEPS: dict[str, Callable[[World, int], None]] = {
    "write": World.write,
    "begin": World.begin,
    "ship": World.ship,
    "kill": World.kill,
    "kill_in_a_request": World.kill_in_a_request,
    "rename": World.rename,
    "truncate": World.truncate,
    "stop": World.stop,
}


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(1, 400)), max_size=14),
    st.integers(0, 1 << 32),
)
def test_each_record_once_at_the_reader(steps: list[tuple[str, int]], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), seed)
        for name, number in steps:
            STEPS[name](world, number % 60 if name == "write" else number)
        world.complete()
        world.failing = False
        world.rig.finish(seconds=600.0)
        seen = [json.loads(e.payload) for e in world.rig.sink.visible()]
        texts = [p for p in seen if "seq" not in p]
        numbers = [p["seq"] for p in seen if "seq" in p]
        assert not texts, "a torn line"
        assert len(numbers) == len(set(numbers)), "doubled"
        assert sorted(numbers) == sorted(world.written), "lost"
        assert numbers == sorted(numbers), "out of order"
