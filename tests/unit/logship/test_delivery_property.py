"""Whatever happens to file, shipper and service: each record once, in order.

`PILOT_SOAK=<cases>` runs more cases than usual, `PILOT_SOAK_FROM=<number>`
from that one on; `PILOT_CASE=<number>` runs one of them.
"""

import contextlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pilot_core.logship.contract import Entry, Outcome, OutcomeKind
from tests.fakes.disk import MemoryDisk, RealDisk, WriterDisk
from tests.fakes.shipping import Rig, line
from tests.fakes.sink import AGAIN, LOST_ANSWER, YES, MemorySink

CASES = int(os.environ.get("PILOT_SOAK", "10000"))
FIRST = int(os.environ.get("PILOT_SOAK_FROM", "0"))
# A test each, so that several processes share them and a report says how far
# it has come.
BLOCK = 5000
ON_DISK = 150
CASE = os.environ.get("PILOT_CASE", "")

DENIED = Outcome(OutcomeKind.DENIED, detail="403")
BUSY = Outcome(OutcomeKind.BUSY, detail="429 requests")
FULL = Outcome(OutcomeKind.FULL, detail="429 bytes")


class World:
    """A rig, and the writer's side: what was written, and a line begun."""

    def __init__(self, folder: Path, disk: WriterDisk, chance: random.Random) -> None:
        self.failing = True

        def mood(batch: Sequence[Entry]) -> Outcome:
            if not self.failing:
                return YES
            return chance.choice((YES, YES, YES, AGAIN, LOST_ANSWER, DENIED, BUSY, FULL))

        # Small bounds, so that few records make many chunks, loads and
        # requests.
        self.rig = Rig(folder, MemorySink(mood), memory_bytes=1 << 20, disk=disk)
        self.rig.sink.limits = self.rig.sink.limits.__class__(batch_entries=7)
        self.written: list[int] = []
        self.begun = b""
        self.turns = 0

    def write(self, number: int) -> None:
        self.complete()
        self.written += self.rig.lines(number % 60)

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

        class Killed(BaseException):
            """Not what a sink may raise."""

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

    def look(self, _: int) -> None:
        """At the names only, as during a request or a wait."""
        self.rig.shipper._look()

    def wait(self, number: int) -> None:
        """Shorter and longer than anything the shipper waits for."""
        self.rig.clock.now += (3.0, 12.0, 65.0, 700.0, 9 * 3600.0)[number % 5]

    def rename(self, _: int) -> None:
        """Rotation, as Python's handler does it: the newest is `.1`. Nobody need
        have looked at the file, or know that it was truncated.
        """
        disk, path = self.rig.disk, self.rig.path
        if not disk.exists(path):
            return
        self.complete()
        for turn in range(self.turns, 0, -1):
            disk.rename(path.with_name(f"{path.name}.{turn}"), path.with_name(f"{path.name}.{turn + 1}"))
        self.turns += 1
        disk.rename(path, path.with_name(f"{path.name}.1"))

    def truncate(self, number: int) -> None:
        """copytruncate. Read before: what was not is in the copy only. Then it
        may grow past the old place before anybody looks.
        """
        if not self.rig.disk.exists(self.rig.path):
            return
        self.complete()
        failing, self.failing = self.failing, False
        self.rig.ship()
        self.failing = failing
        self.rig.disk.truncate(self.rig.path)
        if number % 2:
            self.write(number)

    def stop(self, _: int) -> None:
        """An orderly end, with or without the sink's help, and a new pilot."""
        self.complete()
        self.rig.finish(seconds=1.0)
        self.rig.kill()

    def verdict(self) -> str:
        """What a reader can complain of in the end; empty if it is all well."""
        self.complete()
        self.failing = False
        self.rig.finish(seconds=600.0)
        seen = [json.loads(e.payload) for e in self.rig.sink.visible()]
        numbers = [p["seq"] for p in seen if "seq" in p]
        complaints = {
            "a torn line": len(numbers) < len(seen),
            "doubled": len(numbers) != len(set(numbers)),
            "lost": set(numbers) != set(self.written),
            "out of order": numbers != sorted(numbers),
        }
        return ", ".join(what for what, so in complaints.items() if so)


STEPS: Sequence[Callable[[World, int], None]] = (
    World.write,
    World.begin,
    World.ship,
    World.look,
    World.wait,
    World.kill,
    World.kill_in_a_request,
    World.rename,
    World.truncate,
    World.stop,
)


def script(chance: random.Random) -> Iterator[tuple[Callable[[World, int], None], int]]:
    """Up to 14 things that happen, each with a number that it may use."""
    for _ in range(chance.randint(1, 14)):
        yield chance.choice(STEPS), chance.randint(1, 400)


def run(case: int, folder: Path, disk: WriterDisk) -> None:
    """One generated case; its number makes it again."""
    chance = random.Random(case)
    world = World(folder, disk, chance)
    story = list(script(chance))
    for step, number in story:
        step(world, number)
    complaint = world.verdict()
    told = [f"{step.__name__}({number})" for step, number in story]
    assert not complaint, f"case {case}: {complaint} after {', '.join(told)}"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What a failing service is worth in the log is nothing to keep a million
    times.
    """
    caplog.set_level("CRITICAL", logger="pilot_core.logship")


@pytest.mark.parametrize("first", [int(CASE)] if CASE else range(FIRST, CASES, BLOCK))
def test_each_record_once_at_the_reader(first: int) -> None:
    for case in range(first, first + 1 if CASE else min(first + BLOCK, CASES)):
        run(case, Path("/memory"), MemoryDisk())


def test_each_record_once_at_the_reader_on_a_real_disk() -> None:
    for case in range(ON_DISK):
        with tempfile.TemporaryDirectory() as folder:
            run(case, Path(folder), RealDisk())


def test_the_judge_sees_each_kind_of_damage() -> None:
    def world() -> World:
        made = World(Path("/memory"), MemoryDisk(), random.Random(1))
        made.failing = False
        made.write(5)
        made.ship(0)
        return made

    lost = world()
    del lost.rig.sink.stored[2]
    doubled = world()
    doubled.rig.sink.stored.append(doubled.rig.sink.stored[4]._replace(insert_id="another"))
    turned = world()
    turned.rig.sink.stored.reverse()
    torn = world()
    torn.rig.append(b'{"half": \n')
    assert [w.verdict() for w in (lost, doubled, turned, torn, world())] == [
        "lost",
        "doubled",
        "out of order",
        "a torn line",
        "",
    ]
