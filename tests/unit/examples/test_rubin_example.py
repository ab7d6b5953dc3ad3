"""The pure files of examples/rubin: what they submit, and what they call a
success.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pilot_core.local.rows import JobRow

EXAMPLE = Path(__file__).parents[3] / "examples" / "rubin"
QUANTA = [
    {"task": task, "exposure": exposure, "detector": 0, "id": f"{task}-{exposure}"}
    for task in ("subtractBias", "findStars", "measureSeeing")
    for exposure in (20260115001, 20260115002)
]


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """Its modules find each other by folder, as when `run.py` runs."""
    names = ("jobs", "verdict")
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield {name: __import__(name) for name in names}
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def steps(example: dict[str, ModuleType]) -> list:
    text = "".join(json.dumps(quantum) + "\n" for quantum in QUANTA)
    return example["jobs"].plan(example["jobs"].read_quanta(text))


def record(number: int, **more: object) -> dict[str, object]:
    return {"name": "lsst.findStars", "message": f"line {number}", "levelname": "INFO", "MDC": {}, **more}


def test_each_quantum_is_in_one_job_and_only_the_dark_one_fails(steps: list) -> None:
    assert [step.name for step in steps] == [
        "initialise",
        "subtractBias",
        "findStars",
        "measureSeeing",
        "measureSeeing-dark",
    ]
    assert sorted(q.id for step in steps for q in step.quanta) == sorted(q["id"] for q in QUANTA)
    assert [step.state for step in steps] == ["finished"] * 4 + ["failed"]


@pytest.mark.parametrize("kind", ["image", "venv"])
def test_the_runner_survives_base64_and_shell(
    example: dict[str, ModuleType], steps: list, tmp_path: Path, kind: str
) -> None:
    jobs = example["jobs"]
    data = tmp_path / "a folder"
    payload = jobs.Payload(data, image="img:1") if kind == "image" else jobs.Payload(data, venv=tmp_path)
    for step in steps:
        made = jobs.definition(payload, step, panda_id=9, transformations="http://panda/trf/", task_id=7)
        assert made["PandaID"] == 9
        assert made["transformation"] == "http://panda/trf/bash-c-enc"
        script = base64.b64decode(made["jobPars"]).decode()
        assert "@" not in script
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, timeout=10)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert ("docker run" in script) == (kind == "image")
        # The command itself: as bash sees it behind the last layer of quotes.
        command = jobs.payload_command(payload, step)
        words = subprocess.run(
            ["bash", "-c", f"logDir=/l; printf '%s\\n' {command.rpartition('; ')[2]}"],
            text=True,
            capture_output=True,
            timeout=10,
            check=True,
        ).stdout.splitlines()
        assert words[:6] == ["prmon", "-i", "1", "-f", "/l/prmon.txt", "-j"]
        assert str(data / "labcam.qg") in words
        assert words[-1] == (",".join(q.id for q in step.quanta) or str(data / "labcam.qg"))


def logs_with(tmp_path: Path, records: list[dict[str, object]]) -> Path:
    (tmp_path / "pilotlog.txt").write_text("end\n")
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in records]
    (tmp_path / "payload-log.json").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def shipped_file(tmp_path: Path, records: list[dict[str, object]]) -> Path:
    path = tmp_path / "shipped.jsonl"
    added = {"PandaJobID": "5", "TaskID": "1"}
    path.write_text("".join(json.dumps({"jsonPayload": {**added, **item}}) + "\n" for item in records))
    return path


def job(status: str = "finished", exit_code: int = 0) -> JobRow:
    columns = {"transExitCode": exit_code}
    return JobRow(5, "LOCAL", {}, status=status, columns=columns, started_s=1.0, ended_s=2.0)


WRITTEN = [record(1), record(1), record(2, message="two\u2028lines", exc_info="Traceback\n\n")]


@pytest.mark.parametrize(
    ("arrived", "complaint"),
    [
        (WRITTEN, ""),
        (list(reversed(WRITTEN)), ""),
        (WRITTEN[:2], "1 records did not arrive"),
        (WRITTEN[1:], "1 records did not arrive"),
        ([*WRITTEN, WRITTEN[2]], "1 records arrived twice or were never written"),
        ([], "3 records did not arrive"),
    ],
)
def test_each_record_must_arrive_once(
    example: dict[str, ModuleType],
    steps: list,
    tmp_path: Path,
    arrived: list[dict[str, object]],
    complaint: str,
) -> None:
    verdict = example["verdict"]
    shipped = verdict.shipped_by_job(shipped_file(tmp_path, arrived)).get(5, "")
    result = verdict.judge(steps[0], job(), logs_with(tmp_path, WRITTEN), shipped)
    assert result.complaint == complaint
    assert (result.written, result.shipped) == (3, len(arrived))


@pytest.mark.parametrize(
    ("step", "ended", "complaint"),
    [
        (0, job("failed", 0), "is failed, should be finished"),
        (4, job("finished", 0), "is finished, should be failed; exit code 0, should be 1"),
        (4, job("failed", 137), "exit code 137, should be 1"),
        (4, job("failed", 1), ""),
        (0, JobRow(5, "LOCAL", {}), "no pilot ran it, see the worker's log"),
    ],
)
def test_a_job_must_end_as_planned(
    example: dict[str, ModuleType], steps: list, tmp_path: Path, step: int, ended: JobRow, complaint: str
) -> None:
    text = "".join(json.dumps({"PandaJobID": 5, **item}) + "\n" for item in WRITTEN)
    result = example["verdict"].judge(steps[step], ended, logs_with(tmp_path, WRITTEN), text)
    assert result.complaint == complaint
