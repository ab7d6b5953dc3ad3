"""What a quantum graph holds: a line of JSON for each quantum, in running
order.

BPS does the same when it turns a graph into jobs: a job is named by the
quanta it runs.
"""

import argparse
import json

from lsst.pipe.base.quantum_graph import PredictedQuantumGraph


def main() -> None:
    """``labcam-quanta GRAPH``."""
    parser = argparse.ArgumentParser(description="List the quanta of a LabCam quantum graph.")
    parser.add_argument("graph", help="file made by `pipetask qgraph`")
    with PredictedQuantumGraph.open(parser.parse_args().graph) as reader:
        reader.read_thin_graph()
        graph = reader.finish()
    for task, quanta in graph.quanta_by_task.items():
        found = sorted((data["exposure"], data["detector"], str(number)) for data, number in quanta.items())
        for exposure, detector, number in found:
            print(json.dumps({"task": task, "exposure": exposure, "detector": detector, "id": number}))


if __name__ == "__main__":
    main()
