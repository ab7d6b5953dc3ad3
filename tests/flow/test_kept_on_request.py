"""`nocleanup`: the operator wants to look at what the job left behind, which
is not its user's secrets.
"""

from pathlib import Path

import pytest

from pilot_core.experiments.files import SECRETS
from tests.fakes.world import Twist, World


@pytest.mark.parametrize("asked", [True, False])
def test_a_jobs_folder_stays_if_the_server_asks(tmp_path: Path, asked: bool) -> None:
    twists = [Twist("Server.update_job:starting", "command", "nocleanup")] if asked else []
    world = World(
        tmp_path,
        jobs=[{"payload": {"FAKE_SLEEP": "100"}, "secrets": '{"TOKEN": "hunter2-hunter2"}'}],
        settings={"worker": {"cleanup": True}, "heartbeat": {"period_s": 10.0}},
        twists=twists,
    )
    world.run()
    assert world.server.store.job(world.ids[0]).status == "finished"
    folder = world.home / f"PanDA_Pilot-{world.ids[0]}"
    assert folder.is_dir() is asked
    assert not list(tmp_path.rglob(f"*{SECRETS}*"))
