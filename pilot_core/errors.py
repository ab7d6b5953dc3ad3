"""Failures have owners.

::

    PilotError                  carries a pilot error code and a diagnosis
    ├── PayloadError            the user's: the definition or the payload
    │   └── BadJob              a field is missing or malformed
    ├── SetupError              ours: an option, a queue, a credential
    ├── NodeError               the machine's: no space, no engine
    ├── StorageError            a file could not be fetched or stored
    └── ServerError             the PanDA server's or the network's
        ├── ServerUnreachable   no answer, half of one, 5xx, HTML: again
        ├── ServerBusy          429 or 503 with Retry-After: not before
        ├── ServerRefused       said no: no use to ask again, if that is clear
        └── NotAuthorised       401, 403, "production role required"

A payload that exits with 1 is no exception at all: it is a successful run of
the pilot. Foreign exceptions stop at the adapter that imports the library and
are chained.
"""

from pilot_core.model.codes import ErrorCode, message

__all__ = [
    "BadJob",
    "NodeError",
    "NotAuthorised",
    "PayloadError",
    "PilotError",
    "ServerBusy",
    "ServerError",
    "ServerRefused",
    "ServerUnreachable",
    "SetupError",
    "StorageError",
]


class PilotError(Exception):
    """A failure with the code that the server will see.

    Parameters
    ----------
    code
        pilotErrorCode.
    diag
        What happened, most specific first; the code's own sentence if empty.
    """

    default = ErrorCode.GENERALERROR

    def __init__(self, diag: str = "", code: ErrorCode | None = None) -> None:
        self.code = self.default if code is None else code
        self.diag = diag or message(self.code)
        super().__init__(self.diag)


class PayloadError(PilotError):
    """The job asks for something that cannot be done anywhere."""

    default = ErrorCode.SETUPFAILURE


class BadJob(PayloadError):
    """A field of the job definition is missing or malformed.

    Parameters
    ----------
    field
        The server's name of the field.
    value
        What was there.
    why
        What is wrong with it.
    panda_id, attempt
        The job, where the definition at least says so much; the failed report
        then still reaches the server.
    code
        CONVERSIONFAILURE by default.
    """

    default = ErrorCode.CONVERSIONFAILURE

    def __init__(
        self,
        field: str,
        value: object,
        why: str,
        *,
        panda_id: int | None = None,
        attempt: int | None = None,
        code: ErrorCode | None = None,
    ) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"job definition: {field}={shown}: {why}", code)
        self.field = field
        self.panda_id = panda_id
        self.attempt = attempt


class SetupError(PilotError):
    """An option, a queue or a credential is missing or wrong."""


class NodeError(PilotError):
    """The machine cannot run jobs, or not this one.

    Parameters
    ----------
    panda_id, attempt
        A job that was taken already: its failed report is owed to the server.
    """

    default = ErrorCode.RESOURCEUNAVAILABLE

    def __init__(
        self,
        diag: str,
        code: ErrorCode | None = None,
        *,
        panda_id: int | None = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(diag, code)
        self.panda_id = panda_id
        self.attempt = attempt


class StorageError(PilotError):
    """A file could not be fetched or stored."""

    default = ErrorCode.STAGEOUTFAILED


class ServerError(PilotError):
    """The conversation with the server failed.

    Attributes
    ----------
    retry_after_s
        Seconds for which the server wants to be left alone; 0 if it did not
        say.
    """

    default = ErrorCode.COMMUNICATIONFAILURE
    retry_after_s = 0.0


class ServerUnreachable(ServerError):
    """No usable answer: the request may or may not have been carried out."""


class ServerBusy(ServerError):
    """The server asks to come back later.

    Parameters
    ----------
    retry_after_s
        Seconds the server asked for.
    """

    def __init__(self, diag: str, retry_after_s: float) -> None:
        super().__init__(diag)
        self.retry_after_s = retry_after_s


class ServerRefused(ServerError):
    """The server understood the request and refused it.

    Parameters
    ----------
    unclear
        We do not know these words: it may as well be in trouble itself. What
        must not be lost is said again, later.
    """

    def __init__(self, diag: str, *, unclear: bool = False) -> None:
        super().__init__(diag)
        self.unclear = unclear


class NotAuthorised(ServerError):
    """Missing, expired or insufficient credentials."""

    default = ErrorCode.NOPROXY
