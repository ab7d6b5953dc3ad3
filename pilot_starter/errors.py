"""What can go wrong before there is a pilot."""

from pilot_core.errors import NodeError
from pilot_core.model.codes import ErrorCode

__all__ = ["FetchError"]


class FetchError(NodeError):
    """The pilot cannot be had from its URL; says why."""

    default = ErrorCode.MISSINGINSTALLATION
