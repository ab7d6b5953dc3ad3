"""The official Kubernetes client behind one door: opened late, calls bounded,
errors made ours. Objects go in and out as plain JSON.

Costs some 50 MB of memory once imported: the package holds a class for every
object of Kubernetes.
"""

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from container.errors import EngineUnavailable, Refused, one_line

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

__all__ = ["ACCOUNT", "Cluster", "Stream"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Json = dict[str, Any]

#: Where Kubernetes puts a pod's token, the CA of the API server, the namespace.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_CHUNK = 256 * 1024


class Stream:
    """An answer that goes on: a log that is followed, or a watch.

    Read by one thread; `shutdown` may come from another.
    """

    def __init__(self, what: str, response: Any, silent_s: float) -> None:
        self._what = what
        self._response = response
        self._silent_s = silent_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def read(self) -> bytes:
        """What has come; empty at the end, or after `shutdown`.

        Raises
        ------
        EngineUnavailable
            It broke, or was silent for too long.
        """
        import urllib3.exceptions

        try:
            data: bytes = self._response.read1(_CHUNK)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as err:
            # ValueError: `shutdown` takes a TLS connection away from a reader.
            raise EngineUnavailable(f"{self._what}: {_reason(err, self._silent_s)}") from err
        return data

    def lines(self) -> Iterator[bytes]:
        """Whole lines, as they come."""
        rest = b""
        while piece := self.read():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole

    def shutdown(self) -> None:
        """Wake the reader; harmless if it is over."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()


class Cluster:
    """The API server of the cluster that this pod runs in, and one namespace.

    Parameters
    ----------
    namespace
        Empty for the pod's own, as its service account says.
    account
        Folder with `token`, `ca.crt` and `namespace`.
    environment
        KUBERNETES_SERVICE_HOST and _PORT.
    call_s
        Seconds a call may take.
    silent_s
        Seconds a stream may be silent before it counts as broken: a connection
        that the network forgot does not say so.
    """

    def __init__(
        self,
        *,
        namespace: str = "",
        account: Path = ACCOUNT,
        environment: Mapping[str, str],
        call_s: float = 10.0,
        silent_s: float = 60.0,
    ) -> None:
        self._namespace = namespace
        self._account = account
        self._environment = environment
        self._call_s = call_s
        self._silent_s = silent_s
        self._api: CoreV1Api | None = None
        self._lock = threading.Lock()
        host, port = (environment.get(f"KUBERNETES_SERVICE_{word}", "") for word in ("HOST", "PORT"))
        self.url = f"https://{host}:{port}" if host else "(KUBERNETES_SERVICE_HOST is not set)"

    @property
    def namespace(self) -> str:
        """Where pods live."""
        if not self._namespace:
            with contextlib.suppress(OSError):
                self._namespace = (self._account / "namespace").read_text().strip()
        return self._namespace or "default"

    def version(self) -> str:
        """The server's version."""
        found = self._json("version", lambda api, **k: _get(api, "/version", **k))
        return str(found.get("gitVersion") or "")

    def pod(self, name: str, *, within_s: float | None = None) -> Json:
        """A pod; Refused with status 404 if there is none."""
        return self._json(
            f"get pod {name}",
            lambda api, **k: api.read_namespaced_pod(name, self.namespace, **k),
            within_s=within_s,
        )

    def pods(self, selector: str) -> list[Json]:
        """Pods with certain labels."""
        found = self._json(
            "list pods",
            lambda api, **k: api.list_namespaced_pod(self.namespace, label_selector=selector, **k),
        )
        return list(found["items"])

    def create(self, manifest: Json, *, dry_run: bool = False) -> Json:
        """Create a pod; with `dry_run` the server only says whether it would."""
        extra = {"dry_run": "All"} if dry_run else {}
        return self._json(
            f"create pod {manifest['metadata']['name']}",
            lambda api, **k: api.create_namespaced_pod(self.namespace, manifest, **extra, **k),
        )

    def delete(self, name: str, uid: str, *, grace_s: int, within_s: float | None = None) -> None:
        """Ask for the end of a pod; harmless if it is gone.

        Without grace the server forgets it at once, whatever still runs. The
        grace is part of the body: where there is one, the server takes no
        options from the query.
        """
        body = {"gracePeriodSeconds": grace_s, "preconditions": {"uid": uid}}
        try:
            self._json(
                f"delete pod {name}",
                lambda api, **k: api.delete_namespaced_pod(name, self.namespace, body=body, **k),
                within_s=within_s,
            )
        except Refused as err:
            # 409: another pod has the name, so ours is gone.
            if err.status not in (404, 409):
                raise

    def events(self, name: str) -> list[Json]:
        """What happened to a pod, the latest last."""
        chosen = f"involvedObject.name={name}"
        found = self._json(
            f"events of pod {name}",
            lambda api, **k: api.list_namespaced_event(self.namespace, field_selector=chosen, **k),
        )
        return list(found["items"])

    def usage(self, name: str) -> Json:
        """What the metrics API says of a pod."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{self.namespace}/pods/{name}"
        return self._json(f"metrics of pod {name}", lambda api, **k: _get(api, path, **k))

    def watch(self, name: str, version: str) -> Stream:
        """Changes of a pod since a version, one JSON object a line; the server
        ends it before it would count as silent.
        """
        return self._stream(
            f"watch pod {name}",
            lambda api, **k: api.list_namespaced_pod(
                self.namespace,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=max(1, int(self._silent_s * 0.8)),
                watch=True,
                **k,
            ),
        )

    def log(self, name: str, container: str, *, since_s: int | None, follow: bool) -> Stream:
        """What a container printed, each line with its time."""
        extra = {} if since_s is None else {"since_seconds": since_s}
        return self._stream(
            f"log of pod {name}",
            lambda api, **k: api.read_namespaced_pod_log(
                name, self.namespace, container=container, follow=follow, timestamps=True, **extra, **k
            ),
        )

    def close(self) -> None:
        """Let go of all connections; the next call opens new ones."""
        with self._lock:
            if self._api is not None:
                self._api.api_client.rest_client.pool_manager.clear()
            self._api = None

    def _json(self, what: str, function: Callable[..., Any], *, within_s: float | None = None) -> Json:
        limit = self._call_s if within_s is None else within_s
        response = self._call(what, function, read_s=limit, connect_s=limit)
        try:
            found = json.loads(self._guard(what, lambda: response.data, limit))
        except ValueError as err:
            raise EngineUnavailable(f"Kubernetes at {self.url}: no JSON ({what})") from err
        finally:
            response.release_conn()
        return dict(found)

    def _stream(self, what: str, function: Callable[..., Any]) -> Stream:
        response = self._call(what, function, read_s=self._silent_s, connect_s=self._call_s)
        return Stream(what, response, self._silent_s)

    def _call(self, what: str, function: Callable[..., Any], *, read_s: float, connect_s: float) -> Any:
        api = self._client()
        limits = {"_request_timeout": (connect_s, read_s), "_preload_content": False}
        return self._guard(what, lambda: function(api, **limits), read_s)

    def _guard(self, what: str, function: Callable[[], T], limit_s: float) -> T:
        import kubernetes.client
        import urllib3.exceptions

        try:
            return function()
        except kubernetes.client.ApiException as err:
            if not err.status:
                raise EngineUnavailable(f"Kubernetes at {self.url}: {err.reason} ({what})") from err
            raise Refused(f"{what}: {_message(err)}", int(err.status)) from err
        except (urllib3.exceptions.HTTPError, OSError) as err:
            raise EngineUnavailable(f"Kubernetes at {self.url}: {_reason(err, limit_s)} ({what})") from err

    def _client(self) -> "CoreV1Api":
        with self._lock:
            if self._api is None:
                self._api = self._connect()
            return self._api

    def _connect(self) -> "CoreV1Api":
        # Imported here: only a pilot that runs payloads as pods pays for it.
        try:
            from kubernetes import client
            from kubernetes.config import ConfigException
            from kubernetes.config.incluster_config import InClusterConfigLoader
        except ModuleNotFoundError as err:
            raise EngineUnavailable(
                f"Kubernetes: the python package {err.name!r} is not installed "
                "(pip install 'rubin-panda-pilot[kubernetes]')"
            ) from err
        settings = client.Configuration()
        try:
            # Reads the token again every minute: it is renewed every hour.
            InClusterConfigLoader(
                token_filename=str(self._account / "token"),
                cert_filename=str(self._account / "ca.crt"),
                environ=self._environment,
            ).load_and_set(settings)
        except (ConfigException, OSError) as err:
            raise EngineUnavailable(f"Kubernetes at {self.url}: {err} ({self._account})") from err
        # Whoever calls knows better what may be asked twice; and three hidden
        # attempts would take three times as long as the caller was told.
        settings.retries = False
        # Never through a proxy of the environment: it is meant for the world.
        settings.proxy = None
        settings.connection_pool_maxsize = 8
        return client.CoreV1Api(client.ApiClient(settings))


def _get(api: "CoreV1Api", path: str, **limits: Any) -> Any:
    """GET of a path that CoreV1Api has no method for."""
    return api.api_client.call_api(
        path, "GET", auth_settings=["BearerToken"], _return_http_data_only=True, **limits
    )


def _message(err: Any) -> str:
    """The server's words: the message of a Status object, or what there is."""
    body = err.body.decode("utf-8", "replace") if isinstance(err.body, bytes) else str(err.body or "")
    try:
        text = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        text = body or err.reason
    return f"{err.status} {one_line(str(text))}"


def _reason(error: BaseException, limit_s: float) -> str:
    """Why there was no answer, in one line; urllib3 hides it in arguments."""
    import urllib3.exceptions

    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        err = todo.pop(0)
        if isinstance(err, BaseException) and err not in seen:
            seen.append(err)
            todo += [err.__cause__, getattr(err, "reason", None), *err.args]
    if any(isinstance(err, ConnectionRefusedError) for err in seen):
        return "connection refused: no API server listens"
    if any(isinstance(err, TimeoutError | urllib3.exceptions.TimeoutError) for err in seen):
        return f"no answer within {limit_s:g} s"
    return one_line(str(seen[-1]) or type(seen[-1]).__name__)
