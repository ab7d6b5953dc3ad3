"""One transfer with Rucio's own client library, in a process of its own.

    python rucio_client.py '{"do": "put", ...}'

The library knows no end to a transfer, keeps a session that threads must not
share, and loads some 50 MB; a child can be killed, shares nothing and gives
everything back. Its last line of output is the answer, JSON.
"""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

log = logging.getLogger("rucio")


def main(argument: str) -> int:
    """Do what `argument` says; exit code 0 if that went well."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    order = json.loads(argument)
    traces: list[dict[str, Any]] = []
    try:
        answer = _DO[order.pop("do")](traces=traces, **order)
    except Exception as err:  # noqa: BLE001 - whatever the library raises becomes an answer
        answer = {"error": type(err).__name__, **_reason(err, traces[-1] if traces else {})}
    sys.stdout.write(f"{json.dumps(answer)}\n")
    return 1 if "error" in answer else 0


def _reason(err: Exception, trace: dict[str, Any]) -> dict[str, str]:
    """Why: the trace knows, where the library's last word is often only that
    nothing was transferred.
    """
    told = str(trace.get("stateReason") or "")
    # An enumeration's member shows with its class.
    state = str(trace.get("clientState") or "").rpartition(".")[2]
    return {"text": str(err) if told in ("", "OK", "UNKNOWN") else told, "state": state}


def _put(
    *, traces: list[dict[str, Any]], path: str, rse: str, scope: str, name: str, summary: str, timeout: int
) -> dict[str, Any]:
    """Store a file without registering it: that is for the PanDA server."""
    from rucio.client import Client
    from rucio.client.uploadclient import UploadClient
    from rucio.common.exception import NoFilesUploaded

    item = {
        "path": path,
        "rse": rse,
        "did_scope": scope,
        "did_name": name,
        "no_register": True,
        "transfer_timeout": timeout,
    }
    client = Client()
    uploader = UploadClient(_client=client, logger=log)
    try:
        uploader.upload([item], summary_file_path=summary, traces_copy_out=traces, ignore_availability=True)
    except NoFilesUploaded:
        # Said of a name that is taken too, maybe by an earlier life of ours.
        if "already exists" not in str(traces[-1:]):
            raise
        return {"taken": True, **_stat(client, rse, scope, name)}
    with open(summary) as told:
        found = json.load(told)[f"{scope}:{name}"]
    return {"pfn": found.get("pfn"), "bytes": found["bytes"], "adler32": found["adler32"]}


def _stat(client: Any, rse: str, scope: str, name: str) -> dict[str, Any]:
    """What the storage has under a name, registered or not."""
    from rucio.rse import rsemanager

    settings = rsemanager.get_rse_info(rse, vo=client.vo)
    protocol = rsemanager.create_protocol(settings, "write", domain="wan", auth_token=client.auth_token)
    pfn = next(iter(protocol.lfns2pfns({"scope": scope, "name": name}).values()))
    protocol.connect()
    try:
        found = protocol.stat(pfn)
    finally:
        protocol.close()
    return {"pfn": pfn, "bytes": found.get("filesize"), "adler32": found.get("adler32")}


def _get(
    *, traces: list[dict[str, Any]], folder: str, rse: str, scope: str, name: str, timeout: int
) -> dict[str, Any]:
    """Fetch a file into `folder`, from `rse` if it names one."""
    from rucio.client import Client
    from rucio.client.downloadclient import DownloadClient

    item = {"did": f"{scope}:{name}", "base_dir": folder, "no_subdir": True, "transfer_timeout": timeout}
    if rse:
        item["rse"] = rse
    downloader = DownloadClient(client=Client(), logger=log)
    downloader.download_dids([item], num_threads=1, traces_copy_out=traces)
    return {}


_DO: dict[str, Callable[..., dict[str, Any]]] = {"put": _put, "get": _get}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
