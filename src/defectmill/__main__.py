"""The one command line: what make calls. `python -m defectmill --help`."""

import argparse
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from defectmill import files
from defectmill.config import ConfigError, Experiment, load_experiment, parse_overrides, write_stage_settings
from defectmill.evaluation import provenance, results
from defectmill.files import DefectmillError

# Imports of a command stand in its function: `make list` must not wait for papermill or TensorFlow.
Argument = tuple[str, dict[str, Any]]
EXPERIMENT: Argument = ("experiment", {})
OVERRIDES: Argument = ("--set", {"default": "", "help": "setting=value ..."})
IMAGES: Argument = ("--images", {"default": "", "help": "a folder"})
AGREEMENT: Argument = ("--agreement", {"type": float, "default": 0.8, "help": "Dice of any two networks"})
COMMANDS: dict[str, tuple[str, list[Argument]]] = {
    "input": ("make input/<dataset>", [("dataset", {}), ("--raw", {"default": ""})]),
    "settings": ("write the settings of each stage", [EXPERIMENT, OVERRIDES]),
    "notebook": ("run a notebook", [("name", {}), EXPERIMENT, OVERRIDES]),
    "train": ("train the networks of an experiment", [EXPERIMENT, OVERRIDES]),
    "ablation": ("what each setting is worth", [EXPERIMENT, OVERRIDES]),
    "ensemble": ("an experiment that averages others", [("members", {}), ("--name", {"default": ""})]),
    "infer": ("masks of a folder of images", [EXPERIMENT, OVERRIDES, IMAGES, ("--out", {"default": ""})]),
    "augment": ("write transformed copies", [("dataset", {}), ("transforms", {"nargs": "*"})]),
    "pseudo": ("add images labelled by the networks", [EXPERIMENT, OVERRIDES, IMAGES, AGREEMENT]),
    "cost": ("what a run would take", [EXPERIMENT, OVERRIDES]),
    "rates": ("learning-rate finder", [EXPERIMENT, OVERRIDES]),
    "plan": ("settings that fit a budget", [EXPERIMENT, OVERRIDES, ("--budget", {"default": "30min"})]),
    "summary": ("what a run reached", [EXPERIMENT]),
    "compare": ("whether B is better than A", [("--a", {"default": ""}), ("--b", {"default": ""})]),
    "list": ("all experiments", []),
    "site": ("write output/index.html", []),
    "results": ("write the README's table of results", []),
    "import-config": ("import a FlexUNet configuration", [("config", {}), ("--name", {"default": ""})]),
}


