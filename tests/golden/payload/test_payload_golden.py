"""Jobs as they come, payloads as they must be: one pair of files a case.

`<case>.job.json` holds experiment, job, queue, paths and the pilot's
environment; `<case>.spec.json` the payload spec. After a change that is
meant, write the new text of a failing case (it is in the failure) to its file
and review the difference.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import pilot_core
from pilot_core.experiments.generic import GenericExperiment
from pilot_core.experiments.rubin import RubinExperiment
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths, PayloadSpec
from pilot_core.model.queue import Queue

HERE = Path(__file__).parent
CASES = sorted(path.name.removesuffix(".job.json") for path in HERE.glob("*.job.json"))
EXPERIMENTS = {"generic": GenericExperiment, "rubin": RubinExperiment}


def spec_of(case: dict[str, Any]) -> PayloadSpec:
    experiment = EXPERIMENTS[case["experiment"]](pass_environment=case.get("pass_environment", ()))
    paths = JobPaths(**{name: Path(value) for name, value in case["paths"].items()})
    return experiment.payload(Job(**case["job"]), Queue(**case["queue"]), paths, case["environment"])


def text_of(spec: PayloadSpec) -> str:
    document = dataclasses.asdict(spec)
    document["environment"]["PILOT_VERSION"] = document["environment"]["PILOT_VERSION"].replace(
        pilot_core.__version__, "<version>"
    )
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_there_are_cases() -> None:
    assert len(CASES) >= 5


@pytest.mark.parametrize("name", CASES)
def test_payload(name: str) -> None:
    case = json.loads((HERE / f"{name}.job.json").read_text(encoding="utf-8"))
    assert text_of(spec_of(case)) == (HERE / f"{name}.spec.json").read_text(encoding="utf-8")
