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

import re

__all__ = [
    "Cancelled",
    "EngineError",
    "EngineUnavailable",
    "ImageError",
    "ImageNotFound",
    "Refused",
    "StartError",
    "image_error",
    "one_line",
]

# What Docker, containerd and registries say of an image that does not exist,
# or not for us; no part of its name or digest, which may hold any of it.
_MISSING = re.compile(
    r"(?<![\w./:@-])(?:not found|(?:manifest|name) unknown|name not known|no such image"
    r"|(?:does|may) not exist|pull access denied|(?<!permission )denied:"
    r"|unauthorized|40[13] (?:unauthorized|forbidden))(?![\w/@-])",
    re.IGNORECASE,
)
# What is said so of something else: a layer of an image that is there (also
# one whose signed address is outdated), a program of the node's own.
_SOMETHING_ELSE = re.compile(
    r"failed to copy:|failed to extract layer|content digest|executable file not found", re.IGNORECASE
)


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


def image_error(words: str, told: str = "") -> ImageError:
    """PURE: why an image could not be pulled; `ImageNotFound` if another try
    would be in vain.

    Parameters
    ----------
    words
        Of the daemon or the kubelet, all of them.
    told
        What the error says; `words` if empty.
    """
    missing = _MISSING.search(words) is not None and _SOMETHING_ELSE.search(words) is None
    return (ImageNotFound if missing else ImageError)(told or words)


def one_line(text: str) -> str:
    """PURE: a foreign message as a part of ours."""
    return " ".join(text.split())[:500]
