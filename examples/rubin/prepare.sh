#!/usr/bin/env bash
# prepare.sh FOLDER: what a physicist does before jobs are submitted.
#
# Makes in FOLDER a Butler repository with synthetic raws (repo/), the quantum graph of the
# pipeline over them (labcam.qg), and the list of its quanta (quanta.jsonl). The jobs that
# follow read the graph and the repository's files, never its database.
set -euo pipefail

folder=${1:?usage: prepare.sh FOLDER}
readonly exposures=2 run=LabCam/runs/example
# Jobs may run as somebody else than who prepares: whatever is made here is theirs to write.
umask 000

cd "$folder"
butler create repo
labcam-observe repo --exposures "$exposures"
pipeline=$(python3 -c 'import importlib.resources as r; print(r.files("lsst.labcam") / "pipeline.yaml")')
# The datastore records in the graph say where each file is: the jobs need not ask a registry.
pipetask --long-log qgraph --butler-config repo --input LabCam/raw/all --output-run "$run" \
    --pipeline "$pipeline" --save-qgraph labcam.qg --qgraph-datastore-records \
    --data-query "instrument = 'LabCam'"
labcam-quanta labcam.qg >quanta.jsonl
