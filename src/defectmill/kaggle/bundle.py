"""What an experiment's prediction needs, in one flat folder that Kaggle takes as a dataset; and a notebook.

A network travels as weights: its own file tells its layers in words of one version of Keras.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from defectmill.config import ConfigError, Experiment
from defectmill.dataset_info import DatasetInfo
from defectmill.files import check_name, read_text, write_atomically
from defectmill.kaggle.metadata import Place, describe_dataset, describe_kernel, write_json
from defectmill.kaggle.wheel import build_wheel
from defectmill.prediction.postprocess import ClassThreshold
from defectmill.prediction.thresholds import read_thresholds
from defectmill.products.inputs import hash_file
from defectmill.products.manifest import check_predictions, hash_code, read_note

KIND = "defectmill bundle"
MANIFEST, SETTINGS, THRESHOLDS = "manifest.json", "settings.json", "thresholds.json"
DATASET, NOTEBOOK = "dataset", "notebook"  # folders of output/x/kernel
PREDICT, TRAIN = "predict", "train"  # what a notebook does: its name, here and in its address at Kaggle
TOLD_ELSEWHERE = {"name", "about", "cost", "score", "variant", "network", "info"}
PROBE = (96, 160)  # pixels of the picture by which a network is compared with what its weights rebuild


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read back: networks are (experiment, file of its weights)."""

    folder: Path
    experiment: str
    competition: str
    info: DatasetInfo
    networks: tuple[tuple[Experiment, Path], ...]

    def load_networks(self) -> list[tuple[Experiment, Any]]:
        """Build the networks as `predict_folder` takes them."""
        from defectmill.models import load_weights, refuse_broken_weights

        loaded = []
        for run, path in self.networks:
            model = load_weights(run, path)
            refuse_broken_weights(model, path)
            loaded.append((run, model))
        return loaded

    @property
    def thresholds(self) -> list[ClassThreshold]:
        return read_thresholds(self.folder / THRESHOLDS)


def write_kernel(run: Experiment, place: Place) -> Path:
    """Write output/<experiment>/kernel: dataset/ and notebook/; they appear when both are whole.

    Raises:
        ConfigError: networks or thresholds that are missing or do not fit, or a network that the code of now
            builds otherwise than that of its training.
    """
    target = run.output / "kernel"
    with write_atomically(target) as part:
        write_bundle(run, place, part / DATASET)
        write_notebook(run.name, place, PREDICT, part / NOTEBOOK)
    return target


def write_bundle(run: Experiment, place: Place, folder: Path) -> None:
    """Write the flat folder: wheel, weights, thresholds, settings, manifest and what Kaggle is told."""
    run.require(run.output / THRESHOLDS, "predict")
    check_predictions(run)
    folder.mkdir(parents=True)
    told = _write_weights(run, folder)
    shutil.copyfile(run.output / THRESHOLDS, folder / THRESHOLDS)
    settings = {"experiment": run.name, "competition": place.competition, "networks": told}
    write_json(folder / SETTINGS, {**settings, "info": run.info.model_dump(mode="json")})
    close_dataset(run.name, place, PREDICT, folder)


def close_dataset(experiment: str, place: Place, what: str, folder: Path) -> None:
    """Write the last files of a flat folder: the wheel, the manifest and dataset-metadata.json."""
    build_wheel(folder)
    sums = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
    write_json(
        folder / MANIFEST, {"kind": KIND, "experiment": experiment, "code": hash_code(), "files": sums}
    )
    write_json(folder / "dataset-metadata.json", describe_dataset(experiment, place, what))


def write_notebook(experiment: str, place: Place, what: str, folder: Path) -> None:
    """Write the notebook that Kaggle runs, and kernel-metadata.json."""
    folder.mkdir(parents=True)
    code = f"{what}.ipynb"
    text = read_text(Path(__file__).with_name(code))
    text = text.replace("seconds = 32400", f"seconds = {round(place.hours * 3600)}")
    (folder / code).write_text(text, encoding="utf-8")
    write_json(folder / "kernel-metadata.json", describe_kernel(experiment, place, what))


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle back.

    Raises:
        ConfigError: a file is missing, or is not what was written; by its sum in the manifest.
    """
    try:
        told = read_settings(folder)
        info = DatasetInfo.model_validate(told["info"])
        networks = []
        for one in told["networks"]:
            named = {"name": one["name"], "network": one["network"], "info": info}
            run = Experiment.model_validate({**one["settings"], **named})
            networks.append((run, folder / one["weights"]))
        return Bundle(folder, told["experiment"], told["competition"], info, tuple(networks))
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise ConfigError(f"{folder}: not a folder that `make kernel` wrote: {error}") from error


def read_settings(folder: Path) -> dict[str, Any]:
    """Read settings.json of a bundle, after all files were compared with their sums; see `read_bundle`."""
    try:
        for name, then in read_note(folder / MANIFEST)["files"].items():
            if hash_file(folder / check_name(name, MANIFEST)) != then:
                told = f"missing, or not the file that {MANIFEST} tells of"
                raise ConfigError(f"{folder / name}: {told}: `make push` uploads it again")
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder}: not a folder that `make kernel` wrote: {error}") from error
    return read_note(folder / SETTINGS)


def _write_weights(run: Experiment, folder: Path) -> list[dict[str, Any]]:
    """Write the weights of the networks that predict the test images, and give what settings.json tells."""
    from defectmill.models import load_networks, load_weights

    told: list[dict[str, Any]] = []
    for part, model in load_networks(run, "test"):
        path = folder / f"{part.name}-{part.network}.weights.h5"
        model.save_weights(path)
        probe = _draw_probe(part.data.channels)
        rebuilt = load_weights(part, path)
        if not np.array_equal(model.predict_on_batch(probe), rebuilt.predict_on_batch(probe)):
            todo = f"`make train EXPERIMENT={part.name}` trains it anew"
            why = "the code of now builds another network of its settings"
            raise ConfigError(f"{part.network_folder(part.network) / 'model.keras'}: {why}: {todo}")
        settings = part.model_dump(mode="json", exclude_unset=True, exclude=TOLD_ELSEWHERE)
        told.append({"name": part.name, "network": part.network, "weights": path.name, "settings": settings})
    return told


def _draw_probe(channels: int) -> np.ndarray:
    """Two pictures of noise, (2, H, W, channels) float32."""
    return np.random.default_rng(0).integers(0, 256, (2, *PROBE, channels)).astype(np.float32)
