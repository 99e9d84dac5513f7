"""Provenance: what a result was made from, by what, on what, and how long it took."""

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from defectmill.config import ROOT, Experiment

PACKAGES = ("keras", "tensorflow", "numpy", "pandas", "opencv-python-headless", "albumentations")


def describe_run(experiment: Experiment) -> dict[str, str]:
    """Say where a run's numbers come from: {what: text}, in the order of reading."""
    card = experiment.card
    return {
        "data": f"{card.title}; licence: {card.licence}; source: {card.source or 'your own'}",
        "citation": card.citation or "none given",
        "data hash": f"sha256 {hash_folder(experiment.input)} (every file of input/{card.name})",
        "code": find_commit(),
        "seed": str(experiment.seed),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "machine": describe_machine(),
        "time": describe_times(experiment.output),
    }


def hash_folder(folder: Path) -> str:
    """Hash the names and contents of all files of a folder: 64 hexadecimal digits."""
    whole = hashlib.sha256()
    found = (Path(top) / name for top, _, names in os.walk(folder, followlinks=True)
             for name in names)  # fmt: skip
    for path in sorted(found):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def find_commit() -> str:
    """Git commit of the project, and whether it was changed since; else that there is none."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    return f"git commit {commit}" + (", with changes that are not committed" if changed else "")


def describe_machine() -> str:
    """Processor, cores that this process may use, memory."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def describe_times(output: Path) -> str:
    """Seconds of each step so far."""
    times = [f"{step} {used['seconds']:.0f} s" for step, used in read_usage(output).items()]
    return ", ".join(times) or "not measured"


def read_usage(output: Path) -> dict[str, dict]:
    """Read what each step took, as the runner noted it: {step: {seconds, peak_mb}}."""
    notes = sorted((output / "notebooks").glob("0[1-5]_*.json"))
    return {path.stem: json.loads(path.read_text()) for path in notes}


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
