"""Rubin Observatory: LSST pipelines submitted by BPS through iDDS."""

from collections.abc import Mapping

from pilot_core.experiments.environment import BATCH_SITE, HOST_BASICS, LSST_SITE, PANDA_CLIENT, WORKER
from pilot_core.experiments.generic import GenericExperiment
from pilot_core.model.job import Job
from pilot_core.model.payload import JobPaths
from pilot_core.model.queue import Queue

__all__ = ["RubinExperiment"]

#: The runner of ctrl_bps_panda makes the path of the payload's log from this
#: variable and breaks without it; it is a single name in every deployment.
_LOG = "payload-log.json"


class RubinExperiment(GenericExperiment):
    """What Rubin's jobs rely on.

    On GKE the transformation `bash-c-enc` starts an inner container by itself;
    for that its script reads PANDAID, REALTIME_LOGFILES and S3_ENDPOINT_URL
    from
    the environment and the payload's credentials from files in /credentials.
    On
    batch sites the same script runs the stack from CVMFS with what the site's
    prolog has set. Both may use the X.509 proxy.
    """

    name = "rubin"
    # pilot3's list, without its http:// variants: code is fetched over TLS.
    base_urls: tuple[str, ...] = (
        "https://storage.googleapis.com/drp-us-central1-containers",
        "https://pandaserver-doma.cern.ch",
        "https://pandaserver.cern.ch",
    )
    everywhere = WORKER
    beside_pilot = HOST_BASICS + BATCH_SITE + LSST_SITE + PANDA_CLIENT
    hands_over_proxy = True

    def _environment(
        self, job: Job, queue: Queue, paths: JobPaths, environment: Mapping[str, str]
    ) -> dict[str, str]:
        return {"REALTIME_LOGFILES": _LOG, **super()._environment(job, queue, paths, environment)}
