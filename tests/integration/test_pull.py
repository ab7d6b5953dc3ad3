"""Image pulls by the real daemon from a registry of our own on loopback."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from container.docker_engine import DockerEngine
from container.errors import Cancelled, ImageError, ImageNotFound
from container.reaper import Owner
from container.spec import PullProgress
from pilot_core.base.clock import SystemClock
from tests.fakes.patience import stated

pytestmark = pytest.mark.docker

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """As much of a registry (distribution API v2) as one pull needs.

    The daemon takes loopback registries without TLS. The layer is random, so
    that no earlier run has it, and can be made to stop half way.
    """

    def __init__(self) -> None:
        content = os.urandom(2_000_000)
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            info = tarfile.TarInfo("data")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        layer = gzip.compress(plain.getvalue())
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [digest(plain.getvalue())]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": digest(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(layer),
                        "digest": digest(layer),
                    }
                ],
            }
        ).encode()
        self.stalled = stalled = threading.Event()
        self.go_on = go_on = threading.Event()
        go_on.set()
        blobs = {digest(config): config, digest(layer): layer}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            replies: ClassVar[dict[str, tuple[str, bytes]]] = {
                "/v2/": ("application/json", b"{}"),
                "/v2/test/image/manifests/1": (MANIFEST, manifest),
                f"/v2/test/image/manifests/{digest(manifest)}": (MANIFEST, manifest),
                **{
                    f"/v2/test/image/blobs/{name}": ("application/octet-stream", b)
                    for name, b in blobs.items()
                },
            }

            def do_GET(self) -> None:
                kind, body = self.replies.get(self.path, ("", b""))
                if not kind:
                    text = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
                    self.start(404, "application/json", text)
                    self.wfile.write(text)
                    return
                self.start(200, kind, body)
                if self.command == "HEAD":
                    return
                half = len(body) // 2 if body is layer else 0
                self.wfile.write(body[:half])
                if body is layer and not go_on.is_set():
                    stalled.set()
                    go_on.wait(30)
                with contextlib.suppress(OSError):
                    self.wfile.write(body[half:])

            do_HEAD = do_GET

            def start(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", digest(body))
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.image = f"{self.address}/test/image:1"

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        subprocess.run(["docker", "rmi", self.image], capture_output=True, timeout=30)


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    try:
        yield registry
    finally:
        registry.close()


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    engine = DockerEngine(clock=SystemClock())
    try:
        yield engine
    finally:
        engine.close()


def test_a_pull_with_progress_and_none_the_second_time(registry: Registry, engine: DockerEngine) -> None:
    seen: list[PullProgress] = []
    never = threading.Event()
    engine.ensure_image(registry.image, timeout_s=30, on_progress=seen.append, cancelled=never)
    assert (seen[-1].layers_done, seen[-1].layers) == (1, 1)
    assert seen[-1].bytes_done == seen[-1].bytes
    assert "Pull complete" in seen[-1].text
    seen.clear()
    engine.ensure_image(registry.image, timeout_s=30, on_progress=seen.append, cancelled=never)
    assert not seen


def test_an_image_store_above_its_limit_loses_what_pilots_pulled(
    registry: Registry, engine: DockerEngine, tmp_path: Path
) -> None:
    never, other = threading.Event(), Registry()
    try:
        with Owner(tmp_path) as owner:
            engine.limit_images(owner, 1)
            for image in (registry.image, other.image):
                engine.ensure_image(image, timeout_s=30, on_progress=print, cancelled=never)
            there = subprocess.run(
                ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"],
                capture_output=True,
                timeout=20,
                check=True,
                text=True,
            ).stdout.split()
    finally:
        other.close()
    assert other.image in there
    assert registry.image not in there


def test_an_image_that_is_not_there(registry: Registry, engine: DockerEngine) -> None:
    name = f"{registry.address}/test/image:{uuid.uuid4().hex}"
    with pytest.raises(ImageNotFound, match="manifest unknown"):
        engine.ensure_image(name, timeout_s=30, on_progress=print, cancelled=threading.Event())


def test_a_name_that_is_none(engine: DockerEngine) -> None:
    with pytest.raises(ImageError, match="invalid reference format"):
        engine.ensure_image("Not A Name", timeout_s=30, on_progress=print, cancelled=threading.Event())


def test_a_cancel_is_heard_at_once_and_ends_the_pull(registry: Registry, engine: DockerEngine) -> None:
    registry.go_on.clear()
    cancelled = threading.Event()

    def cancel_when_stalled() -> None:
        registry.stalled.wait(20)
        cancelled.set()

    cancel = threading.Thread(target=cancel_when_stalled)
    cancel.start()
    with pytest.raises(Cancelled, match="was cancelled"):
        engine.ensure_image(registry.image, timeout_s=60, on_progress=print, cancelled=cancelled)
    cancel.join(5)
    # The daemon has given up, too: with the rest at hand it does not go on.
    registry.go_on.set()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        there = subprocess.run(
            ["docker", "image", "inspect", registry.image], capture_output=True, timeout=20
        )
        assert there.returncode != 0
        threading.Event().wait(0.1)


def test_a_pull_has_its_time(registry: Registry, engine: DockerEngine) -> None:
    registry.go_on.clear()
    begun = time.monotonic()
    with pytest.raises(ImageError, match="not here after 1 s"):
        engine.ensure_image(registry.image, timeout_s=1, on_progress=print, cancelled=threading.Event())
    assert time.monotonic() - begun < stated(4)
