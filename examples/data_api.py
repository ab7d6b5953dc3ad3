"""The Data API: store two files, and fetch them back from the second of two
places.

    python examples/data_api.py [PREFIX]

PREFIX is where the files go (`gs://bucket/path/`, `s3://...`, `davs://...`,
`root://...`); a folder of this machine without it.
"""

import sys
import tempfile
from pathlib import Path

from pilot_core.api.data import DataClient, FileIn, FileOut


def main() -> int:
    """Run the example; 0 if every byte came back."""
    with tempfile.TemporaryDirectory() as scratch, DataClient() as data:
        made, back = Path(scratch, "made"), Path(scratch, "back")
        made.mkdir()
        back.mkdir()
        prefix = sys.argv[1] if len(sys.argv) > 1 else f"file://{scratch}/storage/"
        for name in ("calexp.fits", "catalog.parquet"):
            (made / name).write_bytes(name.encode() * 100_000)

        # In the foreground: returns when all is said.
        outputs = [FileOut(path.name, (prefix,)) for path in sorted(made.iterdir())]
        stored = data.stage_out(outputs, made, timeout_s=60)
        for name, file in stored.done.items():
            print(f"stored {name}: {file.size} bytes, adler32 {file.adler32}, at {file.url}")

        # In the background, with a progress callback and a place that has
        # nothing.
        inputs = [
            FileIn(name, ("file:///nowhere/at/all", file.url), file.size, f"ad:{file.adler32}")
            for name, file in stored.done.items()
        ]
        handle = data.start_stage_in(inputs, back, timeout_s=60, progress=show)
        fetched = handle.result(timeout_s=60)
        for name, error in {**stored.failed, **fetched.failed}.items():
            print(f"failed {name}: {error.code.name} ({int(error.code)}): {error.diag}")
        same = all((back / f.name).read_bytes() == (made / f.name).read_bytes() for f in inputs)
        print("every byte came back" if same and inputs else "something is missing")
        return 0 if stored.ok and fetched.ok and same else 1


def show(name: str, done: int, total: int) -> None:
    """Print how far a file is."""
    print(f"{name}: {done} of {total} bytes")


if __name__ == "__main__":
    sys.exit(main())
