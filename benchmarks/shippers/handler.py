"""The client library's CloudLoggingHandler behind a plain tail."""

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def library_client(url: str) -> Any:
    """google-cloud-logging's client, by REST, of an endpoint of our own."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import logging as cloud_logging

    return cloud_logging.Client(
        project="p", credentials=AnonymousCredentials(), _use_grpc=False, client_options={"api_endpoint": url}
    )


def handler(path: Path, url: str, ended: threading.Event, _: Path | None) -> Callable[[], None]:
    from google.cloud.logging.handlers import CloudLoggingHandler
    from google.cloud.logging_v2.resource import Resource

    made = CloudLoggingHandler(
        library_client(url), name="Panda-RubinLog", resource=Resource("global", {"project_id": "p"})
    )
    logger = logging.getLogger("payload")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(made)

    def run() -> None:
        with path.open("rb") as src:
            while True:
                over = ended.is_set()
                for line in src.readlines():
                    logger.info(json.loads(line))
                if over:
                    break
                ended.wait(0.1)
        made.flush()

    return run
