"""pilot3's RealTimeLogger, from a checkout.

The payload lives on for 10 s, since a job that ends before the first look has
no record sent; and then there are 10 s more, as a stage-out might take.
"""

import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from benchmarks.shippers.handler import library_client


def pilot3(path: Path, url: str, ended: threading.Event, checkout: Path | None) -> Callable[[], None]:
    sys.path.insert(0, str(checkout))
    from google.cloud import logging as cloud_logging

    # It takes no endpoint: the client that it makes is one that knows ours.
    client = library_client(url)
    cloud_logging.Client = lambda: client
    importlib.import_module("pilot.info")  # first, or its modules import each other in a circle
    from pilot.util.realtimelogger import get_realtime_logger

    job = SimpleNamespace(taskid="77", jobid="4242", requestid=5, workdir=str(path.parent), state="running")
    args = SimpleNamespace(graceful_stop=threading.Event(), cacert="", capath="")
    where = {"logging_type": "google-cloud-logging", "protocol": "http", "url": "localhost", "port": "80"}
    logger = get_realtime_logger(args, {**where, "logname": "x", "logfiles": [str(path)]}, "", "")

    def end() -> None:
        ended.wait()
        threading.Event().wait(10.0)
        job.state = "finished"

    def run() -> None:
        threading.Thread(target=end, daemon=True).start()
        logger.sending_logs(args, job)
        threading.Event().wait(10.0)

    return run
