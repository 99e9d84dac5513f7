"""Runs a network by OpenVINO."""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # else the import below reports itself to its makers
import openvino  # noqa: E402

MOST = 8  # sizes of pictures for which it is kept compiled


def load_network(path, threads=0):
    """Load a network: a function from (1, h, w, channels) float32 0..255 to (1, h, w, classes).

    It is compiled for each size of picture, which takes a second once and halves the time of all others. By
    itself OpenVINO would compute in bfloat16 where the processor can, and give other masks.
    """
    how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    core, compiled = openvino.Core(), {}
    network = core.read_model(str(path))

    def run(picture):
        if picture.shape not in compiled:
            if len(compiled) == MOST:
                compiled.clear()
            network.reshape(list(picture.shape))
            compiled[picture.shape] = core.compile_model(network, "CPU", how)
        return compiled[picture.shape](picture)[0]

    return run
