"""The local PanDA over real HTTP: each recorded kind of answer, faults, TLS,
files.

The pairs are in `tests/golden/panda-server/`. Where PILOT_SHARED_DATA names a
folder with recorded exchanges of real servers, the pairs are held against
them.
"""

import gzip
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_core.base.scope import Scope
from pilot_core.local.definition import make
from pilot_core.local.faults import Fault, FaultKind
from pilot_core.local.server import LocalPanda
from tests.fakes.pki import make_pki

GOLDEN = Path(__file__).parent.parent / "golden" / "panda-server"
RECORDED = Path(os.environ.get("PILOT_SHARED_DATA", "/nonexistent")) / "panda-server"
JSON = {"Accept": "application/json", "Content-Type": "application/json"}
REPORT = json.dumps({"log.tgz": {"guid": "g", "fsize": 3, "adler32": "00000001"}})


def pairs(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found


def credentials(panda: LocalPanda, who: str) -> dict[str, str]:
    pilot = panda.issue_token(name="Robot Pilot", groups=["Rubin/pilot"])
    kinds = {
        "": None,
        "$PILOT": (pilot, "Rubin.pilot"),
        "$USER": (panda.issue_token(name="Plain User", groups=["Rubin/pilot"]), "Rubin:pilot"),
        "$NO_MEMBER": (pilot, "Rubin.production"),
        "$EXPIRED": (panda.issue_token(groups=["Rubin/pilot"], seconds=-1), "Rubin.pilot"),
        "$OTHER_VO": (pilot, "Other.pilot"),
    }
    token = kinds[who]
    return {} if token is None else {"Authorization": f"Bearer {token[0]}", "Origin": token[1]}


def ask(panda: LocalPanda, pair: dict[str, Any], panda_id: int) -> requests.Response:
    def fill(text: str) -> str:
        return text.replace('"$JOB"', str(panda_id)).replace("$JOB", str(panda_id))

    headers = {**pair["headers"], **credentials(panda, pair["who"])}
    # requests adds an Accept header of its own.
    headers.setdefault("Accept", "*/*")
    body = pair["body"]
    data: Any = None
    if body is not None and pair["encoding"] == "form":
        data = {key: fill(value) for key, value in body.items()}
    elif body is not None:
        text = fill(body if isinstance(body, str) else json.dumps(body))
        zipped = "gzip" in pair["encoding"]
        data = gzip.compress(text.encode()) if zipped else text.encode()
        charset = "; charset=utf-8" if pair["encoding"] == "json-charset" else ""
        headers["Content-Type"] = "application/json" + charset
        if pair["encoding"] == "json-gzip":
            headers["Content-Encoding"] = "gzip"
    return requests.request(
        pair["method"], panda.url + fill(pair["path"]), data=data, headers=headers, timeout=10
    )


@pytest.mark.parametrize("dialect", ["v1", "legacy"])
def test_conversation(dialect: str, tmp_path: Path) -> None:
    wrong = []
    with LocalPanda(tmp_path, require_auth=True) as panda:
        panda_id = panda.store.submit(make())
        panda.store.acquire({"site_name": "LOCAL"})
        for pair in pairs(dialect):
            got = ask(panda, pair, panda_id)
            expected = pair["answer"].replace('"$JOB"', str(panda_id))
            if (got.status_code, got.headers["Content-Type"], got.text) != (
                pair["status"],
                pair["content_type"],
                expected,
            ):
                wrong.append(f"{pair['name']}: {got.status_code} {got.headers['Content-Type']} {got.text}")
    assert not wrong, "\n".join(wrong)


def recorded(where: str) -> tuple[int, str, str]:
    """Status, content type and body of a recorded exchange, by `file#title`."""
    name, _, title = where.partition("#")
    text = (RECORDED / name).read_text()
    match = re.search(rf"^# {re.escape(title)}\n(.*?)\n?\[http (\d+) ?([^\]]*)\]$", text, re.M | re.S)
    assert match, f"{where} is not recorded"
    return int(match[2]), match[3], match[1]


@pytest.mark.skipif(not RECORDED.is_dir(), reason="PILOT_SHARED_DATA names no recorded exchanges")
@pytest.mark.parametrize("dialect", ["v1", "legacy"])
def test_pairs_are_what_a_real_server_said(dialect: str) -> None:
    wrong = []
    compared = 0
    for pair in pairs(dialect):
        if not pair["recorded"]:
            continue
        status, kind, body = recorded(pair["recorded"])
        compared += 1
        if (status, kind, body) != (pair["status"], pair["content_type"], pair["answer"]):
            wrong.append(f"{pair['recorded']}: {status} {kind} {body}")
    assert compared > 20
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def panda(tmp_path: Path) -> Iterator[LocalPanda]:
    with LocalPanda(tmp_path) as server:
        yield server


def v1(panda: LocalPanda, method: str, body: dict[str, object], **more: Any) -> dict[str, Any]:
    answer = requests.post(
        f"{panda.url}/api/v1/{method}", data=json.dumps(body), headers=JSON, timeout=10, **more
    )
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_from_submit_to_finished(panda: LocalPanda) -> None:
    panda_id = panda.store.submit(make(transformation="https://x/y", parameters="a 'b'"))
    reply = v1(panda, "pilot/acquire_jobs", {"site_name": "LOCAL", "node": "n"})
    (job,) = reply["data"]["jobs"]
    assert list(job)[:3] == ["StatusCode", "PandaID", "prodSourceLabel"]
    assert (job["PandaID"], job["jobPars"], job["nSent"]) == (panda_id, "a 'b'", 1)
    for state in ("starting", "running"):
        v1(panda, "pilot/update_job", {"job_id": panda_id, "job_status": state, "attempt_nr": 1})
    final = {
        "job_id": panda_id,
        "job_status": "finished",
        "job_output_report": REPORT,
        "pilot_id": "https://log/x|Kubernetes|PR|4",
        "trans_exit_code": 0,
    }
    assert v1(panda, "pilot/update_job", final)["data"] == {"StatusCode": 0, "command": "NULL"}
    row = panda.store.job(panda_id)
    assert (row.status, row.exit_code, row.log_url) == ("finished", 0, "https://log/x")
    assert [u.status for u in panda.store.updates(panda_id)] == ["starting", "running", "finished"]
    assert [r.body["job_status"] for r in panda.calls("update_job")] == ["starting", "running", "finished"]


def test_legacy_job(panda: LocalPanda) -> None:
    first, second = panda.store.submit(make()), panda.store.submit(make())
    url = f"{panda.url}/server/panda/getJob"
    text = requests.post(url, data={"siteName": "LOCAL"}, headers={"Accept": "*/*"}, timeout=10).text
    assert text.startswith(f"StatusCode=0&PandaID={first}&prodSourceLabel=managed")
    assert "&ioIntensity=None&" in text
    many = requests.post(
        url, data={"siteName": "LOCAL", "nJobs": "5"}, headers=JSON_ACCEPT, timeout=10
    ).json()
    assert [job["PandaID"] for job in many["jobs"]] == [second]
    record = panda.calls("acquire_jobs")[0]
    assert (record.dialect, record.body["site_name"], record.native["siteName"]) == (
        "legacy",
        "LOCAL",
        "LOCAL",
    )


JSON_ACCEPT = {"Accept": "application/json"}


def test_servers_of_one_dialect(tmp_path: Path) -> None:
    paths = ("/api/v1/system/is_alive", "/server/panda/isAlive")

    def codes(*dialects: str) -> list[int]:
        with LocalPanda(tmp_path, dialects=dialects) as panda:
            return [requests.get(panda.url + path, timeout=10).status_code for path in paths]

    assert codes("v1", "legacy") == [200, 200]
    assert codes("v1") == [200, 403]
    assert codes("legacy") == [404, 200]


def test_no_origin_is_a_traceback(tmp_path: Path) -> None:
    with LocalPanda(tmp_path, require_auth=True) as panda:
        token = {"Authorization": f"Bearer {panda.issue_token()}"}
        answer = requests.get(f"{panda.url}/api/v1/system/is_alive", headers=token, timeout=10)
    assert answer.status_code == 403
    assert "AttributeError: 'NoneType' object has no attribute 'replace'" in answer.text


def test_token_renewal(tmp_path: Path) -> None:
    with LocalPanda(tmp_path, require_auth=True) as panda:
        headers = {**JSON, **credentials(panda, "$PILOT")}
        query = {"client_name": "pilot_server", "token_key": panda.desk.token_key}
        url = f"{panda.url}/api/v1/creds/get_access_token"
        reply = requests.get(url, params=query, headers=headers, timeout=10).json()
        headers["Authorization"] = f"Bearer {reply['data']['user_proxy']}"
        assert requests.get(url, params=query, headers=headers, timeout=10).json()["success"]


def test_https_with_client_certificates(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    pki = make_pki(tmp_path / "pki")
    with LocalPanda(tmp_path / "panda", tls=pki.tls, require_auth=True) as panda:
        url = f"{panda.url}/api/v1/pilot/acquire_jobs"
        body = json.dumps({"site_name": "LOCAL"})

        def message(cert: Path | None) -> str:
            answer = requests.post(
                url, data=body, headers=JSON, timeout=10, verify=str(pki.ca), cert=str(cert) if cert else None
            )
            return str(answer.json()["message"])

        assert message(pki.proxy) == "No jobs in PanDA"
        assert message(pki.stranger) == "no production/pilot role in VOMS FQANs or non pilot owner"
        assert message(None) == "SSL secure connection is required"
        with pytest.raises(requests.exceptions.SSLError):
            requests.post(url, data=body, headers=JSON, timeout=10)


GOOD = '200 {"success": true, "message": ""'


def failing(panda: LocalPanda) -> str:
    try:
        body = {"job_id": 1, "job_status": "running"}
        answer = requests.post(
            f"{panda.url}/api/v1/pilot/update_job", data=json.dumps(body), headers=JSON, timeout=(1, 0.5)
        )
    except requests.exceptions.RequestException as err:
        return type(err).__name__
    return f"{answer.status_code} {answer.text[:31].strip()}"


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (Fault("update_job"), "500 the server has a bad day"),
        (Fault("update_job", status=503, retry_after="7"), "503 the server has a bad day"),
        (Fault("*", FaultKind.HTML), "200 <!DOCTYPE html>"),
        (Fault("update_job", FaultKind.HANG, seconds=5), "ReadTimeout"),
        (Fault("update_job", FaultKind.RESET), "ConnectionError"),
        (Fault("update_job", FaultKind.HALF), "ChunkedEncodingError"),
        (Fault("update_job", FaultKind.STATUS_CODE), '200 {"success": true, "message": "D'),
        (Fault("update_job", FaultKind.SLOW, seconds=0.1), GOOD),
    ],
)
def test_faults(panda: LocalPanda, fault: Fault, seen: str) -> None:
    panda.faults.add(fault)
    assert failing(panda).startswith(seen)
    assert failing(panda) == GOOD
    assert [struck.call for struck in panda.faults.done] == ["update_job"]
    assert [record.fault for record in panda.calls("update_job")] == [fault, None]


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.RESET, FaultKind.HALF, FaultKind.STATUS_CODE])
@pytest.mark.parametrize("commit", [True, False])
def test_commit_then_fail(panda: LocalPanda, kind: FaultKind, commit: bool) -> None:
    panda.faults.add(Fault("update_job", kind, commit=commit))
    failing(panda)
    done = len(panda.store.updates(1))
    # Half an answer is the half of a true one.
    assert done == (1 if commit or kind is FaultKind.HALF else 0)


