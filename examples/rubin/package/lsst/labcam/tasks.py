"""Three PipelineTasks, each for one CCD of one exposure.

They compute something simple and true, and log the way science pipelines do:
a VERBOSE line for each amplifier, INFO for what a reader wants to know, a
WARNING for what he should know, tables over several lines, Greek letters, a
Python warning, and an exception that is handled but logged with its traceback.
"""

import warnings
from typing import Any

import numpy as np
from astropy.table import Table
from lsst.labcam.instrument import AMPLIFIERS, IMAGE_COLUMNS, OVERSCAN_COLUMNS, SATURATION
from lsst.pex.config import Field
from lsst.pipe.base import (
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    connectionTypes,
)
from numpy.typing import NDArray

__all__ = ["FindStarsTask", "MeasureSeeingTask", "SubtractBiasTask"]

PER_CCD = ("instrument", "exposure", "detector")


class SubtractBiasConnections(PipelineTaskConnections, dimensions=PER_CCD):
    raw = connectionTypes.Input(
        name="raw", doc="Image as read out, ADU.", storageClass="NumpyArray", dimensions=PER_CCD
    )
    image = connectionTypes.Output(
        name="labcam_image", doc="Light only, ADU.", storageClass="NumpyArray", dimensions=PER_CCD
    )


class SubtractBiasConfig(PipelineTaskConfig, pipelineConnections=SubtractBiasConnections):
    saturation = Field(dtype=float, default=SATURATION, doc="Full well, ADU.")


class SubtractBiasTask(PipelineTask):
    """Subtract each amplifier's overscan level and cut the overscan off."""

    ConfigClass = SubtractBiasConfig
    _DefaultName = "subtractBias"

    def run(self, raw: NDArray[np.float32]) -> Struct:
        self.log.info("Subtracting the bias of a %d×%d image", *raw.shape)
        width = IMAGE_COLUMNS + OVERSCAN_COLUMNS
        light, levels = [], []
        for number, name in enumerate(AMPLIFIERS):
            part = raw[:, number * width : (number + 1) * width]
            overscan = part[:, IMAGE_COLUMNS:]
            level, noise = float(np.median(overscan)), float(overscan.std())
            self.log.verbose("Amplifier %s: bias %.2f ADU, read noise σ = %.2f ADU", name, level, noise)
            full = int((part > self.config.saturation).sum())
            if full:
                self.log.warning("Amplifier %s: %d saturated pixels", name, full)
            light.append(part[:, :IMAGE_COLUMNS] - level)
            levels.append(level)
        self.log.info("Difference of bias levels, ADU:\n%s", np.subtract.outer(levels, levels).round(1))
        self.metadata["biasLevels"] = levels
        return Struct(image=np.hstack(light).astype(np.float32))


class FindStarsConnections(PipelineTaskConnections, dimensions=PER_CCD):
    image = connectionTypes.Input(
        name="labcam_image", doc="Light only, ADU.", storageClass="NumpyArray", dimensions=PER_CCD
    )
    stars = connectionTypes.Output(
        name="labcam_stars",
        doc="One row a star: x and y in pixels, flux in ADU, sigma in pixels.",
        storageClass="ArrowAstropy",
        dimensions=PER_CCD,
    )


class FindStarsConfig(PipelineTaskConfig, pipelineConnections=FindStarsConnections):
    threshold = Field(dtype=float, default=10.0, doc="Height of a peak over the sky, in sigmas of the sky.")
    radius = Field(dtype=int, default=5, doc="Half the width of the box a star is measured in, pixels.")


