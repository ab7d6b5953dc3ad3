"""Put the pilot and the wrapper into a bucket, each with its SHA-256.

    .venv/bin/python deploy/publish.py BUCKET [--prefix PREFIX] [--sign KEY.pem]

makes the tarball of this tree and uploads

    PREFIXpilot3-<version>.tar.gz     never overwritten: a version is made once
    PREFIXwrapper-<version>.sh        the same
    PREFIXpilot3-<version>.tar.gz.sig with --sign: what `openssl dgst -sha256
                                      -sign` makes of it, for PILOT_PUBLIC_KEY
    PREFIXpilot3.json                 name, version, sha256, size, url of both

and prints what to enter as a queue's `pilot_url`. Credentials are Google's
application default ones; STORAGE_EMULATOR_HOST is honoured, without any.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import google_crc32c
from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage

__all__ = ["Differs", "main", "publish"]

ROOT = Path(__file__).resolve().parents[1]
#: Seconds for one request; the files are below 1 MB.
TIMEOUT_S = 60.0


class Differs(Exception):
    """There is another file under the name of this version."""


def version() -> str:
    """The pilot's, as the tarball's PILOTVERSION has it."""
    found = re.search(r'^__version__ = "(.+)"', (ROOT / "pilot_core/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("pilot_core/__init__.py has no __version__")
    return found[1]


def put_once(bucket: storage.Bucket, name: str, data: bytes, kind: str) -> dict[str, object]:
    """Upload a file under a name of its own; the same bytes again are no
    error.

    Raises
    ------
    Differs
        If the name is taken by other bytes.
    """
    blob = bucket.blob(name)
    try:
        # Generation 0: only where there is none; the server decides, not a
        # look before.
        blob.upload_from_string(data, content_type=kind, if_generation_match=0, timeout=TIMEOUT_S)
    except PreconditionFailed as err:
        blob.reload(timeout=TIMEOUT_S)
        checksum = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        if (blob.size, blob.crc32c) != (len(data), checksum):
            raise Differs(f"gs://{bucket.name}/{name} holds other bytes: raise the version") from err
    url = f"https://storage.googleapis.com/{bucket.name}/{name}"
    return {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "url": url}


def sign(data: bytes, key: Path) -> bytes:
    """A detached signature, with the PEM key of an elliptic curve or RSA."""
    command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{key}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def publish(
    bucket: storage.Bucket, tarball: bytes, wrapper: bytes, *, prefix: str, tag: str, key: Path | None = None
) -> dict[str, object]:
    """Upload both, then the list that names them.

    The list is replaced, and so is the signature, which is another one each
    time and by each key.
    """
    signature = None if key is None else sign(tarball, key)
    files = {
        "pilot": put_once(bucket, f"{prefix}pilot3-{tag}.tar.gz", tarball, "application/gzip"),
        "wrapper": put_once(bucket, f"{prefix}wrapper-{tag}.sh", wrapper, "text/x-shellscript"),
    }
    if signature is not None:
        blob = bucket.blob(f"{files['pilot']['name']}.sig")
        blob.upload_from_string(signature, content_type="application/octet-stream", timeout=TIMEOUT_S)
    listed: dict[str, object] = {"version": tag, **files}
    blob = bucket.blob(f"{prefix}pilot3.json")
    # Nobody may be served yesterday's list.
    blob.cache_control = "no-cache"
    text = json.dumps(listed, indent=1) + "\n"
    blob.upload_from_string(text, content_type="application/json", timeout=TIMEOUT_S)
    return listed


def main(argv: Sequence[str]) -> int:
    """Make, upload, say what to do with it."""
    parser = argparse.ArgumentParser(description="Put the pilot and the wrapper into a bucket.")
    parser.add_argument("bucket", help="for example drp-us-central1-containers")
    parser.add_argument("--prefix", default="", help="in front of every name, for example pilot/")
    parser.add_argument("--sign", metavar="KEY.pem", type=Path, help="private key to sign the pilot with")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        tarball = Path(folder) / "pilot3.tar.gz"
        script = [str(ROOT / "scripts/tarball.sh"), str(tarball)]
        subprocess.run(script, check=True, stdout=subprocess.DEVNULL, timeout=60)
        data = tarball.read_bytes()
    emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    wrapper = (ROOT / "pilot_starter/wrapper.sh").read_bytes()
    try:
        client = storage.Client.create_anonymous_client() if emulated else storage.Client()
        listed = publish(
            client.bucket(options.bucket),
            data,
            wrapper,
            prefix=options.prefix,
            tag=version(),
            key=options.sign,
        )
    except (Differs, GoogleAuthError, GoogleAPICallError, OSError) as err:
        # Without credentials Google's words say where it looked for them.
        print(f"gs://{options.bucket}: {' '.join(str(err).split())}", file=sys.stderr)
        return 1
    print(json.dumps(listed, indent=1))
    pilot = listed["pilot"]
    assert isinstance(pilot, dict)
    print(f"\nCRIC pilot_url, or PILOT_SOURCE of a template:\n{pilot['url']}#sha256={pilot['sha256']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
