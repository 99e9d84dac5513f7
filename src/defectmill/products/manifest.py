"""What 02, 03 and 04 say of their products beside them: what they are, to the byte, and what they came from.

labelled.json lies beside the tables of 02, trained.json beside a network, predicted.json beside the
thresholds of 04. Whoever reads such a product checks it first: one that was edited, cut short or taken from
elsewhere is refused. Where there is no such file an earlier version made the product: nothing is checked.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from defectmill import files
from defectmill.config import ConfigError, Experiment, flatten
from defectmill.products.inputs import hash_file
from defectmill.products.provenance import hash_files

LABELLED, TRAINED, PREDICTED = "labelled.json", "trained.json", "predicted.json"
TABLES = ("images.csv", "labels.csv", "test_images.csv", "scans.npz")
DATA = ("train.csv", "solution.csv")
CHOSEN = ("thresholds.json", "training_statistics.json", "dataset.json")
MEASURED: tuple[str, ...] = ("validation.csv", "threshold_search.csv", "evaluation.csv")
MEASURED += ("precision_recall.csv", "image_curves.csv", "suspects.csv", "nested.npy")


def note_labels(run: Experiment) -> None:
    """Write labelled.json: the tables of 02, and the settings, labels, pictures and code they came from."""
    with np.load(run.output / "scans.npz", allow_pickle=False) as scans:
        digests = sorted("{} {}".format(*pair) for p in ("train", "test") for pair in _pair(scans, p))
    note = {
        "settings": {"dataset": run.dataset, "labels": run.labels.model_dump(mode="json")},
        "data": {name: hash_file(run.input / name) for name in DATA},
        "pictures": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        "code": hash_code(),
        "products": {name: hash_file(run.output / name) for name in TABLES},
    }
    _write(run.output / LABELLED, note)


def note_predictions(run: Experiment, overrides: Mapping[str, Any]) -> None:
    """Write predicted.json: the products of 04, and the settings, networks, tables and code they came from.

    Args:
        overrides: those of the experiment's file that 04 was run with.
    """
    products = {name: hash_file(run.output / name) for name in (*CHOSEN, *MEASURED)}
    note = {
        "settings": run.model_dump(mode="json", exclude={"about", "cost", "score", "name"}),
        "overrides": dict(overrides),
        "networks": {name: hash_file(path) for name, path in _list_networks(run).items()},
        "tables": {name: hash_file(run.output / name) for name in TABLES},
        "code": hash_code(),
        "products": {**products, "submission": hash_file(run.submission)},
    }
    _write(run.output / PREDICTED, note)


def check_tables(run: Experiment, network: str = "") -> None:
    """Refuse tables of 02 that are not as it wrote them, or of labels that changed since.

    Args:
        network: the one that is to train by them, if any: then they must be of its settings.
    Raises:
        ConfigError: with what changed and what to do.
    """
    note = read_note(run.output / LABELLED)
    if not note:
        return
    _check_products(run, note, "labels", TABLES)
    for name, then in note["data"].items():
        if (run.input / name).is_file() and hash_file(run.input / name) != then:
            todo = f"`make labels EXPERIMENT={run.name}` reads it anew"
            raise ConfigError(f"{run.input / name}: changed since 02 read it: {todo}")
    now = run.labels.model_dump(mode="json")
    fixed = {key: then for key, then in note["settings"]["labels"].items() if key != "validation_fold"}
    changed = tell_changes({"labels": fixed}, {"labels": {key: now[key] for key in fixed}})
    if network and changed:
        todo = f"`make labels EXPERIMENT={run.name}` makes it with these settings"
        raise ConfigError(f"{run.output / 'images.csv'}: made with other settings ({changed[0]}): {todo}")


def check_network(run: Experiment, path: Path) -> None:
    """Refuse a network that is not the one its trained.json tells of; ConfigError says what to do."""
    if read_note(path.with_name(TRAINED)).get("sha256") not in (None, hash_file(path)):
        todo = f"put the right one there, or delete it: `make train EXPERIMENT={run.name}`"
        raise ConfigError(f"{path}: not the network that {TRAINED} beside it tells of: {todo}")


def check_predictions(run: Experiment, is_whole: bool = False) -> None:
    """Refuse thresholds, and what comes with them, that are not as 04 wrote them or are of other networks.

    Args:
        is_whole: all products of 04 are asked for, not only what an inspection needs: then their tables must
            be those of now.
    Raises:
        ConfigError: with what does not fit and what to do.
    """
    note = read_note(run.output / PREDICTED)
    if not note:
        return
    _check_products(run, note, "predict", (*CHOSEN, *(MEASURED if is_whole else ())))
    todo = f"`make predict EXPERIMENT={run.name}` makes it anew"
    for name, path in _list_networks(run).items():
        check_network(run, path)
        if hash_file(path) != note["networks"].get(name, hash_file(path)):
            what = f"chosen for another network {name} than there is now"
            raise ConfigError(f"{run.output / CHOSEN[0]}: {what}: {todo}")
    if is_whole:
        _check_products(run, note, "predict", ("submission",))
        for name in TABLES[:2]:
            if hash_file(run.output / name) != note["tables"][name]:
                raise ConfigError(f"{run.output / MEASURED[0]}: predicted with another {name}: {todo}")


def read_note(path: Path) -> dict[str, Any]:
    """Read such a file, or another note of a step's; empty where there is none.

    ConfigError: it is no JSON, or not an object.
    """
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}): delete it, and make again") from error
    if not isinstance(note, dict):
        raise ConfigError(f"{path}: holds {type(note).__name__}, not a note: delete it, and make again")
    return note


def tell(value: Any) -> str:
    """A setting's value as SET takes it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def tell_set(overrides: Mapping[str, Any]) -> str:
    """Overrides as SET takes them."""
    return " ".join(f"{key}={tell(value)}" for key, value in flatten(overrides).items())


