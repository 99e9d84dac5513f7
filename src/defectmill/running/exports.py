"""What make is told of the line: a region of interest, millimetres; and the export."""

from pathlib import Path
from typing import Any

from defectmill.config import Experiment, load_experiment
from defectmill.products.stored import load_predicted
from defectmill.running.notebooks import divert_stderr


def tell_line(roi: str, mm_per_pixel: str) -> dict[str, Any]:
    """Overrides of what is said on the command line; a relative ROI begins at the current folder."""
    told = {"line.roi": roi and str(Path(roi).expanduser().absolute()), "line.mm_per_pixel": mm_per_pixel}
    return {name: value for name, value in told.items() if value}


def export(run: Experiment, overrides: dict, given: Any) -> list[Path]:
    """Write networks for other runtimes, of the command line's `given`, and give the folders.

    Raises:
        ConfigError: see `export.folder.export`; what TensorFlow and the converters say goes to export.log.
    """
    if not overrides:
        run, overrides = load_predicted(run.name)
    run = load_experiment(run.name, {**overrides, **tell_line(given.roi, given.mm_per_pixel)})
    out = str(Path(given.out).expanduser().absolute()) if given.out else ""
    with divert_stderr(run.output / "export.log"):
        from defectmill.export import folder

        return folder.export(run, given.format, given.precision, out)
