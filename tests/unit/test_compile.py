"""Payload to container spec: pairs of files in `tests/golden/compile`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pilot_core.compile import container_spec, job_labels, job_paths
from pilot_core.config import PayloadConfig
from pilot_core.model.job import Job
from pilot_core.model.payload import PayloadKind, PayloadSpec

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "compile"


@pytest.mark.parametrize("name", sorted(p.name.removesuffix(".in.json") for p in GOLDEN.glob("*.in.json")))
def test_golden(name: str) -> None:
    given: dict[str, Any] = json.loads((GOLDEN / f"{name}.in.json").read_text())
    expected = json.loads((GOLDEN / f"{name}.out.json").read_text())
    job = Job(**given["job"])
    paths = job_paths(job, home=Path(given["home"]), shared_root=Path(given["shared_root"]))
    payload = PayloadSpec(
        panda_id=job.panda_id,
        kind=PayloadKind(given["payload"].pop("kind")),
        shell=tuple(given["payload"].pop("shell")),
        **given["payload"],
    )
    labels = job_labels(job, queue=given["queue"], owner=given["owner"])
    spec = container_spec(
        payload, paths, labels=labels, config=PayloadConfig(**given["config"]), tasks=given["tasks"]
    )
    assert json.loads(json.dumps(asdict(spec), default=str)) == expected


def test_there_are_golden_files() -> None:
    assert len(list(GOLDEN.glob("*.in.json"))) >= 2
