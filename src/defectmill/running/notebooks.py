"""Run one notebook by papermill, and tell what it wrote."""

import json
import logging
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from defectmill import files
from defectmill.config import Experiment
from defectmill.products import provenance

# Folders of output/<experiment> that hold no product of a notebook.
ASIDE = ("ablation", "export", "notebooks", "runs", "settings")

# Errors of a cell: disk full, drive gone, memory exhausted.
MACHINE = ("OSError", "PermissionError", "MemoryError", "_ArrayMemoryError", "ResourceExhaustedError")


def run_notebook(
    name: str, run: Experiment, values: dict, made_from: Mapping[str, Any] | None = None
) -> None:
    """Run one notebook by papermill; the executed copy goes to output, and <step>.json beside it.

    That has seconds and peak_mb, what `made_from` says, and the products, by name below output or the
    network's folder. It is written last, whole or not at all: where it is new, the step is done.

    Args:
        values: its parameters beside `experiment`.
        made_from: what the products come from: made_from, its hash, and more.
    Raises:
        SystemExit: the notebook failed (its cell and error are shown), or its parameters cell
            has other names: papermill itself only warns of an unknown parameter.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    source = files.find_own(f"{name}.ipynb")
    title = json.loads(source.read_text(encoding="utf-8"))["cells"][0]["source"][0].strip("# \n")
    values, found = {"experiment": run.name, **values}, set(papermill.inspect_notebook(str(source)))
    if found != set(values):
        raise SystemExit(f"error: {source}: parameters are {sorted(found)}, not {sorted(values)}")
    step = provenance.step_of(run) if name == "03_train" else name
    executed = run.output / "notebooks" / f"{step}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    os.environ[files.UNATTENDED] = "1"
    if sys.stdout.isatty():  # the training shows its progress there
        os.environ["DEFECTMILL_TERMINAL"] = os.ttyname(sys.stdout.fileno())
    logging.getLogger("papermill").setLevel(logging.WARNING)  # what cells print comes by stdout_file
    started, clock = time.time(), time.perf_counter()
    print(f"{step} {run.name}: {title}", flush=True)
    log = executed.with_suffix(".log")
    try:
        with divert_stderr(log), _tell_kernels_the_project():
            papermill.execute_notebook(
                str(source),
                str(executed),
                values,
                cwd=str(source.parent),
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                extra_arguments=["--log-level=40", "--IPKernelApp.capture_fd_output=False"],
            )
    except PapermillExecutionError as error:
        # What the machine could not do needs no traceback.
        shown = f"{error.ename}: {error.evalue.partition(chr(10))[0]}" if error.ename in MACHINE else error
        raise SystemExit(
            f"{shown}\nerror: {source} failed in cell [{error.exec_count}]; the executed copy: {executed}"
        ) from error
    except DeadKernelError as error:
        raise SystemExit(f"error: {source}: the kernel died, as where memory runs out; see {log}") from error
    seconds = round(time.perf_counter() - clock, 1)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    if name == "05_report":
        from defectmill.evaluation.report import export_report

        export_report(executed, run)
    home = run.training_folder if name == "03_train" else run.output
    note = {"seconds": seconds, "peak_mb": peak, "made_from": "", **(made_from or {})}
    note["products"] = list_written(home, started)
    with files.write_atomically(executed.with_suffix(".json")) as part:  # it is newer than all products
        part.write_text(json.dumps(note) + "\n")
    written = {*run.output.iterdir(), *run.training_folder.glob("*"), run.submission}
    tell_products(
        [p for p in written if p.exists() and p.is_file() and p.stat().st_mtime >= started], seconds
    )


@contextmanager
def _tell_kernels_the_project() -> Iterator[None]:
    """A kernel runs in the notebook's folder, which of an installed package is not the project's."""
    before = os.environ.get("DEFECTMILL_HOME")
    os.environ["DEFECTMILL_HOME"] = str(files.ROOT)
    try:
        yield
    finally:
        os.environ.pop("DEFECTMILL_HOME")
        os.environ |= {"DEFECTMILL_HOME": before} if before else {}


def list_written(home: Path, started: float) -> list[str]:
    """Names below a folder of the files in it that were written since a time, sorted."""
    found = []
    for top, folders, names in os.walk(home):
        folders[:] = [name for name in folders if Path(top) != home or name not in ASIDE]
        paths = (Path(top) / name for name in names)
        found += [p.relative_to(home).as_posix() for p in paths if p.stat().st_mtime >= started]
    return sorted(found)


def stop_kernels_with_this_process() -> None:
    """End at once, with the kernels that this process started, where it is told to: INT, TERM, HUP.

    A kernel is in a session of its own, and would train on for minutes. Where make runs this process, its end
    counts as HUP, and so do INT and HUP to make alone: it passes on TERM only, and waits.
    """

    def stop(number: int, _frame: object) -> None:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os.write(1, f"\nstopped by {signal.Signals(number).name}; the next make goes on from here\n".encode())
        os._exit(128 + number)

    def watch(parent: int, before: set[int]) -> None:
        while os.getppid() == parent and _list_blocked(parent) <= before:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGHUP)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    if "MAKELEVEL" in os.environ:
        parent = os.getppid()
        threading.Thread(target=watch, args=(parent, _list_blocked(parent)), daemon=True).start()


def _list_blocked(pid: int) -> set[int]:
    """Of INT and HUP those that a process blocks, as it does while it handles them; Linux alone tells."""
    try:
        found = re.search(r"^SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return set()
    mask = int(found[1], 16) if found else 0
    return {number for number in (signal.SIGINT, signal.SIGHUP) if mask >> number - 1 & 1}


def tell_products(paths: Sequence[Path], seconds: float | None = None) -> None:
    """Print what was written, by folder, relative to the project where it lies inside."""
    folders: dict[Path, list[str]] = {}
    for path in sorted(paths):
        folders.setdefault(path.parent, []).append(path.name)
    for folder, names in folders.items():
        shown = folder.relative_to(files.ROOT) if folder.is_relative_to(files.ROOT) else folder
        print(f"  wrote {shown}/{names[0]}" if len(names) == 1 else f"  wrote {shown}/: {' '.join(names)}")
    if seconds is not None:
        print(f"  in {seconds:.0f} s", flush=True)


@contextmanager
def divert_stderr(log: Path) -> Iterator[None]:
    """Send what C++ libraries write past Python to a file: TensorFlow is chatty."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
