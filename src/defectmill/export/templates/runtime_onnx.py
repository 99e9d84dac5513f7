"""Runs a network by ONNX Runtime."""

import onnxruntime


def load_network(path, threads=0):
    """Load a network: a function from (1, h, w, channels) float32 0..255 to (1, h, w, classes)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda picture: session.run(None, {name: picture})[0]
