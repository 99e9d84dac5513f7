"""Keras networks as the files that ONNX Runtime, OpenVINO and LiteRT run, in float32 or calibrated to int8.

A graph holds the network from pixel values 0..255 to probabilities. What repeats the edge up to sides that
the network takes is left out, for tf2onnx (1.17) converts it to nothing: its maps come out smaller than their
picture. `export/templates` does that, and all that comes after a mean over flips, scales, tiles and networks.
"""

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from defectmill.config import ConfigError
from defectmill.models.layers import CropLike, PadToMultiple

# Packages that are imported, and that infer.py imports: by their names in a registry.
NEEDS = {
    "onnx": ("onnx", "tf2onnx", "onnxruntime"),
    "openvino": ("onnx", "tf2onnx", "onnxruntime", "openvino"),
    "litert": ("ai_edge_litert",),
}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite"}
PRECISIONS = ("float", "int8")
INSTALL = "pip install 'defectmill[export]', in the project's folder: pip install -e '.[export]'"


def require_packages(formats: Sequence[str]) -> None:
    """Raise ConfigError where a package that a format needs is missing, with what to do."""
    for name in formats:
        for package in NEEDS[name]:
            if find_spec(package) is None:
                raise ConfigError(f"FORMAT={name} needs the package {package.replace('_', '-')}: {INSTALL}")


@keras.saving.register_keras_serializable(package="defectmill")
class Doubling(keras.layers.Layer):
    """Repeat rows and columns, as `UpSampling2D` does, by the operation that the other runtimes have for it.

    Keras' own, `repeat`, loses the number of channels on the way, so that LiteRT takes no size but one.
    """

    def call(self, x):
        from tensorflow import raw_ops, shape

        size = shape(x)[1:3] * 2
        doubled = raw_ops.ResizeNearestNeighbor(images=x, size=size, half_pixel_centers=False)
        doubled.set_shape((*x.shape[:1], None, None, *x.shape[3:]))
        return doubled

    def compute_output_shape(self, input_shape):
        n, h, w, c = input_shape
        return n, h and 2 * h, w and 2 * w, c


def strip_model(model: keras.Model) -> keras.Model:
    """Give the same network, with the same weights, for pictures whose sides are multiples of its stride."""

    def call(layer: Any, *inputs: Any, **kwargs: Any) -> Any:
        match layer:
            case PadToMultiple():
                return inputs[0]
            case CropLike():
                return inputs[0][0]
            case keras.layers.UpSampling2D(interpolation="nearest", size=(2, 2)):
                return Doubling()(inputs[0])
        return layer(*inputs, **kwargs)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def write_network(model: keras.Model, path: Path, samples: Sequence[np.ndarray] = ()) -> None:
    """Write a network for the runtime that the suffix tells, of SUFFIXES.

    Args:
        model: of `build_model`; its pixels' sides must be multiples of its stride there.
        samples: (1, h, w, channels) float32, on which activations are calibrated to int8; none: float32.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports every import
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converters look for what NumPy no longer has
        _write(strip_model(model), path, samples)


def _write(plain: keras.Model, path: Path, samples: Sequence[np.ndarray]) -> None:
    how: dict[str, Any] = {"verbose": False}
    shape = (1, None, None, plain.input_shape[-1])
    how["input_signature"] = [keras.InputSpec(shape=shape, dtype="float32", name="image")]
    match path.suffix:
        case ".tflite" if samples:
            from tensorflow import lite

            calibrate: Callable = lambda: ([sample] for sample in samples)  # noqa: E731
            plain.export(
                str(path),
                format="litert",
                optimizations=[lite.Optimize.DEFAULT],
                representative_dataset=calibrate,
                **how,
            )
        case ".tflite":
            plain.export(str(path), format="litert", **how)
        case ".xml" if not samples:
            plain.export(str(path), format="openvino", **how)
        case _:
            with tempfile.TemporaryDirectory() as spare:
                float_path = Path(spare) / "float.onnx"
                plain.export(str(float_path), format="onnx", **how)
                _finish_onnx(float_path, path, samples)


def _finish_onnx(source: Path, path: Path, samples: Sequence[np.ndarray]) -> None:
    """Quantise where there are samples, and write ONNX or, from that, OpenVINO's files."""
    import onnx

    written = source
    if samples:
        from onnxruntime import quantization

        written = source.with_name("int8.onnx")
        network = onnx.load(source)
        # Probabilities keep their digits near 0 and 1, where thresholds lie.
        last = [node.name for node in network.graph.node if node.op_type in ("Sigmoid", "Softmax")]
        quantization.quantize_static(
            str(source),
            str(written),
            _Reader(network.graph.input[0].name, iter(samples)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,  # OpenVINO misreads signed ones (2026.4)
            nodes_to_exclude=last,
        )
    if path.suffix == ".onnx":
        path.write_bytes(written.read_bytes())
        return
    import openvino

    openvino.save_model(openvino.Core().read_model(written), path, compress_to_fp16=False)


class _Reader:
    """What `quantize_static` asks for one input after the other."""

    def __init__(self, name: str, samples: Iterator[np.ndarray]):
        self.name, self.samples = name, samples

    def get_next(self) -> dict[str, np.ndarray] | None:
        sample = next(self.samples, None)
        return None if sample is None else {self.name: sample}