def test_faults_of_files(panda: LocalPanda) -> None:
    panda.faults.add(Fault("cric", status=503))
    panda.faults.add(Fault("transformation", FaultKind.HTML))
    url = f"{panda.url}/cache/schedconfig/LOCAL.all.json"
    assert [requests.get(url, timeout=10).status_code for _ in range(2)] == [503, 200]
    script = [requests.get(f"{panda.url}/trf/demo", timeout=10).text[:9] for _ in range(2)]
    assert script == ["<!DOCTYPE", "#!/bin/sh"]


def test_files(panda: LocalPanda) -> None:
    def get(path: str) -> requests.Response:
        return requests.get(panda.url + path, timeout=10)

    assert get("/cache/schedconfig/LOCAL.all.json").json()["acopytools"]["write_lan"] == ["mv"]
    assert get("/cache/schedconfig/NONE.all.json").status_code == 404
    assert list(get("/api/atlas/pandaqueue/query/?json&pandaqueue=LOCAL").json()) == ["LOCAL"]
    assert len(get("/api/atlas/pandaqueue/query/?json").json()) == 8
    assert list(get("/api/atlas/ddmendpoint/query/?json&ddmendpoint=LOCAL_LOGS").json()) == ["LOCAL_LOGS"]
    assert "base64" in get("/trf/bash-c-enc").text
    (panda.folder / "trf").mkdir()
    (panda.folder / "trf" / "mine").write_text("echo mine")
    assert get("/trf/mine").text == "echo mine"
    (panda.folder / "logs" / "Q").mkdir()
    (panda.folder / "logs" / "Q" / "pilotlog.txt").write_text("line")
    assert get("/logs/Q/pilotlog.txt").text == "line"
    for path in ("/trf/..%2Fcric.py", "/logs/../panda.sqlite", "/logs/Q", "/cache/..", "/nothing"):
        assert get(path).status_code == 404, path


