"""What this machine and this folder need before make can work: a line a thing, ok or what to do."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from defectmill import files
from defectmill.dataset_info import read_dataset_info
from defectmill.datasets.competition import DatasetError
from defectmill.datasets.download import check_token
from defectmill.files import DefectmillError
from defectmill.products import inputs
from defectmill.products.manifest import read_note
from defectmill.products.provenance import describe_machine

OK, NOTE, MEND = "ok", "note", "MEND"
PYTHONS = ((3, 11), (3, 13))  # first and last
FLAGS = {"AVX2": "avx2", "AVX512": "avx512f", "AVX512-BF16": "avx512_bf16", "AMX": "amx_tile"}
LEAST_MEMORY, LEAST_DISK = 3, 2  # GiB: of a small training, and of a run with its tables and notebooks
PATIENCE = 12  # seconds for TensorFlow or JAX to name its devices
DEVICES = {
    "tensorflow": "import tensorflow as t; print(len(t.config.list_physical_devices('GPU')))",
    "jax": "import jax; print(sum(d.platform == 'gpu' for d in jax.devices()))",
}
FOLDERS = ("input", "output", "submissions")


class Finding(NamedTuple):
    """A line: of what, whether it is ok, worth a note or must be mended, and what was seen or is to do."""

    thing: str
    verdict: str
    said: str


def print_doctor() -> None:
    """Print all findings, in under 15 seconds; DefectmillError where something must be mended."""
    deadline = time.monotonic() + PATIENCE  # the libraries load while all else is checked
    asked = {name: _ask_devices(name) for name in DEVICES if find_spec(name)}
    lock = (files.ROOT / "requirements.lock").read_text(encoding="utf-8")
    installed: dict[str, str] = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions()}
    findings = [
        check_python(sys.version_info[:2]),
        check_packages(lock, installed, _list_direct()),
        check_processor(),
        check_memory(psutil.virtual_memory().available / 2**30, psutil.virtual_memory().total / 2**30),
        *(check_folder(files.ROOT / name) for name in FOLDERS),
        check_kaggle(),
        *(check_dataset(path) for path in sorted((files.ROOT / "input").glob("[!.]*/"))),
        *(check_gpu(name, asked.get(name), deadline) for name in DEVICES),
    ]
    for thing, verdict, said in findings:
        print(f"  {verdict:5} {thing:22} {said}")
    if wrong := [finding.thing for finding in findings if finding.verdict == MEND]:
        raise DefectmillError(f"to mend: {', '.join(wrong)}")


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is one of those that the packages are locked for."""
    told, known = ".".join(map(str, version)), " to ".join(".".join(map(str, one)) for one in PYTHONS)
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return Finding("Python", OK, told)
    return Finding("Python", MEND, f"{told}: needs {known}: delete .venv, then make env PYTHON=<path of one>")


def check_packages(lock: str, installed: Mapping[str, str], direct: Sequence[str]) -> Finding:
    """Compare the packages installed with the lock.

    Args:
        lock: text of requirements.lock. installed: {name: version}. direct: those that pyproject.toml names,
            which must be the locked ones; conda chooses all others anew.
    """
    lines = (line.split("--hash")[0].strip(" \\") for line in lock.splitlines())
    locked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    wanted = {
        canonicalize_name(one.name): next(iter(one.specifier)).version
        for one in locked
        if one.marker is None or one.marker.evaluate()
    }
    others = {name: version for name, version in wanted.items() if installed.get(name) != version}
    if not others:
        return Finding("packages", OK, f"all {len(wanted)} as in requirements.lock")
    first = [f"{name} {installed.get(name, 'missing')} (locked: {others[name]})" for name in sorted(others)]
    shown = ", ".join(first[:3]) + f" and {len(first) - 3} more" * (len(first) > 3)
    if any(name in others for name in direct):
        return Finding("packages", MEND, f"{shown}: delete .venv, then make env")
    return Finding("packages", NOTE, f"differ from requirements.lock: {shown}")


def check_processor(cpus: Path = Path("/proc/cpuinfo")) -> Finding:
    """Name the processor and what of it training uses."""
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
    if flags is None:
        return Finding("processor", OK, f"{describe_machine()}; its flags are not known")
    has = [name for name, flag in FLAGS.items() if flag in flags]
    lacks = [name for name in FLAGS if name not in has]
    told = f"has {', '.join(has) or 'nothing that helps'}" + f"; lacks {', '.join(lacks)}" * bool(lacks)
    return Finding("processor", OK, f"{describe_machine()}; {told}")


