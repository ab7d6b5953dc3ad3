"""Expose the camera that does not exist: synthetic raws into a Butler
repository.

The last exposure is taken with the shutter closed: it holds no stars, and the
pipeline cannot measure it. That is the quantum that fails on purpose.
"""

import argparse
import logging

import numpy as np
from lsst.daf.butler import Butler, DatasetType
from lsst.labcam.instrument import AMPLIFIERS, IMAGE_COLUMNS, OVERSCAN_COLUMNS, ROWS, SATURATION, LabCam
from numpy.typing import NDArray

RAW_RUN = "LabCam/raw/all"
NIGHT = 20260115
STARS = 12
SEEING = 1.8
"""Width of a star's image, sigma in pixels."""

_LOG = logging.getLogger("lsst.labcam.observe")


def take_image(*, seed: int, shutter_open: bool) -> NDArray[np.float32]:
    """One read-out CCD.

    Parameters
    ----------
    seed
        Same seed, same image.
    shutter_open
        Without light there is bias and read noise only.

    Returns
    -------
    image
        ADU, shape ``(ROWS, amplifiers * (IMAGE_COLUMNS + OVERSCAN_COLUMNS))``.
    """
    random = np.random.default_rng(seed)
    columns = len(AMPLIFIERS) * IMAGE_COLUMNS
    light = np.zeros((ROWS, columns))
    if shutter_open:
        row, column = np.mgrid[:ROWS, :columns]
        for _ in range(STARS):
            y, x = random.uniform(8, ROWS - 8), random.uniform(8, columns - 8)
            peak = 10 ** random.uniform(3.0, 5.0)
            light += peak * np.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * SEEING**2))
        # A cosmic ray hits one pixel: too narrow for a star, it has no shape.
        light[random.integers(16, ROWS - 16), random.integers(16, columns - 16)] += 3e4
        light = random.poisson(light + 50.0).astype(float)
    parts = []
    for number in range(len(AMPLIFIERS)):
        part = np.zeros((ROWS, IMAGE_COLUMNS + OVERSCAN_COLUMNS))
        part[:, :IMAGE_COLUMNS] = light[:, number * IMAGE_COLUMNS : (number + 1) * IMAGE_COLUMNS]
        parts.append(part + random.normal(900 + 40 * number, 6, part.shape))
    return np.clip(np.hstack(parts), 0, SATURATION * 1.09).astype(np.float32)


def observe(repo: str, *, exposures: int) -> None:
    """Register the camera and put `exposures` exposures of both CCDs into
    `repo`.
    """
    butler = Butler.from_config(repo, writeable=True, run=RAW_RUN)
    registry = butler.registry
    LabCam().register(registry)
    dimensions = ("instrument", "exposure", "detector")
    registry.registerDatasetType(
        DatasetType("raw", dimensions, storageClass="NumpyArray", universe=butler.dimensions)
    )
    registry.syncDimensionData("day_obs", {"instrument": "LabCam", "id": NIGHT})
    for number in range(1, exposures + 1):
        shutter_open = number < exposures
        group, exposure = f"{NIGHT}_{number:03d}", NIGHT * 1000 + number
        registry.syncDimensionData("group", {"instrument": "LabCam", "name": group})
        registry.syncDimensionData(
            "exposure",
            {
                "instrument": "LabCam",
                "id": exposure,
                "obs_id": f"LC_{group}",
                "group": group,
                "day_obs": NIGHT,
                "seq_num": number,
                "physical_filter": "red650" if number % 2 else "blue450",
                "exposure_time": 15.0 if shutter_open else 0.0,
                "observation_type": "science" if shutter_open else "dark",
            },
        )
        for detector in (0, 1):
            image = take_image(seed=10 * number + detector, shutter_open=shutter_open)
            butler.put(image, "raw", instrument="LabCam", exposure=exposure, detector=detector)
        _LOG.info("Exposure %d: %s", exposure, "stars" if shutter_open else "shutter closed")


def main() -> None:
    """``labcam-observe REPO [--exposures N]``."""
    parser = argparse.ArgumentParser(description="Put synthetic LabCam raws into a Butler repository.")
    parser.add_argument("repo", help="Butler repository, as made by `butler create`")
    parser.add_argument("--exposures", type=int, default=2, help="how many, the last one dark (default 2)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    observe(arguments.repo, exposures=arguments.exposures)


if __name__ == "__main__":
    main()
