"""What a result was made from, by which code, on which machine, and how long it took."""

import hashlib
import json
import os
import platform
import subprocess
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
        "code": find_commit(),
        "seed": str(run.seed),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "machine": describe_machine(),
        "time": ", ".join(times) or "not measured",
        "settings": yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, default_flow_style=None),
    }


def hash_folder(folder: Path) -> str:
    """Hash the names and contents of all files of a folder, linked ones too: 64 hexadecimal digits."""
    whole = hashlib.sha256()
    found = (Path(top) / name for top, _, names in os.walk(folder, followlinks=True) for name in names)
    for path in sorted(found):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


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
