"""Images of an engine in memory: name, layers with their sizes, containers."""

from container.docker_api import Refused
from container.errors import EngineUnavailable
from container.image_store import Usage

__all__ = ["FakeImages"]


class FakeImages:
    """Implements `container.image_store.Images`.

    Attributes
    ----------
    away
        No call is answered.
    """

    def __init__(self) -> None:
        self.layers: dict[str, dict[str, int]] = {}
        self.containers: set[str] = set()
        self.away = False

    def add(self, name: str, *sizes: int) -> None:
        """An image of layers of its own."""
        self.layers[name] = {f"{name}/{number}": size for number, size in enumerate(sizes)}

    def use(self, name: str) -> None:
        """A container of this image."""
        self.containers.add(name)

    def usage(self) -> Usage:
        self._answer()
        layers = {layer: size for image in self.layers.values() for layer, size in image.items()}
        return Usage(
            total_bytes=sum(layers.values()),
            ids={name: f"sha256:{name}" for name in self.layers},
            in_use=frozenset(f"sha256:{name}" for name in self.containers),
        )

    def remove(self, name: str) -> None:
        self._answer()
        if name in self.containers:
            raise Refused(f"remove {name}: conflict: a container is using it", 409)
        self.layers.pop(name, None)

    def _answer(self) -> None:
        if self.away:
            raise EngineUnavailable("no answer within 10 s")