def test_uploads(panda: LocalPanda) -> None:
    data = bytes(range(256)) * 40 + b"\r\n--boundary\r\n"

    def put(path: str, name: str) -> str:
        files = {"file": (name, data)}
        return requests.post(panda.url + path, files=files, headers=JSON_ACCEPT, timeout=10).text

    v1_path, legacy_path = "/api/v1/file_server/upload_cache_file", "/server/panda/putFile"
    assert json.loads(put(v1_path, "h_1_gz.out")) == {"success": True, "message": "", "data": None}
    assert json.loads(put(v1_path, "h_1_gz.out"))["message"] == "ERROR: cannot overwrite file"
    assert put(legacy_path, "w.log.gz") == "True"
    assert put(legacy_path, "w.log.gz") == "ERROR: cannot overwrite file"
    assert [put(legacy_path, "x__ow__") for _ in range(2)] == ["True", "True"]
    got = requests.get(f"{panda.url}/cache/w.log.gz", timeout=10)
    assert (got.content, got.headers["Content-Type"]) == (data, "application/gzip")
    assert len(panda.calls("upload")) == 6


def test_console_pages(panda: LocalPanda) -> None:
    panda_id = requests.post(f"{panda.url}/local/jobs", json={"jobPars": "x"}, timeout=10).json()["id"]
    assert requests.get(f"{panda.url}/local/jobs/{panda_id}", timeout=10).json()["state"] == "activated"
    assert len(requests.get(f"{panda.url}/local/jobs", timeout=10).json()) == 1
    assert requests.post(f"{panda.url}/local/jobs", data="[]", timeout=10).status_code == 400
    page = {"Origin": "https://evil.example"}
    assert requests.post(f"{panda.url}/local/jobs", json={}, headers=page, timeout=10).status_code == 403
    assert len(requests.get(f"{panda.url}/local/jobs", timeout=10).json()) == 1
    assert requests.get(f"{panda.url}/local/jobs/1", timeout=10).status_code == 404


