"""What a result was made from, by which code, on which machine, and how long it took."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import yaml

from defectmill import files
from defectmill.config import Experiment

PACKAGES = ("keras", "tensorflow", "numpy", "pandas", "opencv-python-headless", "albumentations")


def describe_run(run: Experiment) -> dict[str, str]:
    """Tell where a run's numbers come from: {what: text}; all its settings last, as YAML."""
    info = run.info
    times = [f"{step} {used['seconds']:.0f} s" for step, used in read_usage(run.output).items()]
    return {
        "data": f"{info.title}; licence: {info.licence}; source: {info.source or 'your own'}",
        "citation": info.citation or "none given",
        "data hash": f"sha256 {hash_folder(run.input)} (every file of input/{info.name})",
        "networks": describe_networks(run),
        "code": find_commit(),
        "seed": str(run.seed),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "machine": describe_machine(),
        "time": ", ".join(times) or "not measured",
        "settings": yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, default_flow_style=None),
    }


def describe_networks(run: Experiment) -> str:
    """Tell which network learned from what, and which predicts what, by networks.json."""
    path = run.output / "networks.json"
    notes = json.loads(path.read_text()) if path.is_file() else {}
    learned = [
        f"{name} learned from {n['images']} images, {n['validation']} left out" for name, n in notes.items()
    ]
    tests, own = (", ".join(names) for names in (run.test_networks, run.infer_networks))
    return "; ".join([*learned, f"the test part is predicted by {tests}", f"make infer predicts by {own}"])


def hash_folder(folder: Path) -> str:
    """Hash the names and contents of all files of a folder, linked ones too: 64 hexadecimal digits."""
    found = (Path(top) / name for top, _, names in os.walk(folder, followlinks=True) for name in names)
    return hash_files(sorted(found), folder)


def hash_files(paths: Iterable[Path], folder: Path | None = None) -> str:
    """Hash the contents of files and their names, those below `folder` if given: 64 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update((path.relative_to(folder).as_posix() if folder else path.name).encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def hash_training(run: Experiment) -> str:
    """Hash what the weights of `run.network` come from: its settings, labels, code and notebook."""
    settings = run.model_dump(mode="json", include={"dataset", "seed", "data", "model", "training"})
    settings["training"].pop("epochs" if run.network == "last" else "last_fit")
    source, solution = files.ROOT / "src" / "defectmill", run.input / "solution.csv"
    code = [*sorted(source.glob("models/*.py")), *sorted(source.glob("training/*.py"))]
    tables = [run.output / "images.csv", run.output / "labels.csv"]
    more = [run.output / "test_images.csv", solution] if run.network == "last" and solution.is_file() else []
    parts = [run.network, str(settings), hash_files([*code, files.ROOT / "notebooks" / "03_train.ipynb"])]
    return hashlib.sha256("\n".join([*parts, hash_files([*tables, *more])]).encode()).hexdigest()


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


def read_usage(output: Path) -> dict[str, dict]:
    """Read what each notebook took when make ran it: {notebook: {seconds, peak_mb}}."""
    notes = sorted((output / "notebooks").glob("0[1-5]_*.json"))
    return {path.stem: json.loads(path.read_text()) for path in notes}