class FindStarsTask(PipelineTask):
    """Find local maxima and measure position, flux and width from moments."""

    ConfigClass = FindStarsConfig
    _DefaultName = "findStars"

    def run(self, image: NDArray[np.float32]) -> Struct:
        sky = float(np.median(image))
        sigma = 1.4826 * float(np.median(np.abs(image - sky)))
        peaks = self._peaks(image - sky, limit=self.config.threshold * sigma)
        self.log.info(
            "Sky %.1f ± %.1f ADU; %d peaks above %g σ", sky, sigma, len(peaks), self.config.threshold
        )
        rows = []
        for number, (y, x) in enumerate(peaks):
            try:
                row = self._measure(image - sky, y, x)
            except np.linalg.LinAlgError:
                self.log.warning("Peak %d at (%d, %d) has no shape, left out", number, x, y, exc_info=True)
                continue
            self.log.verbose("Peak %d: x = %.2f, y = %.2f, flux = %.0f ADU, σ = %.2f px", number, *row)
            rows.append(row)
        self.log.info("Measured %d of %d peaks ✓", len(rows), len(peaks))
        table = np.array(rows, dtype=float).reshape(-1, 4)
        return Struct(stars=Table(table, names=("x", "y", "flux", "sigma")))

    def _peaks(self, image: NDArray[np.float32], *, limit: float) -> list[tuple[int, int]]:
        """Pixels above `limit`, highest in their box, away from the edge."""
        radius = self.config.radius
        found: list[tuple[int, int]] = []
        for y, x in zip(*np.nonzero(image > limit), strict=True):
            box = image[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            highest = box.shape == (2 * radius + 1, 2 * radius + 1) and image[y, x] == box.max()
            # The top of a saturated star is flat: one of its pixels is enough.
            if highest and not any(abs(y - b) <= radius and abs(x - a) <= radius for b, a in found):
                found.append((int(y), int(x)))
        return found

    def _measure(self, image: NDArray[np.float32], y: int, x: int) -> tuple[float, float, float, float]:
        """Position, flux and width of the star whose peak is at (`y`, `x`).

        Raises
        ------
        numpy.linalg.LinAlgError
            The light sits in a single row, column or pixel.
        """
        radius = self.config.radius
        box = image[y - radius : y + radius + 1, x - radius : x + radius + 1].astype(float)
        box = np.where(box > 0.02 * box.max(), box, 0.0)
        flux = box.sum()
        dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        mean_y, mean_x = (box * dy).sum() / flux, (box * dx).sum() / flux
        moments = np.array(
            [
                [(box * (dy - mean_y) ** 2).sum(), (box * (dy - mean_y) * (dx - mean_x)).sum()],
                [(box * (dy - mean_y) * (dx - mean_x)).sum(), (box * (dx - mean_x) ** 2).sum()],
            ]
        )
        np.linalg.inv(moments)  # raises for what is no star
        return x + mean_x, y + mean_y, flux, float(np.linalg.det(moments / flux)) ** 0.25


class MeasureSeeingConnections(PipelineTaskConnections, dimensions=PER_CCD):
    stars = connectionTypes.Input(
        name="labcam_stars", doc="One row a star.", storageClass="ArrowAstropy", dimensions=PER_CCD
    )
    summary = connectionTypes.Output(
        name="labcam_summary",
        doc="Number of stars and seeing, sigma in pixels.",
        storageClass="StructuredDataDict",
        dimensions=PER_CCD,
    )


class MeasureSeeingConfig(PipelineTaskConfig, pipelineConnections=MeasureSeeingConnections):
    fewest = Field(dtype=int, default=3, doc="Stars needed.")


class MeasureSeeingTask(PipelineTask):
    """The median width of the stars. Fails where there are none: a dark
    exposure.
    """

    ConfigClass = MeasureSeeingConfig
    _DefaultName = "measureSeeing"

    def run(self, stars: Table) -> Struct:
        self.log.info("Measuring the seeing from %d stars", len(stars))
        if len(stars) < self.config.fewest:
            # numpy warns about the mean of nothing: a record of logger
            # py.warnings.
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                mean = float(np.mean(np.asarray(stars["sigma"])))
            raise ValueError(
                f"the seeing needs at least {self.config.fewest} stars, there are {len(stars)}:\n"
                f"  mean width: {mean} px\n"
                "  was the shutter closed? (observation_type of the exposure says dark)"
            )
        seeing = float(np.median(stars["sigma"]))
        self.log.info("Widths, px:\n%s", "\n".join(f"  {row['sigma']:6.2f}" for row in stars))
        self.log.info("Seeing σ = %.2f px, FWHM = %.2f px", seeing, 2.355 * seeing)
        summary: dict[str, Any] = {"stars": len(stars), "seeing": seeing}
        return Struct(summary=summary)