def test_keep_alive_and_many_clients(panda: LocalPanda) -> None:
    done: list[int] = []
    lock = threading.Lock()

    def client() -> None:
        with requests.Session() as session:
            for _ in range(10):
                answer = session.get(f"{panda.url}/api/v1/system/is_alive", timeout=10)
                with lock:
                    done.append(answer.status_code)

    with Scope("clients", join_s=20) as scope:
        threads = [scope.spawn(str(number), client) for number in range(20)]
        for thread in threads:
            thread.join(20)
    assert done == [200] * 200


def test_stop_ends_open_connections_and_the_port_is_free_again(tmp_path: Path) -> None:
    with LocalPanda(tmp_path) as first, requests.Session() as session:
        session.get(f"{first.url}/api/v1/system/is_alive", timeout=10)
        port = int(first.url.rpartition(":")[2])
        panda_id = first.store.submit(make())
        first.stop()
        with pytest.raises(requests.exceptions.ConnectionError):
            session.get(f"{first.url}/api/v1/system/is_alive", timeout=10)
        with LocalPanda(tmp_path, port=port) as second:
            assert second.url == first.url
            assert second.store.job(panda_id).status == "activated"


@given(
    body=st.binary(max_size=200) | st.text(max_size=80).map(str.encode),
    kind=st.sampled_from(["application/json", "text/plain", "multipart/form-data; boundary=x"]),
    encoding=st.sampled_from(["", "gzip"]),
    path=st.sampled_from(
        [
            "/api/v1/pilot/acquire_jobs",
            "/api/v1/pilot/update_job",
            "/api/v1/file_server/upload_cache_file",
            "/server/panda/updateJob",
            "/server/panda/updateJobsInBulk",
            "/server/panda/putFile",
            "/local/jobs",
        ]
    ),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_get_an_answer(panda: LocalPanda, body: bytes, kind: str, encoding: str, path: str) -> None:
    packed = gzip.compress(body) if encoding == "gzip" and len(body) % 2 else body
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    answer = requests.post(panda.url + path, data=packed, headers=headers, timeout=10)
    assert answer.status_code in (200, 400, 500)
