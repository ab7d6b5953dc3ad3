"""Progress lines added up."""

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
