"""Runs a network by LiteRT (TensorFlow Lite)."""

import os

from ai_edge_litert.interpreter import Interpreter


def load_network(path, threads=0):
    """Load a network: a function from (1, h, w, channels) float32 0..255 to (1, h, w, classes)."""
    network = Interpreter(str(path), num_threads=threads or os.cpu_count())
    taken, given = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]

    def run(picture):
        if tuple(network.get_input_details()[0]["shape"]) != picture.shape:
            network.resize_tensor_input(taken, picture.shape)
            network.allocate_tensors()
        network.set_tensor(taken, picture)
        network.invoke()
        return network.get_tensor(given)

    return run
