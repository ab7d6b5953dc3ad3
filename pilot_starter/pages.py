"""What the health port serves: a verdict for probes, numbers for Prometheus."""

import logging
from collections.abc import Callable, Mapping

from pilot_core.logship.contract import ShipCounts
from pilot_starter.config import StarterConfig
from pilot_starter.health import examine
from pilot_starter.port import Page

__all__ = ["pages"]

log = logging.getLogger(__name__)


def pages(
    config: StarterConfig,
    *,
    shipped: Callable[[], ShipCounts | None],
    credential_ends: Callable[[], Mapping[str, float]],
) -> Mapping[str, Callable[[], Page]]:
    """Path to page; without the package prometheus-client only the verdict."""

    def healthz() -> Page:
        health = examine(
            status_file=config.state_file, worker_log=config.worker_log, silent_s=config.silent_s
        )
        return Page(f"{health.reason}\n".encode(), 200 if health.well else 503)

    try:
        from pilot_starter import metrics
    except ImportError as err:
        log.warning("no /metrics: %s", err)
        return {"/healthz": healthz}

    def numbers() -> Page:
        seen = metrics.look(config, shipped=shipped(), credential_ends=credential_ends())
        return Page(metrics.expose(seen), content_type=metrics.CONTENT_TYPE)

    return {"/healthz": healthz, "/metrics": numbers}
