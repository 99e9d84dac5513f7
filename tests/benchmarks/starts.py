"""What one waits for before anything happens: processor seconds of whole processes."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measuring import Row, tell_time
from defectmill import files


def measure() -> Iterator[Row]:
    """Measure make, make list, and the imports of the notebooks that only look."""
    if (files.ROOT / "output" / "sample" / "report.html").is_file():
        yield _row("make with nothing to do", ["make", "EXPERIMENT=sample"], 0.5)
    else:
        print("| make with nothing to do | processor time | not measured: run make first | at most 0.5 | | |")
    yield _row("make list", ["make", "list"], 1)
    for name in ("01_eda", "02_labels"):
        yield _row(f"imports of {name}", [sys.executable, "-c", list_imports(name)], 0.7)


def list_imports(notebook: str) -> str:
    """The imports of a notebook, a line each; DefectmillError where none is of the project."""
    cells = json.loads((files.ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    lines = [
        line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()
    ]
    found = [line for line in lines if line.startswith(("from ", "import "))]
    if not any("defectmill" in line for line in found):
        raise files.DefectmillError(f"{notebook}: imports nothing of defectmill, there is nothing to measure")
    return "\n".join(found)


def _row(what: str, command: list[str], wanted: float) -> Row:
    seconds = min(_seconds(command) for _ in range(5))
    return Row(what, "processor time", seconds, wanted, "s", tell_time(seconds))


def _seconds(command: list[str]) -> float:
    """Processor seconds of a command; make is not to think that it was called by make."""
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=files.ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
