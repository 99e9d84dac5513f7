"""What a result was made from, by which code, on which machine, and how long it took."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from defectmill import files
from defectmill.config import Experiment
from defectmill.products.inputs import hash_file

# Modules that training uses beside those of models/.
TRAINED_BY: tuple[str, ...] = ("images.py", "labels.py", "rle.py", "split.py", "prediction/tiles.py")
TRAINED_BY += ("training/augment.py", "training/callbacks.py", "training/fit.py")
TRAINED_BY += ("training/resume.py", "training/sequences.py")
LEAST_STEPS = {True: 100, False: 200}  # of a pretrained network, and of an untrained one
Origin = dict[str, dict[str, Any]]  # settings: {name: value}; files: {path below the project: SHA-256}
PACKAGES = ("keras", "tensorflow", "numpy", "pandas", "opencv-python-headless", "albumentations")


def describe_run(run: Experiment) -> dict[str, str]:
    """Tell where a run's numbers come from: {what: text}; all its settings last, as YAML."""
    info = run.info
    times = [f"{step} {used['seconds']:.0f} s" for step, used in read_usage(run).items()]
    return {
        "data": f"{info.title}; licence: {info.licence}; source: {info.source or 'your own'}",
        "citation": info.citation or "none given",
        "data hash": f"sha256 {hash_folder(run.input)} (every file of input/{info.name})",
        "networks": describe_networks(run),
        "code": find_commit(),
        "seed": str(run.seed),
        **find_versions(),
        "machine": describe_machine(),
        "time": ", ".join(times) or "not measured",
        "settings": yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, default_flow_style=None),
    }


def describe_networks(run: Experiment) -> str:
    """Tell which network learned from what, and which predicts what, by networks.json."""
    path, said = run.output / "networks.json", []
    for name, note in (json.loads(path.read_text()) if path.is_file() else {}).items():
        said.append(f"{name} learned from {note['images']} images, {note['validation']} left out")
    for part in run.load_parts():
        of, test, own = f" of {part.name}" * bool(run.members), part.test_networks(), part.infer_networks
        said.append(
            f"the test part is predicted by {', '.join(test)}{of}, make infer by {', '.join(own)}{of}"
        )
    return "; ".join(said)


def hash_folder(folder: Path) -> str:
    """Hash the names and contents of all files of a folder, linked ones too: 64 hexadecimal digits.

    Hidden files do not count: they tell of the machine, not of the data.
    """
    found = (Path(top) / name for top, _, names in os.walk(folder, followlinks=True) for name in names)
    return hash_files(sorted(path for path in found if not path.name.startswith(".")), folder)


def hash_files(paths: Iterable[Path], folder: Path | None = None) -> str:
    """Hash the contents of files and their names, those below `folder` if given: 64 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update((path.relative_to(folder).as_posix() if folder else path.name).encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _hash_each(paths: Iterable[Path]) -> dict[str, str]:
    return {_name(path): hash_file(path) for path in paths}


def _name(path: Path) -> str:
    """Its path from the project's folder; what the package brings counts as in a checkout, wherever it is."""
    if path.is_relative_to(files.PACKAGE / "notebooks"):
        return path.relative_to(files.PACKAGE).as_posix()
    if path.is_relative_to(files.PACKAGE):
        return f"src/defectmill/{path.relative_to(files.PACKAGE).as_posix()}"
    return os.path.relpath(path, files.ROOT)


def hash_code(path: Path) -> str:
    """Hash a module, or the code of a notebook: comments, docstrings, layout and outputs do not count."""
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".ipynb":
            cells = json.loads(text).get("cells", [])
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                node.body[0] = ast.Pass()
        text = ast.unparse(tree)
    except (SyntaxError, ValueError):  # it cannot run, and says so where it is to
        pass
    return hashlib.sha256(text.encode()).hexdigest()


def describe_training(run: Experiment) -> Origin:
    """Tell what the weights of `run.network` come from: its settings, labels, pictures, code and notebook.

    What a last fit does not heed, folds and what watches them, does not count for it. The pictures are those
    that 02 saw.

    Raises:
        ConfigError: 02 has not run.
    """
    settings = run.model_dump(mode="json", include={"dataset", "seed", "data", "model", "training"})
    settings["info"] = run.info.model_dump(mode="json", include={"bits"})  # how a picture's file is read
    is_last, training = run.network == "last", settings["training"]
    for name in ("tensorboard", "save_every"):
        training.pop(name)
    for name in ("epochs", "keep", "early_stop", "previews") if is_last else ("last_fit", "warm_start"):
        del training[name]
    source, solution = files.PACKAGE, run.input / "solution.csv"
    code = [*(source / name for name in TRAINED_BY), *sorted(source.glob("models/*.py"))]
    code.append(files.find_own("03_train.ipynb"))
    weights = files.ROOT / str(getattr(run.model, "weights", "none"))
    tables = [run.require(run.output / "labels.csv", "labels"), *[weights] * weights.is_file()]
    with_tests = is_last and solution.is_file()
    if with_tests:
        tables += [run.require(run.output / "test_images.csv", "labels"), solution]
    told = {_name(path): hash_code(path) for path in code if path.is_file()}
    told |= {path.name: hash_file(path) for path in tables}
    images = pd.read_csv(run.require(run.output / "images.csv", "labels")).drop(columns=["fold"] * is_last)
    told["images.csv"] = hashlib.sha256(images.to_csv(index=False).encode()).hexdigest()
    pictures: list[str] = []
    with np.load(run.require(run.output / "scans.npz", "labels"), allow_pickle=False) as scans:
        for part in ("train", "test")[: 1 + with_tests]:
            pictures += sorted(map("{} {}".format, scans[f"{part} ImageId"], scans[f"{part} digest"]))
    told["pictures"] = hashlib.sha256("\n".join(pictures).encode()).hexdigest()
    if is_last and run.training.warm_start:
        first = run.model_copy(update={"network": run.fold_networks[0]})
        told["the first fold's network"] = hash_training(first)
    return {"settings": settings, "files": told}


