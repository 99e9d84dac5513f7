"""Fixtures that several test modules share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# As make does: albumentations asks the network at import, TensorFlow talks.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder that the whole package takes for its own."""
    from defectmill import config, import_config
    from defectmill.datasets import __main__ as prepare

    for module in (config, prepare, import_config):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "notebooks" / "experiments").mkdir(parents=True)
    (tmp_path / "input").mkdir()
    return tmp_path


@pytest.fixture
def table_file(tmp_path: Path) -> Callable[..., Path]:
    """Write lines as a CSV file: table_file("a,b", "1,2", name="x.csv")."""

    def write(*lines: str, name: str = "table.csv", end: str = "\n", bom: bool = False) -> Path:
        path = tmp_path / name
        text = "".join(line + end for line in lines)
        path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
        return path

    return write
