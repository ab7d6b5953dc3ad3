"""Progress lines added up, and why there is no image."""

import pytest

from container.errors import ImageError, ImageNotFound, image_error
from container.pull import Layers
from container.spec import PullProgress


def test_a_pull_of_two_layers() -> None:
    layers = Layers()
    assert layers.feed({"status": "Pulling from a/b", "id": "latest"}) is None
    assert layers.feed({"status": "Pulling fs layer", "id": "l1"}) == PullProgress(
        0, 1, 0, 0, "l1: Pulling fs layer"
    )
    layers.feed({"status": "Already exists", "id": "l2"})
    half = layers.feed({"status": "Downloading", "id": "l1", "progressDetail": {"current": 50, "total": 100}})
    assert half == PullProgress(1, 2, 50, 100, "l1: Downloading")
    done = layers.feed({"status": "Download complete", "id": "l1", "progressDetail": {}})
    assert done == PullProgress(1, 2, 100, 100, "l1: Download complete")
    # Extracting counts bytes of its own, which are not downloaded ones.
    layers.feed({"status": "Extracting", "id": "l1", "progressDetail": {"current": 1, "total": 100}})
    assert layers.feed({"status": "Pull complete", "id": "l1"}) == PullProgress(
        2, 2, 100, 100, "l1: Pull complete"
    )
    assert layers.feed({"status": "Digest: sha256:x"}) is None


D = "sha256:24de403604f496a8d34cc960f39c3f3d825ebba522d8be7b256f8b289a403508"
R = 'failed to pull and unpack image "reg.io/a/b:1": failed to resolve reference "reg.io/a/b:1": '


@pytest.mark.parametrize(
    "words",
    [
        # Docker
        "manifest for busybox:nope not found: manifest unknown: manifest unknown",
        "pull access denied for nope, repository does not exist or may require 'docker login': denied: "
        "requested access to the resource is denied",
        "No such image: a/b:1",
        "name unknown: repository name not known to registry",
        'Head "https://reg.io/v2/a/b/manifests/1": unauthorized: authentication required',
        'denied: Permission "artifactregistry.repositories.downloadArtifacts" denied on resource (or it may '
        "not exist)",
        # containerd
        R + "reg.io/a/b:1: not found",
        R + f"reg.io/a/b@{D}: not found",
        R + "unexpected status from HEAD request to https://reg.io/v2/a/b/manifests/1: 403 Forbidden",
        R + "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
        R + "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
    ],
)
def test_an_image_that_will_not_be_there_next_time_either(words: str) -> None:
    error = image_error(words, f"x: {words}")
    assert type(error) is ImageNotFound
    assert str(error) == f"x: {words}"


@pytest.mark.parametrize(
    "words",
    [
        R + "failed to do request: Head: dial tcp: lookup reg.io on 10.0.0.1:53: no such host",
        R + f"failed to do request: Get https://reg.io/v2/b/{D}: dial tcp 10.4.0.3:403: i/o timeout",
        f"reg.io/a/unauthorized/403@{D}: unexpected status: 503 Service Unavailable",
        'failed to resolve reference "reg.io/not-found/denied:1": connection refused',
        "toomanyrequests: You have reached your pull rate limit",
        "unexpected status: 429 Too Many Requests",
        "x509: certificate signed by unknown authority",
        "write /var/lib/docker/tmp/GetImageBlob403: no space left on device",
        "mkdir /var/lib/docker/tmp: permission denied: cannot go on",
        # Of a layer, whose signed address is outdated or which was collected.
        f"failed to copy: httpReadSeeker: failed open: unexpected status https://cdn/{D}: 403 Forbidden",
        f"failed to extract layer {D}: NotFound: failed to get reader from content store: content "
        f"digest {D}: not found",
        'error getting credentials - err: exec: "docker-credential-x": executable file not found in $PATH',
    ],
)
def test_an_image_that_another_try_may_get(words: str) -> None:
    error = image_error(words)
    assert type(error) is ImageError
    assert str(error) == words