def find_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Find the settings, {dotted name: value of now}, that differ; None stands for one that is not there."""
    old, new = flatten(then), flatten(now)
    return {name: new.get(name) for name in {**old, **new} if old.get(name) != new.get(name)}


def tell_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which settings differ, each as "training.steps 200 -> 300"; one that is not there is "null"."""
    old = flatten(then)
    return [f"{name} {tell(old.get(name))} -> {tell(new)}" for name, new in find_changes(then, now).items()]


def hash_code() -> str:
    """Hash all modules of the project: 64 hexadecimal digits."""
    return hash_files(sorted(files.PACKAGE.rglob("*.py")), files.PACKAGE)


def _pair(scans: Mapping[str, Any], part: str) -> Iterable[tuple]:
    return zip(scans[f"{part} ImageId"], scans[f"{part} digest"], strict=True)


def _list_networks(run: Experiment) -> dict[str, Path]:
    """{network, of a member "<its name> <network>": file}, of those that are there."""
    found = {}
    for part in run.load_parts():
        for name in part.networks:
            path = part.network_folder(name) / "model.keras"
            if path.is_file():
                found[f"{part.name} {name}" if run.members else name] = path
    return found


def _check_products(run: Experiment, note: Mapping[str, Any], target: str, names: Iterable[str]) -> None:
    for name in names:
        path = run.submission if name == "submission" else run.output / name
        if path.is_file() and hash_file(path) != note["products"].get(name):
            todo = f"delete it, and `make {target} EXPERIMENT={run.name}` makes it anew"
            raise ConfigError(f"{path}: not as {_STEPS[target]} wrote it, edited or cut short: {todo}")


_STEPS = {"labels": "02", "predict": "04"}


def _write(path: Path, note: Mapping[str, Any]) -> None:
    files.write_if_changed(path, json.dumps(note, indent=1) + "\n")
