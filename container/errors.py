"""What can go wrong with a container engine; nothing here knows pilots' codes.

::

    EngineError
    ├── EngineUnavailable     no daemon, no socket, no permission, no answer
    ├── ImageError            the image cannot be had: the daemon's own words
    │   └── ImageNotFound     ... because there is none of that name
    ├── StartError            container refused (bad mount, no such command)
    ├── Refused               daemon or API server answered, and said no
    └── Cancelled             the caller asked to stop waiting
"""

__all__ = [
    "Cancelled",
    "EngineError",
    "EngineUnavailable",
    "ImageError",
    "ImageNotFound",
    "Refused",
    "StartError",
]


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


class Refused(EngineError):
    """Who was asked answered, and said no.

    Parameters
    ----------
    text
        What was asked, and the answer's own words.
    status
        HTTP status of the answer.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status

    @property
    def missing(self) -> bool:
        """True if what was asked for is not there."""
        return self.status == 404
