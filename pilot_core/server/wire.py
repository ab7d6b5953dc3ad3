"""What a dialect is: messages to requests, answers to plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pilot_core.model.report import JobReport, Reply
from pilot_core.server.answer import Answer
from pilot_core.server.contract import JobRequest
from pilot_core.server.field import Dialect
from pilot_core.server.fields import WorkerNote

__all__ = ["Definition", "Request", "Wire"]

Definition = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, not yet encoded.

    Attributes
    ----------
    path
        Below the server's base URL.
    body
        Fields of a POST; sent as JSON, or as a form if `form`.
    query
        Fields of a GET. May hold a secret: never written anywhere.
    """

    path: str
    body: Mapping[str, int | float | str] = field(default_factory=dict)
    form: bool = False
    method: str = "POST"
    query: Mapping[str, str] = field(default_factory=dict, repr=False)


class Wire(Protocol):
    """A dialect, pure. The modules `wire_v1` and `wire_legacy` are the two."""

    DIALECT: Dialect

    def acquire(self, request: JobRequest, without: frozenset[str]) -> Request:
        """Ask for one job."""
        ...

    def update(self, report: JobReport, without: frozenset[str], lean: bool) -> Request:
        """Report on a job."""
        ...

    def worker(self, note: WorkerNote, without: frozenset[str]) -> Request:
        """Report on the worker itself."""
        ...

    def upload(self) -> Request:
        """Store a file in the server's cache; the file itself goes beside it."""
        ...

    def token(self, key: str) -> Request:
        """Ask for a fresh access token."""
        ...

    def proxy(self, role: str) -> Request:
        """Ask for a fresh X.509 proxy; without a role for the server's
        default.
        """
        ...

    def read_jobs(self, answer: Answer) -> tuple[Definition, ...]:
        """Definitions; none if there is no job for us."""
        ...

    def read_update(self, answer: Answer) -> Reply:
        """What the server said to an update that it stored."""
        ...

    def read_done(self, answer: Answer) -> None:
        """Nothing, if it was done."""
        ...

    def read_upload(self, answer: Answer) -> None:
        """Nothing, if the file was stored."""
        ...

    def read_credential(self, answer: Answer) -> str:
        """The token or the proxy: both come in the same field."""
        ...
