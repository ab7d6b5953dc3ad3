"""What can go wrong with a container engine; nothing here knows pilots' codes.

::

    EngineError
    ├── EngineUnavailable     no daemon, no socket, no permission, no answer
    ├── ImageError            the image cannot be had: the daemon's own words
    │   └── ImageNotFound     ... because there is none of that name
    ├── StartError            container refused (bad mount, no such command)
    └── Cancelled             the caller asked to stop waiting
"""

__all__ = ["Cancelled", "EngineError", "EngineUnavailable", "ImageError", "ImageNotFound", "StartError"]


class EngineError(Exception):
    """The engine could not do what was asked; the message names what and why."""


class EngineUnavailable(EngineError):
    """Nobody to ask: names the socket or host and the system's reason."""


class ImageError(EngineError):
    """An image could not be pulled."""


class ImageNotFound(ImageError):
    """There is no image of that name, or we may not see it."""


class StartError(EngineError):
    """The container was refused."""


class Cancelled(EngineError):
    """The caller's `cancelled` event was set while the engine worked."""
