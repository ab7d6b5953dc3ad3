"""Debug mode: an operator looks at a running job, and nothing else changes."""

from pathlib import Path

import pytest

from tests.fakes.world import Twist, World

PERIOD_S = 60.0
LENGTH_S = 600


@pytest.mark.parametrize(
    ("definition", "command", "shown"),
    [
        ({}, "", ""),
        ({}, "tail payload.stdout", "[payload.stdout]\nhello\n"),
        ({}, "ps", "PID COMMAND\n1 /bin/sh -c run it"),
        ({"debug_command": "ps"}, "", "PID COMMAND\n1 /bin/sh -c run it"),
        ({"debug_command": "ps"}, "tail payload.stdout", "[payload.stdout]\nhello\n"),
    ],
)
def test_each_reply_says_debug(tmp_path: Path, definition: dict[str, str], command: str, shown: str) -> None:
    payload = {"FAKE_SLEEP": str(LENGTH_S), "FAKE_STDOUT": "hello\n"}
    world = World(
        tmp_path,
        jobs=[{"debug": "True", "payload": payload, **definition}],
        settings={"heartbeat": {"debug_period_s": PERIOD_S}},
        twists=[Twist("Server.update_job:starting", "command", command)],
    )
    world.run()
    updates = world.server.store.updates(world.ids[0])
    assert updates[-1].status == "finished"
    # Two states, two looks at once, and then one in each period of at least
    # 0.8 of its length.
    assert LENGTH_S / PERIOD_S <= len(updates) <= 5 + LENGTH_S / (0.8 * PERIOD_S)
    told = [str(u.fields.get("stdout") or "") for u in updates]
    assert shown in told[-3]
