"""LabCam: two CCDs on a test stand, and a pipeline that measures their images.

It lives below ``lsst`` because ``--log-level=VERBOSE`` speaks to the ``lsst``
loggers only, and a task's logger is named after its top package.
"""