def hash_training(run: Experiment) -> str:
    """Hash what the weights of `run.network` come from, see `describe_training`."""
    text = json.dumps([run.network or run.networks[0], describe_training(run)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def find_versions() -> dict[str, str]:
    """Versions of Python and of the packages that train."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def describe_step(run: Experiment, name: str, sources: Iterable[str]) -> Origin:
    """Tell what a notebook's products come from: settings, and what make holds them to be made from.

    04 and 05 also come from the networks, and from all settings.

    Args:
        sources: paths below the project's folder; one that is no file (a word of make's) does not count, nor
            do the files of settings, which may be those of another SET.
    """
    named, kept = {files.ROOT / source for source in sources}, run.output / "settings"
    if name in ("01_eda", "02_labels"):
        settings = run.model_dump(mode="json", include={"dataset", "labels"})
    else:
        settings = run.model_dump(mode="json", exclude={"about", "cost", "score"})
        folders = (part.network_folder(network) for part in run.load_parts() for network in part.networks)
        named |= {folder / "model.keras" for folder in folders}
    paths = sorted(path for path in named if path.is_file() and path.parent != kept)
    return {"settings": settings, "files": _hash_each(paths)}


def hash_step(run: Experiment, name: str, sources: Iterable[str]) -> str:
    """Hash what `describe_step` tells."""
    return hashlib.sha256(json.dumps(describe_step(run, name, sources)).encode()).hexdigest()


def judge_training(run: Experiment, steps: float) -> list[str]:
    """Say why so many training steps of `run.network` teach it little; nothing where that is not known."""
    learned, climbs = is_pretrained(run), getattr(run.training.schedule, "warmup_steps", 0)
    least, thaws, said = LEAST_STEPS[learned], getattr(run.model, "thaw_step", 0), []
    if steps < least:
        kind = "a pretrained" if learned else "an untrained"
        todo = "raise training.epochs or training.steps, or ask make plan"
        said.append(
            f"{steps} training steps teach {kind} network next to nothing; give {least} or more: {todo}"
        )
    if climbs >= steps:
        said.append(
            f"the learning rate climbs to the end: training.schedule.warmup_steps={climbs} of {steps}"
        )
    if thaws >= steps:
        said.append(f"the encoder never learns: model.thaw_step={thaws} of {steps} training steps")
    if getattr(run.model, "frozen", 0) and not learned:
        said.append("model.frozen keeps weights that are random: nothing has trained them")
    return said


def is_pretrained(run: Experiment) -> bool:
    """Whether `run.network` starts from weights that have learned something."""
    given = getattr(run.model, "pretrained", False) or getattr(run.model, "weights", "none") != "none"
    return given or (run.network == "last" and run.training.warm_start)


def find_commit() -> str:
    """Tell the project's git commit and whether files changed since; or that there is no checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=files.ROOT, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    commit, changed, _ = done.stdout.strip().partition("-dirty")
    return f"git commit {commit}" + (", with changes that are not committed" if changed else "")


def describe_machine() -> str:
    """Name the processor, the cores that this process may use, and the memory."""
    name, cpus = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpus.is_file():
        models = [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def read_usage(run: Experiment) -> dict[str, dict]:
    """Read what each notebook took when make ran it: {notebook: {seconds, peak_mb}}, of networks of now."""
    trained = [step_of(run.model_copy(update={"network": name})) for name in run.networks]
    steps = ["01_eda", "02_labels", *([] if run.members else trained), "04_predict", "05_report"]
    notes = {step: run.output / "notebooks" / f"{step}.json" for step in steps}
    usage = {step: json.loads(path.read_text()) for step, path in notes.items() if path.is_file()}
    for part in run.load_parts() if run.members else []:
        usage |= {f"{part.name} {s}": used for s, used in read_usage(part).items() if s.startswith("03")}
    return usage


def step_of(run: Experiment) -> str:
    """Name of the executed notebook 03 of `run.network`."""
    return "03_train" if run.training_folder == run.output else f"03_train_{run.network}"
