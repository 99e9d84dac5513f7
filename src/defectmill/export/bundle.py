"""The folder that an export writes: code, settings.json, golden pictures, requirements, README.

Nothing here loads a network or a runtime, other than that of the folder itself.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jinja2 import StrictUndefined, Template

from defectmill import files
from defectmill.config import ConfigError, CropData, Experiment
from defectmill.images import write_image
from defectmill.prediction.inspection import is_input
from defectmill.prediction.postprocess import ClassThreshold

TEMPLATES = Path(__file__).with_name("templates")
CODE = ("infer.py", "maps.py", "defects.py")
MARK = ("settings.json", "golden.json", "infer.py", "runtime.py")  # what makes a folder an export
DRIFT = 0.001  # of a class's golden pixels so many may differ more than they did when it was exported
LEAST_DRIFT = 3  # pixels


def describe_network(run: Experiment, file: str) -> dict[str, Any]:
    """Say how `maps.predict` shows pictures to one network: a row of "networks" in settings.json."""
    data, predict = run.data, run.predict
    scale = data.scale if isinstance(data, CropData) else None
    return {
        "file": file,
        "channels": data.channels,
        "shape": list(data.shape) if scale is None else None,
        "scale": scale,
        "scales": list(predict.scales),
        "flips": list(predict.flips),
        "tiles": predict.tiles and {"shape": list(predict.tiles.shape), "overlap": predict.tiles.overlap},
        "stride": run.stride,
        "background": run.model.head == "multiclass",
    }


def describe_settings(
    run: Experiment, thresholds: Sequence[ClassThreshold], networks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Say all that `infer.py` goes by: what settings.json holds."""
    kinds = zip(run.info.classes, thresholds, strict=True)
    roi = f"roi{Path(run.line.roi).suffix}" if run.line.roi else ""
    return {
        "experiment": run.name,
        "classes": [{"name": kind.name, "colour": list(kind.colour), **asdict(one)} for kind, one in kinds],
        "exclusive": run.info.exclusive,
        "bits": run.info.bits,
        "networks": list(networks),
        "roi": roi,
        "mm_per_pixel": run.line.mm_per_pixel,
        "ok_ng": run.line.ok_ng,
    }


def check_target(target: Path) -> Path:
    """Give the folder that an export may write, resolved; ConfigError where it holds something else."""
    held = target.is_dir() and any(target.iterdir()) and not holds_export(target)
    for is_wrong, why in (
        (is_input(target), "input/ is read-only"),
        (target.exists() and not target.is_dir(), "it is a file"),
        (held, "it holds what no export wrote"),
    ):
        if is_wrong:
            raise ConfigError(f"OUT={target}: {why}; choose another folder")
    return target.resolve()


def holds_export(folder: Path) -> bool:
    """Whether an export wrote this folder."""
    return all((folder / name).is_file() for name in MARK)


def write_code(folder: Path, kind: str, settings: Mapping[str, Any], run: Experiment) -> None:
    """Write the scripts for one runtime, of `graphs.RUNTIMES`, settings.json and the region of interest."""
    for name in CODE:
        shutil.copyfile(TEMPLATES / name, folder / name)
    shutil.copyfile(TEMPLATES / f"runtime_{kind}.py", folder / "runtime.py")
    _write_json(folder / "settings.json", settings)
    if run.line.roi:
        shutil.copyfile(files.ROOT / run.line.roi, folder / settings["roi"])


def write_requirements(folder: Path, runtime: str) -> None:
    """Write requirements.txt: the versions that are here, by which the export was compared with Keras."""
    pins = (f"{name}=={version(name)}\n" for name in ("numpy", "opencv-python-headless", runtime))
    (folder / "requirements.txt").write_text("".join(pins))


def write_golden(
    folder: Path, source: Path, masks: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]
) -> None:
    """Write golden pictures, their masks, and how many pixels of each class may differ from them.

    Args:
        source: the folder of the pictures.
        masks: {name: (H, W, C)} that `make infer` gives.
        own: those that the exported network gives now.
    """
    notes = {}
    for name, expected in masks.items():
        stored = f"{name}.png"
        (folder / "golden" / "masks").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / "golden" / name)
        # One class below the other: they may overlap.
        write_image(folder / "golden" / "masks" / stored, np.concatenate(np.moveaxis(255 * expected, 2, 0)))
        differ = (expected != own[name]).sum(axis=(0, 1))
        room = np.maximum(np.ceil(DRIFT * expected.sum(axis=(0, 1), dtype=int)), LEAST_DRIFT)
        notes[name] = {"mask": f"masks/{stored}", "allowed": (differ + room).astype(int).tolist()}
    _write_json(folder / "golden.json", notes)


def write_readme(folder: Path, about: Mapping[str, Any]) -> None:
    """Write README.md, with the table of latencies; see the template."""
    text = (TEMPLATES / "README.md.j2").read_text(encoding="utf-8")
    page = Template(text, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).render(about)
    (folder / "README.md").write_text(page + "\n", encoding="utf-8")


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_code(folder: Path) -> ModuleType:
    """Import infer.py of an export, with the modules beside it and not those of another one."""
    names = ("infer", "maps", "defects", "runtime")
    sys.path.insert(0, str(folder))
    try:
        for name in names:
            sys.modules.pop(name, None)
        return importlib.import_module("infer")
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


def load_module(path: Path) -> ModuleType:
    """Import one of the templates, which stand alone."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def check_golden(folders: Sequence[Path]) -> None:
    """Run the golden pictures of exports again, each as the line would: by its infer.py, in its own process.

    Raises:
        DefectmillError: no export, or masks that are not as they were: picture, class, pixels.
    """
    if not folders:
        raise ConfigError("no export there: `make export EXPERIMENT=<name> FORMAT=onnx` writes one")
    drifted = []
    for folder in folders:
        if not holds_export(folder):
            raise ConfigError(f"{folder}: holds no export, which has {', '.join(MARK)}")
        code = [sys.executable, "infer.py"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(code, cwd=folder, capture_output=True, text=True, check=False, env=environment)
        if done.returncode and not done.stdout:  # it did not come so far
            why = done.stderr.strip().splitlines()[-1]
            todo = f"pip install -r {folder / 'requirements.txt'}; or `make export` writes it anew"
            raise files.DefectmillError(f"{folder}: infer.py fails ({why}): {todo}")
        lines = [f"{folder}: {line}" for line in done.stdout.splitlines()]
        if done.returncode:
            drifted += lines
        else:
            print(*lines, sep="\n")
    if drifted:
        raise files.DefectmillError("\n".join(drifted))
