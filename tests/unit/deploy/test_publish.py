"""The upload script: names, checksums, and that a version is made once."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from pilot_core import __version__
from pilot_starter.signature import check_signature
from tests.fakes.gcs import BUCKET, gcs_emulator
from tests.fakes.gcs_server import GcsServer, gcs_server

SCRIPT = Path(__file__).resolve().parents[3] / "deploy/publish.py"


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_publish", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _module()


def bucket(server: GcsServer) -> storage.Bucket:
    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": server.url}
    )
    return client.bucket("bucket")


@pytest.mark.gcs
def test_the_program_uploads_and_lists(tmp_path: Path) -> None:
    with gcs_emulator(tmp_path) as url:
        done = subprocess.run(
            [sys.executable, SCRIPT, BUCKET, "--prefix", "pilot/"],
            env={"PATH": os.environ["PATH"], "STORAGE_EMULATOR_HOST": url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        objects = {}
        for name in (f"pilot3-{__version__}.tar.gz", f"wrapper-{__version__}.sh", "pilot3.json"):
            media = f"{url}/download/storage/v1/b/{BUCKET}/o/pilot%2F{name}?alt=media"
            with urllib.request.urlopen(media, timeout=10) as answer:
                objects[name] = answer.read()
    listed = json.loads(objects["pilot3.json"])
    assert listed["version"] == __version__
    for part, name in (("pilot", f"pilot3-{__version__}.tar.gz"), ("wrapper", f"wrapper-{__version__}.sh")):
        entry = listed[part]
        assert entry["name"] == f"pilot/{name}"
        assert entry["sha256"] == hashlib.sha256(objects[name]).hexdigest()
        assert entry["size"] == len(objects[name])
    url = f"https://storage.googleapis.com/{BUCKET}/pilot/pilot3-{__version__}.tar.gz"
    assert done.stdout.splitlines()[-1] == f"{url}#sha256={listed['pilot']['sha256']}"


def test_the_same_again_is_no_error() -> None:
    with gcs_server() as server:
        first = script.publish(bucket(server), b"pilot", b"wrapper", prefix="", tag="1.0")
        assert script.publish(bucket(server), b"pilot", b"wrapper", prefix="", tag="1.0") == first
        assert sorted(server.objects) == ["pilot3-1.0.tar.gz", "pilot3.json", "wrapper-1.0.sh"]


def test_a_version_is_never_overwritten() -> None:
    with gcs_server() as server:
        script.publish(bucket(server), b"pilot", b"wrapper", prefix="", tag="1.0")
        listed = server.objects["pilot3.json"].data
        with pytest.raises(script.Differs, match=r"pilot3-1\.0\.tar\.gz holds other bytes"):
            script.publish(bucket(server), b"other", b"wrapper", prefix="", tag="1.0")
        assert server.objects["pilot3-1.0.tar.gz"].data == b"pilot"
        assert server.objects["pilot3.json"].data == listed


def test_a_signature_lies_beside_it_and_may_be_renewed(tmp_path: Path) -> None:
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    kind = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    for words in (("genpkey", *kind, "-out", key), ("pkey", "-in", key, "-pubout", "-out", public)):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
    (tmp_path / "t.gz").write_bytes(b"pilot")
    with gcs_server() as server:
        for _ in range(2):
            script.publish(bucket(server), b"pilot", b"wrapper", prefix="p/", tag="1.0", key=key)
            check_signature(tmp_path / "t.gz", server.objects["p/pilot3-1.0.tar.gz.sig"].data, public)
        (tmp_path / "bad.pem").touch()
        with pytest.raises(SystemExit, match=r"bad\.pem"):
            script.publish(
                bucket(server), b"pilot", b"wrapper", prefix="", tag="2.0", key=tmp_path / "bad.pem"
            )
        assert "pilot3-2.0.tar.gz" not in server.objects, "nothing is published that cannot be signed"


def test_without_credentials_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, BUCKET],
        # No metadata server to ask either.
        env={
            "PATH": os.environ["PATH"],
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json"),
            "NO_GCE_CHECK": "true",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"gs://{BUCKET}: ")
    assert f"{tmp_path}/none.json" in done.stderr
    assert done.stderr.count("\n") == 1
