"""An image payload leaves its error report where it runs: in the shared
folder.
"""

import json
from pathlib import Path

from pilot_core.experiments.generic import GenericExperiment
from pilot_core.model.payload import JobPaths


def test_an_error_report_in_the_shared_folder_is_read(tmp_path: Path) -> None:
    paths = JobPaths(home=tmp_path, work=tmp_path / "work", shared=tmp_path / "shared")
    paths.work.mkdir()
    paths.shared.mkdir()
    report = {"error_code": 77, "error_diag": "no calibration for detector 3"}
    (paths.shared / "payload_error_report.json").write_text(json.dumps(report))
    result = GenericExperiment().judge(1, paths, out_of_memory=False)
    assert (result.exe_code, result.exe_diag) == (77, "no calibration for detector 3")
    assert "no calibration" in result.diag
