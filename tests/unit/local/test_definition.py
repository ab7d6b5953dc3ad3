"""Definitions have the keys, the order and the unset values of a real
server's.
"""

import base64

from pilot_core.local.definition import QUEUE_KEY, TEMPLATE, complete, make


def test_keys_and_unset_values() -> None:
    full = make(transformation="https://x/bash-c-enc", parameters="a 'b'", name="n")
    keys = [key for key in full if key != QUEUE_KEY]
    assert keys == list(TEMPLATE)
    assert full["realDatasets"] == "PandaJob_#{pandaid}/"
    assert (full["logFile"], full["outFiles"], full["cmtConfig"], full["nucleus"]) == (
        "log.tgz",
        "log.tgz",
        "",
        "NULL",
    )
    assert full["ioIntensity"] is None
    assert full["jobPars"] == "a 'b'"
    assert len(str(full["logGUID"])) == 36


def test_image_and_encoding() -> None:
    full = make(image="stack:w", parameters="echo \u00fc", encode=True, maxWalltime=60)
    assert full["container_name"] == "stack:w"
    assert base64.b64decode(str(full["jobPars"])).decode() == "echo \u00fc"
    assert full["maxWalltime"] == 60


def test_given_keys_are_kept() -> None:
    full = complete({"logGUID": "mine", "outFiles": "a,b", "secrets": "s"})
    assert (full["logGUID"], full["outFiles"], full["secrets"], full[QUEUE_KEY]) == (
        "mine",
        "a,b",
        "s",
        "LOCAL",
    )


def test_a_dataset_for_each_file() -> None:
    for files, datasets in (("a,b,log.tgz", "PandaJob_#{pandaid}/," * 3), ("", "")):
        assert complete({"outFiles": files})["realDatasets"] == datasets.rstrip(",")
