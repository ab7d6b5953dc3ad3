"""`scripts/venv.sh`: a Python that will not do is named before anything is
made.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts/venv.sh"
OLD = """\
#!/bin/sh
shift
exec {python} -c 'import sys; sys.version_info = (3, 9); sys.version = "3.9.2 old"; exec(sys.argv[1])' "$1"
"""


@pytest.mark.parametrize("made", [False, True])
def test_a_python_that_will_not_do(tmp_path: Path, made: bool) -> None:
    python = tmp_path / "python3.9"
    if made:
        python.write_text(OLD.format(python=sys.executable))
        python.chmod(0o755)
    done = subprocess.run(
        [SCRIPT, python, tmp_path / "venv"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    words = "Python 3.11 or newer is needed, " if made else f"there is no {python}: "
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "venv").exists()