def main(words: Sequence[str]) -> None:
    """Run one command.

    Raises:
        DefectmillError: whatever the user can mend.
        SystemExit: a wrong command line, or a notebook that failed.
    """
    parser = argparse.ArgumentParser(prog="python -m defectmill", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (help_text, arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text)
        for argument, options in arguments:
            command.add_argument(argument, **options)
    given = parser.parse_args(words)
    if hasattr(given, "set"):
        run = load_experiment(given.experiment, parse_overrides(given.set))
        if run.members and given.command in ("cost", "plan", "rates", "ablation"):
            raise ConfigError(f"{run.name} is an ensemble, it trains nothing: name one of its members")
    match given.command:
        case "input":
            from defectmill.datasets.prepare import prepare

            tell_products([prepare(given.dataset, given.raw)])
        case "settings":
            write_stage_settings(run)
        case "notebook":
            run_notebook(given.name, run, {"overrides": parse_overrides(given.set)})
        case "train":
            train(run, parse_overrides(given.set))
        case "ablation":
            run_ablation(run, parse_overrides(given.set))
        case "ensemble":
            from defectmill.prediction.ensemble import write_ensemble

            tell_products([write_ensemble(given.members.split(), given.name)])
        case "infer":
            infer(run, parse_overrides(given.set), given.images, given.out)
        case "augment":
            from defectmill.training.offline_augment import write_augmented

            made = write_augmented(given.dataset, given.transforms)
            print(f'{made}: train on it with SET="dataset={made.name}"')
        case "pseudo":
            from defectmill.curation.folds import find_relatives
            from defectmill.prediction.pseudo import write_pseudo

            with divert_stderr(run.output / "pseudo.log"):
                made = write_pseudo(run, given.images, given.agreement, find_relatives)
            kept = [word for word in given.set.split() if not word.startswith("dataset=")]
            for part in run.load_parts():
                print(f'make EXPERIMENT={part.name} SET="{" ".join([*kept, f"dataset={made.name}"])}"')
        case "cost":
            with divert_stderr(run.output / "cost.log"):
                from defectmill.training.cost import print_cost

                print_cost(run)
        case "plan":
            with divert_stderr(run.output / "plan.log"):
                from defectmill.training.cost import print_plan

                print_plan(run, parse_overrides(given.set), given.budget)
        case "rates":
            with divert_stderr(run.output / "rates.log"):
                from defectmill.training.fit import print_rates
                from defectmill.viz.figures import plot_rates

                plot_rates(*print_rates(run)).savefig(run.output / "rates.png")
            tell_products([run.output / "rates.csv", run.output / "rates.png"])
        case "import-config":
            from defectmill.flexunet_import import import_config

            print(import_config(Path(given.config), given.name))
        case "summary":
            results.print_summary(given.experiment)
        case "compare":
            from defectmill.evaluation.compare import compare_runs, print_comparison

            sides = ([load_experiment(name) for name in side.split()] for side in (given.a, given.b))
            print_comparison(compare_runs(*sides))
        case "list":
            results.print_list()
        case "site":
            tell_products([results.write_site()])
        case "results":
            tell_products([results.write_readme_table()])


def run_notebook(name: str, run: Experiment, values: dict) -> None:
    """Run one notebook by papermill; the executed copy, its time and memory go to output.

    Args:
        values: its parameters beside `experiment`.
    Raises:
        SystemExit: the notebook failed (its cell and error are shown), or its parameters cell
            has other names: papermill itself only warns of an unknown parameter.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    source = files.ROOT / "notebooks" / f"{name}.ipynb"
    title = json.loads(source.read_text(encoding="utf-8"))["cells"][0]["source"][0].strip("# \n")
    values, found = {"experiment": run.name, **values}, set(papermill.inspect_notebook(str(source)))
    if found != set(values):
        raise SystemExit(f"error: {source}: parameters are {sorted(found)}, not {sorted(values)}")
    step = provenance.step_of(run) if name == "03_train" else name
    executed = run.output / "notebooks" / f"{step}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    files.set_unattended()
    if sys.stdout.isatty():  # the training shows its progress there
        os.environ["DEFECTMILL_TERMINAL"] = os.ttyname(sys.stdout.fileno())
    logging.getLogger("papermill").setLevel(logging.WARNING)  # what cells print comes by stdout_file
    started, clock = time.time(), time.perf_counter()
    print(f"{step} {run.name}: {title}", flush=True)
    log = executed.with_suffix(".log")
    try:
        with divert_stderr(log):
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
        raise SystemExit(
            f"{error}\nerror: {source} failed in cell [{error.exec_count}]; the executed copy: {executed}"
        ) from error
    except DeadKernelError as error:
        raise SystemExit(f"error: {source}: the kernel died; see {log}") from error
    seconds = round(time.perf_counter() - clock, 1)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    executed.with_suffix(".json").write_text(json.dumps({"seconds": seconds, "peak_mb": peak}) + "\n")
    if name == "05_report":
        from defectmill.evaluation.report import export_report

        export_report(executed, run)
    written = {*run.output.iterdir(), *run.training_folder.glob("*"), run.submission}
    tell_products(
        [p for p in written if p.exists() and p.is_file() and p.stat().st_mtime >= started], seconds
    )


def train(run: Experiment, overrides: dict) -> None:
    """Run 03 for each network of an experiment, and write networks.json: what each was trained on.

    Those stay that settings, labels and code would make again; so a training that was stopped goes on with
    the network that it had begun.
    """
    from defectmill.prediction.ensemble import read_members

    notes = read_members(run)
    for network in () if run.members else run.networks:
        one = run.model_copy(update={"network": network})
        stamp = one.training_folder / "trained.json"
        note = json.loads(stamp.read_text()) if stamp.is_file() else {}
        has_network = (one.training_folder / "model.keras").is_file()
        if has_network and note.get("made_from") == provenance.hash_training(one):
            print(f"03_train {run.name}: network {network} stands")
        else:
            run_notebook("03_train", one, {"overrides": {**overrides, "network": network}})
            note = json.loads(stamp.read_text())
        notes[network] = note
    path, text = run.output / "networks.json", json.dumps(notes, indent=1) + "\n"
    files.write_if_changed(path, text)
    if not run.members:  # an ensemble asks at every make, and its masks change with its members alone
        path.touch()


def run_ablation(run: Experiment, overrides: dict) -> None:
    """Run the arms of an ablation that have not run as they would now, and write ablation.csv after each."""
    from defectmill.evaluation import ablation

    arms, done = ablation.read_arms(run.name), dict[str, Experiment]()
    for name, changes in arms.items():
        values = {**overrides, **changes, "variant": name, "training.last_fit": 0, "training.previews": 0}
        try:
            arm = load_experiment(run.name, values)
        except ConfigError as error:
            if "does not apply" not in str(error):
                raise
            print(f"{name} is left out: {error}")
            continue
        if name == ablation.BASELINE:
            run_notebook("02_labels", arm, {"overrides": values})
        else:
            ablation.copy_from(done[ablation.BASELINE], arm)
        if not ablation.has_run(arm):
            train(arm, values)
            run_notebook("04_predict", arm, {"overrides": values})
            ablation.note_run(arm)
        done[name] = arm
        table = ablation.make_table(done, arms)
        table.to_csv(run.output / "ablation.csv", index=False)
    print(table.round(3).to_string(index=False))


def infer(run: Experiment, overrides: dict, images: str, out: str) -> None:
    """Run 06 on a folder of images; what it cannot do is said before the kernel starts."""
    from defectmill.prediction.inspection import check_inspection

    _, target = check_inspection(run, images, out)
    run_notebook("06_infer", run, {"overrides": overrides, "images": images, "out": out})
    tell_products([target])


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


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DefectmillError as problem:
        sys.exit(f"error: {problem}")
