"""What make would do again for an experiment, and why: a line a step."""

from collections.abc import Iterable, Mapping
from typing import Any

from defectmill import files
from defectmill.config import Experiment
from defectmill.products import history, inputs
from defectmill.products.manifest import TRAINED, read_note, tell_changes
from defectmill.products.provenance import Origin, describe_step, describe_training, hash_step, hash_training

MOST = 4  # reasons that are told of a step
NEEDS = {"03_train": ("02_labels",), "04_predict": ("02_labels", "03_train")}
NEEDS["05_report"] = ("02_labels", "03_train", "04_predict")
UNTOLD = "an earlier version made it, and did not say of what"


def print_why(run: Experiment, sources: Iterable[str]) -> None:
    """Print for each step that it is up to date, or what would be done again and why.

    Nothing is changed by it but the notes of what the input is.

    Args:
        sources: for each notebook its own path and then whatever make holds its products to be made from.
    """
    if not (run.input / "dataset.json").is_file():
        print(f"  {'input':12} would be made: {run.input.relative_to(files.ROOT)} is not there")
    else:
        inputs.write_parts(run.input, run.output / "settings" / "inputs")
    steps, redone = _split(sources), set[str]()
    for name in sorted({*steps, "03_train"}):
        said = explain_training(run) if name == "03_train" else explain_step(run, name, steps[name])
        before = [step for step in NEEDS.get(name, ()) if step in redone]
        if said:
            redone.add(name)
        elif before:
            said = [f"depends on what {' and '.join(before)} will write"]
        print(f"  {name:12} {'; '.join(said) or 'up to date'}")


def explain_step(run: Experiment, name: str, sources: Iterable[str]) -> list[str]:
    """Say why a notebook would run again; nothing where its products stand."""
    sources = list(sources)
    note = read_note(run.output / "notebooks" / f"{name}.json")
    made_from = hash_step(run, name, sources)
    if history.stands(run, name, made_from):
        return []
    told = "would run"
    if not note:
        return ["would run: it has not yet"]
    lost = [path.name for path in history.list_products(run, name) if not path.is_file()]
    reasons = [f"{path} is missing" for path in lost]
    if note.get("made_from") != made_from:
        reasons += tell_origins(note.get("from", {}), describe_step(run, name, sources))
    elif not lost:
        reasons = ["somebody wrote its products since make ran it"]
    if name in history.KEPT and (kept := history.find_kept(run, name, made_from)):
        told = f"would come back from run {kept[0].name}"
    return [f"{told}: {_shorten(reasons)}"]


def explain_training(run: Experiment) -> list[str]:
    """Say which networks would be trained, and why; nothing where all of them stand."""
    said = []
    for network in () if run.members else run.networks:
        one = run.model_copy(update={"network": network})
        if not (one.training_folder / "model.keras").is_file():
            said.append(f"{network} would be trained: it is not there")
        elif changes := explain_network(one):
            kept = history.find_kept(one, "03_train", hash_training(one))
            told = f"come back from {kept[0].name}" if kept else "be trained anew"
            said.append(f"{network} would {told}: {_shorten(changes)}")
    return said


def explain_network(run: Experiment) -> list[str]:
    """Say what the trained network of `run.network` was made from otherwise than it would be now."""
    note = read_note(run.training_folder / TRAINED)
    if not (run.output / "images.csv").is_file() or note.get("made_from") == hash_training(run):
        return []
    return tell_origins(note.get("from", {}), describe_training(run))


def tell_origins(then: Mapping[str, Any], now: Origin) -> list[str]:
    """Say what differs between what a product was made from and what it would be made from now."""
    if not then:
        return [UNTOLD]
    said = tell_changes(then["settings"], now["settings"])
    old, new = then["files"], now["files"]
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            what = "" if path in old and path in new else " is new" if path in new else " is gone"
            said.append(f"{_name(path)}{what or ' changed'}")
    return said


def _name(path: str) -> str:
    inside = path.removeprefix("src/defectmill/")
    if inside != path:
        return f"code {inside}"
    before, is_input, part = path.partition("/settings/inputs/")
    return f"data {part}" if is_input else before


def _shorten(reasons: list[str]) -> str:
    more = len(reasons) - MOST
    return ", ".join(reasons[:MOST]) + f" and {more} more" * (more > 0)


def _split(sources: Iterable[str]) -> dict[str, list[str]]:
    """{notebook: sources}; a notebook's own path comes before what else it is made from."""
    steps: dict[str, list[str]] = {}
    for source in sources:
        if source.startswith("notebooks/"):
            steps[name := source.removeprefix("notebooks/").removesuffix(".ipynb")] = []
        steps[name].append(source)
    return steps
