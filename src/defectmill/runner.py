"""The steps of a run, as make calls them: knobs, one notebook, the closing lines, the list.

python -m defectmill.runner knobs|notebook|infer|summary|list|import-config ...
"""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defectmill.config import (
    ROOT,
    ConfigError,
    Experiment,
    load_experiment,
    parse_overrides,
    write_stage_knobs,
)
from defectmill.import_config import import_config
from defectmill.results import print_list, print_summary


def run_notebook(
    name: str, experiment_name: str, overrides: dict, folders: dict[str, str] | None = None
) -> None:
    """Run one notebook by papermill; the executed copy, its time and memory go to output.

    Args:
        folders: parameters that this notebook has beside the house's two.
    Raises:
        SystemExit: the notebook failed (its cell and error are shown), or its parameters cell
            is not the house's: papermill itself only warns of an unknown parameter.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    experiment = load_experiment(experiment_name, overrides)
    values = {"experiment": experiment_name, "overrides": overrides, **(folders or {})}
    source = ROOT / "notebooks" / f"{name}.ipynb"
    found = set(papermill.inspect_notebook(str(source)))
    if found != set(values):
        raise SystemExit(f"error: {source}: parameters are {sorted(found)}, not {sorted(values)}")
    executed = experiment.output / "notebooks" / f"{name}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    os.environ["DEFECTMILL_BATCH"] = "1"
    # Only warnings: what the cells print comes through stdout_file.
    logging.getLogger("papermill").setLevel(logging.WARNING)
    started = time.perf_counter()
    print(f"{name} {experiment_name}", flush=True)
    log = executed.with_suffix(".log")
    try:
        with divert_stderr(log):
            papermill.execute_notebook(
                str(source), str(executed), values,
                cwd=str(source.parent), kernel_name="python3", progress_bar=False,
                stdout_file=sys.stdout,
                extra_arguments=["--log-level=40", "--IPKernelApp.capture_fd_output=False"],
            )  # fmt: skip
    except PapermillExecutionError as error:
        raise SystemExit(f"{error}\nerror: {source} failed in cell [{error.exec_count}]; "
                         f"the executed copy: {executed}") from error  # fmt: skip
    except DeadKernelError as error:
        raise SystemExit(f"error: {source}: the kernel died; see {log}") from error
    usage = {
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    executed.with_suffix(".json").write_text(json.dumps(usage) + "\n")


@contextmanager
def divert_stderr(log: Path) -> Iterator[None]:
    """Send what the kernel's C++ libraries say past Python to a file: TensorFlow is chatty."""
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def infer(experiment_name: str, overrides: dict, images: str, out: str) -> None:
    """Run 06 on a folder of pictures; what it cannot do is said before the kernel starts."""
    from defectmill.inspection import check_inspection

    _, target = check_inspection(load_experiment(experiment_name, overrides), images, out)
    run_notebook("06_infer", experiment_name, overrides, {"images": images, "out": out})
    print(f"  {target}")


def tell_cost(experiment: Experiment) -> None:
    """Print what a run would take; what TensorFlow says of itself goes to cost.log."""
    experiment.output.mkdir(parents=True, exist_ok=True)
    with divert_stderr(experiment.output / "cost.log"):
        from defectmill.cost import print_cost

        print_cost(experiment)


def main(words: list[str]) -> None:
    """Run one command."""
    command, *rest = words
    if command == "list":
        print_list()
    elif command == "summary":
        print_summary(rest[0])
    elif command == "import-config":
        print(import_config(Path(rest[0]), rest[1]))
    elif command == "cost":
        tell_cost(load_experiment(rest[0], parse_overrides(rest[1])))
    elif command == "knobs":
        experiment = load_experiment(rest[0], parse_overrides(rest[1]))
        write_stage_knobs(experiment, experiment.output / "knobs")
    elif command == "notebook":
        run_notebook(rest[0], rest[1], parse_overrides(rest[2]))
    elif command == "infer":
        infer(rest[0], parse_overrides(rest[1]), rest[2], rest[3])
    else:
        raise SystemExit(f"error: no command {command!r}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as problem:
        sys.exit(f"error: {problem}")
