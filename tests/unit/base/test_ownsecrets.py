"""What of the pilot's own credentials a payload may not make public."""

import json
from pathlib import Path

from pilot_core.base.ownsecrets import own_secrets
from pilot_core.base.redact import Redactor

KEY = [
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw" + "abcdefgh" * 3,
    "ggSjAgEAAoIBAQC7VJTUt9Us8cKj" + "ijklmnop" * 3,
]
CERTIFICATE = "MIIDazCCAlOgAwIBAgIUQ" + "qrstuvwx" * 5
PROXY = "\n".join(
    [
        "-----BEGIN CERTIFICATE-----", CERTIFICATE, "-----END CERTIFICATE-----",
        "-----BEGIN RSA PRIVATE KEY-----", *KEY, "-----END RSA PRIVATE KEY-----",
    ]
)  # fmt: skip


def test_each_line_of_a_key_and_none_of_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(PROXY)
    (tmp_path / "x509up").symlink_to("real")
    redactor = Redactor(own=lambda: own_secrets([tmp_path / "x509up", tmp_path / "missing", tmp_path, None]))
    for line in KEY:
        assert line not in redactor.text(f"payload: {line}")
    assert redactor.text(CERTIFICATE) == CERTIFICATE


def test_the_key_of_a_google_account_and_not_its_project(tmp_path: Path) -> None:
    account = {
        "type": "service_account",
        "project_id": "panda-dev-1a74",
        "private_key": "\n".join(PROXY.splitlines()[3:]),
    }
    (tmp_path / "key.json").write_text(json.dumps(account))
    redactor = Redactor(own=lambda: own_secrets([tmp_path / "key.json"]))
    assert redactor.text("panda-dev-1a74 service_account") == "panda-dev-1a74 service_account"
    assert not any(line in redactor.text(f"{line} printed") for line in KEY)


def test_a_user_s_google_credentials(tmp_path: Path) -> None:
    (tmp_path / "adc.json").write_text(
        json.dumps({"client_secret": "d-FL95Q19q7MQmFpd7hHD0Ty", "refresh_token": "1//09-xyz"})
    )
    assert list(own_secrets([tmp_path / "adc.json"])) == ["d-FL95Q19q7MQmFpd7hHD0Ty", "1//09-xyz"]


def test_a_renewed_token_is_known_with_the_next_job_and_the_old_one_stays(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("opaque-token-one\n")
    redactor = Redactor(own=lambda: own_secrets([token]))
    token.write_text("opaque-token-two\n")
    redactor.renew("the job's own")
    assert redactor.text("opaque-token-one opaque-token-two the job's own") == "*** *** ***"
    redactor.renew()
    assert redactor.text("opaque-token-one opaque-token-two the job's own") == "*** *** the job's own"
