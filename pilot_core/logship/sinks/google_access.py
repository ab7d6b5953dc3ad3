"""Who we are to Cloud Logging: project, address, token; by Google's own
library.

The library is imported at the first use, on the shipper's thread: it takes a
second, 45 MB, and outside Google's cloud some more for asking a metadata
server that is not there.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pilot_core.logship.resource import PodFacts

__all__ = ["Access", "AccessDenied", "AccessLater", "AnonymousAccess", "LibraryAccess", "in_cluster"]

log = logging.getLogger(__name__)

_METADATA_S = 2.0


class AccessDenied(Exception):
    """There are no usable credentials; somebody has to mend that."""


class AccessLater(Exception):
    """A token could not be had now; asking again may help."""


class Access(Protocol):
    """What a request needs beside its body.

    Both methods raise AccessDenied or AccessLater.
    """

    def connect(self, facts: PodFacts) -> tuple[str, PodFacts]:
        """Base URL, and the facts with what could be found out; called once."""
        ...

    def headers(self, *, renew: bool, timeout_s: float) -> Mapping[str, str]:
        """Authorization; with `renew` by a new token, since the old one was
        refused.
        """
        ...


class AnonymousAccess:
    """No credentials: an endpoint of one's own.

    Parameters
    ----------
    endpoint
        Base URL.
    project
        Stands in the log's name.
    """

    def __init__(self, endpoint: str, project: str) -> None:
        self._endpoint = endpoint
        self._project = project

    def connect(self, facts: PodFacts) -> tuple[str, PodFacts]:
        return self._endpoint, dataclasses.replace(facts, project=facts.project or self._project)

    def headers(self, *, renew: bool, timeout_s: float) -> Mapping[str, str]:  # noqa: ARG002 - nothing to renew
        return {}


class LibraryAccess:
    """Credentials, project and endpoint as google-cloud-logging finds them.

    Parameters
    ----------
    project
        Overrides the one of the credentials.
    endpoint
        Overrides the library's: a private or regional address.
    """

    def __init__(self, project: str | None = None, endpoint: str = "") -> None:
        self._project = project
        self._endpoint = endpoint
        self._client: Any = None

    def connect(self, facts: PodFacts) -> tuple[str, PodFacts]:
        client = self._connected()
        found = dataclasses.replace(facts, project=facts.project or client.project)
        if found.pod and not (found.cluster and found.location):
            found = in_cluster(found, _metadata)
        return self._endpoint or str(client._connection.API_BASE_URL), found

    def headers(self, *, renew: bool, timeout_s: float) -> Mapping[str, str]:
        from google.auth import exceptions
        from google.auth.transport.requests import Request

        credentials = self._connected()._credentials
        request = functools.partial(Request(), timeout=timeout_s)
        headers: dict[str, str] = {}
        try:
            if renew:
                credentials.refresh(request)
            credentials.before_request(request, "POST", "", headers)
        except exceptions.InvalidOperation:
            return {}  # anonymous credentials: nothing to renew
        except exceptions.GoogleAuthError as err:
            later = isinstance(err, exceptions.TransportError) or getattr(err, "retryable", False)
            raise (AccessLater if later else AccessDenied)(f"no token: {err}") from err
        return headers

    def _connected(self) -> Any:
        if self._client is None:
            try:
                from google.auth import exceptions
                from google.cloud.logging import Client
            except ImportError as err:
                raise AccessDenied(f"google-cloud-logging is not installed: {err}") from err
            try:
                # REST: our requests are; and no gRPC channel has to be kept.
                make: Callable[..., Any] = Client
                self._client = make(project=self._project, _use_grpc=False)
            except (exceptions.GoogleAuthError, OSError, ValueError) as err:
                raise AccessDenied(f"no credentials for Cloud Logging: {err}") from err
        return self._client


def in_cluster(facts: PodFacts, ask: Callable[[str], str]) -> PodFacts:
    """Location and cluster, from the attributes that GKE gives its nodes.

    What is not answered stays empty, and the entries go without it.

    Parameters
    ----------
    facts
        What is known already.
    ask
        Asks the metadata server for one value; empty if there is none.
    """
    location = facts.location or ask("instance/attributes/cluster-location")
    # Where nobody answers the first question, nobody will the second.
    cluster = facts.cluster or (ask("instance/attributes/cluster-name") if location else "")
    return dataclasses.replace(facts, location=location, cluster=cluster)


def _metadata(name: str) -> str:
    """One value of the metadata server, by Google's library; asked once."""
    from google.auth import exceptions
    from google.auth.compute_engine import _metadata as server
    from google.auth.transport.requests import Request

    get: Callable[..., Any] = server.get
    try:
        return str(get(functools.partial(Request(), timeout=_METADATA_S), name, retry_count=1))
    except exceptions.GoogleAuthError as err:
        log.info("the metadata server does not know %s: %s", name, err)
        return ""
