"""The camera as the Butler knows it."""

from typing import Any

from lsst.daf.butler import FormatterV2, Registry
from lsst.pipe.base import Instrument

AMPLIFIERS = ("A0", "A1", "B0", "B1")
"""Read-out channels of a CCD, left to right."""
IMAGE_COLUMNS = 64
"""Columns of light an amplifier reads."""
OVERSCAN_COLUMNS = 8
"""Columns without light that follow them: they hold the bias level alone."""
ROWS = 128
SATURATION = 60_000.0
"""Full well, ADU."""


class LabCam(Instrument):
    """Two CCDs of four amplifiers each behind one filter wheel."""

    @classmethod
    def getName(cls) -> str:
        return "LabCam"

    def getRawFormatter(self, dataId: Any) -> type[FormatterV2]:  # noqa: ARG002 - the base class's
        # Raws here are plain arrays that `observe` puts; there are no files to
        # ingest.
        raise TypeError("LabCam raws are put as arrays and need no formatter")

    def register(self, registry: Registry, *, update: bool = False) -> None:
        """Tell the registry about the camera; harmless when it knows already."""
        name = self.getName()
        camera = {
            "name": name,
            "class_name": f"{type(self).__module__}.{type(self).__qualname__}",
            "detector_max": 2,
            "visit_max": 10**12,
            "exposure_max": 10**12,
        }
        ccds = [
            {"instrument": name, "id": number, "full_name": f"CCD{number}", "purpose": "SCIENCE"}
            for number in (0, 1)
        ]
        filters = [
            {"instrument": name, "name": "red650", "band": "r"},
            {"instrument": name, "name": "blue450", "band": "g"},
        ]
        with registry.transaction():
            registry.syncDimensionData("instrument", camera, update=update)
            for record in ccds:
                registry.syncDimensionData("detector", record, update=update)
            for record in filters:
                registry.syncDimensionData("physical_filter", record, update=update)