def check_memory(free: float, total: float) -> Finding:
    """Whether a small training fits the memory, in GiB."""
    told = f"{free:.1f} of {total:.1f} GiB free"
    if free >= LEAST_MEMORY:
        return Finding("memory", OK, told)
    todo = "end other programs, or lower training.batch_size and data.shape"
    return Finding("memory", MEND, f"{told}, a training takes {LEAST_MEMORY}: {todo}")


def check_folder(folder: Path) -> Finding:
    """Whether a folder of the project can be written and has room."""
    thing = f"{folder.name}/"
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        if folder.name == "input" and folder.is_dir():
            return Finding(thing, NOTE, f"cannot be written ({error.strerror}): no dataset is made there")
        return Finding(thing, MEND, f"{folder} cannot be written ({error.strerror}): change rights or disk")
    if free < LEAST_DISK:
        return Finding(thing, MEND, f"{free:.1f} GiB free, {LEAST_DISK} are needed: make clean, or move it")
    return Finding(thing, OK, f"can be written, {free:.0f} GiB free")


def check_kaggle() -> Finding:
    """Whether there is a token for Kaggle; downloads, make push and make submit need it, nothing else."""
    try:
        check_token("<competition>")
    except DatasetError as error:
        said = str(error).splitlines()[0]
        return Finding("Kaggle token", MEND if "others on this machine" in said else NOTE, said)
    return Finding("Kaggle token", OK, "there")


def check_dataset(folder: Path) -> Finding:
    """Whether a competition folder is whole, and as make last saw it."""
    thing = f"input/{folder.name}"
    todo = f"make input DATASET={folder.name}, or see input/README.md"
    try:
        read_dataset_info(folder / "dataset.json")
    except (DefectmillError, OSError) as error:
        return Finding(thing, MEND, f"{error}: {todo}")
    for name in ("train.csv", "train_images"):
        if not (folder / name).exists():
            return Finding(thing, MEND, f"{name} is missing: {todo}")
    empty = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_hollow(path)]
    if empty:
        said = f"{len(empty)} files are empty or links that lead nowhere, such as {min(empty)}"
        return Finding(thing, MEND, f"{said}: {todo}")
    seen, changed = _read_manifest(folder.name), list[str]()
    for part, known in seen.items():
        now = inputs.scan(folder / part, known)
        changed += [f"{part}/{n}" for n in {*now, *known} if now.get(n, [""])[-1] != known.get(n, [""])[-1]]
    if changed:
        said = f"{len(changed)} files are not as make last saw them, such as {min(changed)}"
        return Finding(thing, NOTE, f"{said}: the next make goes by what they are")
    return Finding(thing, OK, "whole" + ", and as make last saw it" * bool(seen))


def check_gpu(name: str, process: subprocess.Popen | None, deadline: float) -> Finding:
    """Tell how many GPUs a library sees; one that cannot be loaded is a line too.

    Args:
        process: that prints their number; None: the library is not installed.
        deadline: of `time.monotonic`.
    """
    thing, is_needed = f"GPU seen by {name}", name == "tensorflow"
    if process is None:
        missing = (MEND, "not installed: make env") if is_needed else (OK, "not installed, nor needed")
        return Finding(thing, *missing)
    try:
        said, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Finding(thing, NOTE, f"no answer within {PATIENCE} s: is the machine busy?")
    if process.returncode:
        last = (errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        return Finding(thing, MEND if is_needed else NOTE, f"{name} cannot be loaded: {last}")
    count = int(said.split()[-1])
    if count or not shutil.which("nvidia-smi"):
        return Finding(thing, OK, f"{count}" if count else "none: trains on the processor")
    todo = f'{sys.executable} -m pip install "{name}[{"and-cuda" if is_needed else "cuda12"}]"'
    return Finding(thing, NOTE, f"none, though there is one: {todo}")


def _ask_devices(name: str) -> subprocess.Popen:
    environment, command = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, [sys.executable, "-c", DEVICES[name]]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def _list_direct() -> list[str]:
    project = tomllib.loads((files.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [canonicalize_name(Requirement(line).name) for line in project["dependencies"]]


def _is_hollow(path: Path) -> bool:
    is_there = path.exists()
    return not is_there or (path.is_file() and not path.name.startswith(".") and not path.stat().st_size)


def _read_manifest(dataset: str) -> dict[str, inputs.Files]:
    """What make saw of a dataset when it last looked, for whichever experiment; empty where it has not."""
    found = []
    for path in (files.ROOT / "output").glob("*/settings/inputs/manifest.json"):
        stage = read_note(path.parents[1] / "labels.json")
        if stage.get("dataset") == dataset:
            found.append(path)
    return json.loads(max(found, key=lambda p: p.stat().st_mtime).read_text()) if found else {}
