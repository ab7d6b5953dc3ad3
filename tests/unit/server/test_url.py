"""The address of a PanDA server, for the pilot and for its starter."""

from pathlib import Path

import pytest

from pilot_core.base.clock import SystemClock
from pilot_core.base.redact import Redactor
from pilot_core.errors import SetupError
from pilot_core.server.url import base_url
from pilot_starter.config import CredentialSources, StarterConfig
from pilot_starter.credentials import Credentials
from pilot_starter.heirs import Services


@pytest.mark.parametrize(
    ("url", "port", "base"),
    [
        ("https://panda.cern.ch", None, "https://panda.cern.ch:25443"),
        ("https://panda.cern.ch", 8443, "https://panda.cern.ch:8443"),
        ("https://panda.cern.ch:443/server/panda", 8443, "https://panda.cern.ch:443"),
        ("panda.cern.ch", None, "https://panda.cern.ch:25443"),
        ("panda.cern.ch:25080", None, "https://panda.cern.ch:25080"),
        ("http://[2001:db8::1]/", None, "http://[2001:db8::1]:25443"),
    ],
)
def test_a_server_is_a_scheme_a_host_and_a_port(url: str, port: int | None, base: str) -> None:
    assert base_url(url, setting="--url", port=port) == base


@pytest.mark.parametrize(
    "url", ["https://h:port", "h:99999", "h:0", "https://[::1", "ftp://h", "https://", ""]
)
def test_what_is_no_server_is_named_with_its_setting(url: str) -> None:
    with pytest.raises(SetupError) as caught:
        base_url(url, setting="PANDA_SERVER_URL")
    assert caught.value.diag.startswith(f"PANDA_SERVER_URL={url!r}: ")


def test_a_bad_address_for_the_workers_log_costs_its_upload(tmp_path: Path) -> None:
    config = StarterConfig(
        queue="Q", site="Q", tmp_dir=tmp_path, worker_log=tmp_path / "log", log_upload_url="https://h:port"
    )
    ours = Credentials(CredentialSources(), folder=tmp_path / "own", redactor=Redactor())
    with pytest.raises(SetupError, match="logs_frontend_w='https://h:port': Port could not"):
        Services(config, ours, SystemClock()).upload(tmp_path / "log", None, None)  # type: ignore[arg-type]
