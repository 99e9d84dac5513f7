"""The one command line: what make calls. `python -m defectmill --help`."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from defectmill import files
from defectmill.config import ConfigError, load_experiment
from defectmill.evaluation import results
from defectmill.files import DefectmillError
from defectmill.products import history, inputs
from defectmill.products.manifest import tell_set
from defectmill.products.stored import load_predicted
from defectmill.products.why import print_why
from defectmill.running.exports import export, tell_line
from defectmill.running.notebooks import divert_stderr, stop_kernels_with_this_process, tell_products
from defectmill.running.stages import (
    clean,
    infer,
    parse_overrides,
    run_ablation,
    run_step,
    train,
    write_stage_settings,
)

# Imports of a command stand in its function: `make list` must not wait for papermill or TensorFlow.
Argument = tuple[str, dict[str, Any]]
EXPERIMENT: Argument = ("experiment", {})
OVERRIDES: Argument = ("--set", {"default": "", "help": "setting=value ..."})
FRESH: Argument = ("--fresh", {"default": "", "help": "1: a training that was stopped is thrown away"})
IMAGES: Argument = ("--images", {"default": "", "help": "a folder"})
AGREEMENT: Argument = ("--agreement", {"type": float, "default": 0.8, "help": "Dice of any two networks"})
SOURCES: Argument = ("--sources", {"default": "", "help": "what make holds it to be made from"})
KEEP: Argument = ("--keep", {"action": "store_true", "help": "train only what is not there"})
BUDGET: Argument = ("--budget", {"default": "30min", "help": "such as 45min or 1h"})
FROM = "a relative one begins at the current folder, which for make is the project's"
PICTURES: Argument = ("--images", {"default": "", "help": f"a folder; those in it are read too; {FROM}"})
OUT: Argument = ("--out", {"default": "", "help": f"a folder; {FROM}"})
PRECISION: Argument = ("--precision", {"default": "", "help": "float,int8: one or both"})
ROI: Argument = ("--roi", {"default": "", "help": f"a picture, or polygons in a .json; {FROM}"})
MM: Argument = ("--mm-per-pixel", {"default": "", "help": "millimetres"})
FORMAT: Argument = ("--format", {"default": "", "help": "coco,yolo,labelme,masks,csv: one or more"})
OWNER: Argument = ("--owner", {"default": "", "help": "your name at Kaggle"})
COMPETITION: Argument = ("--competition", {"default": "", "help": "its name in its address at Kaggle"})
HOURS: Argument = ("--hours", {"default": "", "help": "that a run may take there: 9, a training 12"})
NAMED = "of input/, or an experiment, whose dataset is meant"
# Of these one at a time for an experiment or dataset; while the others read a dataset nobody makes it anew.
READS = ("notebook", "train", "ablation", "pseudo", "plan", "rates", "export")
HOLDS: tuple[str, ...] = (*READS, "input", "new", "settings", "augment", "clean")
HOLDS += ("kernel", "kernel-train", "push", "submit")
GIVEN = {"members": "EXPERIMENTS", "--mm-per-pixel": "MM_PER_PIXEL"}  # arguments that make calls otherwise
NAMED_BY_MAKE = ("experiment", "dataset", "--sources")  # on the command line, always
COMMANDS: dict[str, tuple[str, list[Argument]]] = {
    "input": ("make input/<dataset>", [("dataset", {}), ("--raw", {"default": ""})]),
    "new": ("a dataset and experiment of one's own", [("name", {}), ("--raw", {"default": ""}), BUDGET]),
    "settings": ("write the settings of each stage", [EXPERIMENT, OVERRIDES]),
    "notebook": ("run a notebook", [("name", {}), EXPERIMENT, OVERRIDES, SOURCES]),
    "train": ("train the networks of an experiment", [EXPERIMENT, OVERRIDES, KEEP, FRESH]),
    "why": ("what make would do again, and why", [EXPERIMENT, OVERRIDES, SOURCES]),
    "ablation": ("what each setting is worth", [EXPERIMENT, OVERRIDES, FRESH]),
    "ensemble": ("an experiment that averages others", [("members", {}), ("--name", {"default": ""})]),
    "infer": (
        "find the defects in a folder of images",
        [EXPERIMENT, OVERRIDES, PICTURES, OUT, FORMAT, ROI, MM],
    ),
    "export": ("networks for other runtimes", [EXPERIMENT, OVERRIDES, FORMAT, PRECISION, OUT, ROI, MM]),
    "golden": ("the golden pictures of exports again", [EXPERIMENT, OUT]),
    "kernel": ("what Kaggle runs to predict", [EXPERIMENT, OVERRIDES, OWNER, COMPETITION, HOURS]),
    "kernel-train": ("what Kaggle runs to train", [EXPERIMENT, OVERRIDES, OWNER, COMPETITION, HOURS]),
    "push": ("run it there", [EXPERIMENT]),
    "submit": ("submit it, and wait for the score", [EXPERIMENT, COMPETITION]),
    "convert": ("labels in other formats", [("name", {"help": NAMED}), FORMAT, OUT]),
    "augment": ("write transformed copies", [("dataset", {}), ("transforms", {"nargs": "*"})]),
    "pseudo": ("add images labelled by the networks", [EXPERIMENT, OVERRIDES, IMAGES, AGREEMENT]),
    "cost": ("what a run would take", [EXPERIMENT, OVERRIDES]),
    "rates": ("learning-rate finder", [EXPERIMENT, OVERRIDES]),
    "plan": ("settings that fit a budget", [EXPERIMENT, OVERRIDES, BUDGET]),
    "summary": ("what a run reached", [EXPERIMENT]),
    "compare": ("whether B is better than A", [("--a", {"default": ""}), ("--b", {"default": ""})]),
    "list": ("all experiments", []),
    "doctor": ("what this machine needs", []),
    "runs": ("the finished runs of an experiment", [EXPERIMENT, ("--mlflow", {"default": ""})]),
    "site": ("write output/index.html", []),
    "results": ("write the README's table of results", []),
    "clean": ("delete an experiment's products", [EXPERIMENT, ("--runs", {"action": "store_true"})]),
    "import-config": ("import a FlexUNet configuration", [("config", {}), ("--name", {"default": ""})]),
}


def main(words: Sequence[str]) -> None:
    """Run one command.

    Raises:
        DefectmillError: whatever the user can mend.
        SystemExit: a wrong command line, or a notebook that failed.
    """
    given = read_command(words)
    name = getattr(given, "experiment", getattr(given, "dataset", getattr(given, "name", "")))
    if name:
        files.check_name(name, "EXPERIMENT" if hasattr(given, "experiment") else "NAME")
    run = load_experiment(given.experiment, parse_overrides(given.set)) if hasattr(given, "set") else None
    kind = "input" if given.command in ("input", "augment") else "output"
    with ExitStack() as stack:
        if given.command in HOLDS:
            lock = files.ROOT / kind / f".{name}.lock"
            stack.enter_context(files.hold(lock, f"{kind}/{name} is being made"))
        if given.command in READS and run:
            lock = files.ROOT / "input" / f".{run.dataset}.lock"
            stack.enter_context(files.hold(lock, f"input/{run.dataset} is being read", shared=True))
        _run(given, run)


def read_command(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line; what it does not say, make may have said by the environment."""
    parser = argparse.ArgumentParser(prog="python -m defectmill", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (help_text, arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text)
        for argument, options in arguments:
            command.add_argument(argument, **_from_environment(argument, options))
    return parser.parse_args(words)


def _run(given: argparse.Namespace, run: Any) -> None:
    if run and run.members and given.command in ("cost", "plan", "rates", "ablation"):
        raise ConfigError(f"{run.name} is an ensemble, it trains nothing: name one of its members")
    match given.command:
        case "input":
            from defectmill.datasets.prepare import prepare

            inputs.check_unedited(folder := files.ROOT / "input" / given.dataset)
            tell_products([prepare(given.dataset, given.raw)])
            inputs.note_made(folder, given.raw)
        case "new":
            from defectmill.running.new import make_new

            with divert_stderr(files.ROOT / "output" / "new.log"):
                tell_products([make_new(given.name, given.raw, given.budget)])
            print(f"next: make EXPERIMENT={given.name}")
        case "settings":
            write_stage_settings(run)
        case "notebook":
            run_step(given.name, run, parse_overrides(given.set), given.sources.split())
        case "train":
            train(run, parse_overrides(given.set), given.keep, bool(given.fresh))
        case "why":
            print_why(run, given.sources.split())
        case "ablation":
            run_ablation(run, parse_overrides(given.set), bool(given.fresh))
        case "ensemble":
            from defectmill.prediction.ensemble import write_ensemble

            tell_products([write_ensemble(given.members.split(), given.name)])
        case "infer":
            line = tell_line(given.roi, given.mm_per_pixel)
            infer(run, parse_overrides(given.set), (given.images, given.out), given.format, line)
        case "kernel":
            from defectmill.kaggle.bundle import write_kernel
            from defectmill.kaggle.metadata import check_place

            run = run if given.set else load_predicted(run.name)[0]
            place = check_place(given.owner, given.competition or run.info.slug, given.hours or "9")
            with divert_stderr(run.output / "kernel.log"):
                tell_products(sorted(write_kernel(run, place).glob("*/*")))
        case "kernel-train":
            from defectmill.kaggle.metadata import check_place
            from defectmill.kaggle.sessions import write_training

            place = check_place(given.owner, given.competition or run.info.slug, given.hours or "12")
            tell_products(sorted(write_training(run, place).glob("*/*")))
        case "push":
            from defectmill.kaggle.client import print_push

            print_push(load_experiment(given.experiment))
        case "submit":
            from defectmill.kaggle.client import submit

            run = load_experiment(given.experiment)
            scores = submit(run, given.competition or run.info.slug)
            print("  " + (", ".join(f"{name} {value:g}" for name, value in scores.items()) or "no score yet"))
        case "export":
            tell_products(export(run, parse_overrides(given.set), given))
        case "golden":
            from defectmill.export.bundle import check_golden

            own = load_experiment(given.experiment).output / "export"
            check_golden([Path(given.out)] if given.out else sorted(own.glob("*/")))
        case "convert":
            from defectmill.running.convert import convert

            tell_products(convert(given.name, given.format, given.out))
        case "augment":
            from defectmill.training.offline_augment import write_augmented

            made = write_augmented(given.dataset, given.transforms)
            print(f'{made}: train on it with SET="dataset={made.name}"')
        case "pseudo":
            from defectmill.curation.folds import find_relatives
            from defectmill.prediction.pseudo import write_pseudo

            if not given.set:
                run, overrides = load_predicted(run.name)
                given.set = tell_set(overrides)
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

                path = print_plan(run, parse_overrides(given.set), given.budget).relative_to(files.ROOT)
            print(f"\nTo use it: cp {path} notebooks/experiments/{run.name}.yml")
        case "rates":
            with divert_stderr(run.output / "rates.log"):
                from defectmill.training.fit import print_rates
                from defectmill.viz.figures import plot_rates

                plot_rates(*print_rates(run)).savefig(run.output / "rates.png")
            tell_products([run.output / "rates.csv", run.output / "rates.png"])
        case "import-config":
            from defectmill.running.flexunet_import import import_config

            print(import_config(Path(given.config), given.name))
        case "summary":
            results.print_summary(given.experiment)
        case "compare":
            from defectmill.evaluation.compare import compare_runs, print_comparison

            sides = ([load_experiment(name) for name in side.split()] for side in (given.a, given.b))
            print_comparison(compare_runs(*sides))
        case "doctor":
            from defectmill.running.doctor import print_doctor

            print_doctor()
        case "list":
            results.print_list()
        case "runs":
            history.print_runs(given.experiment)
            if given.mlflow:
                from defectmill.evaluation.tracking import export_runs

                folders = [run.folder for run in history.read_runs(given.experiment)]
                n = export_runs(given.experiment, folders, given.mlflow)
                print(f"  {n} of {len(folders)} runs written to {given.mlflow}; the others are there")
        case "clean":
            clean(given.experiment, given.runs)
        case "site":
            tell_products([results.write_site(history.read_all_runs())])
        case "results":
            tell_products([results.write_readme_table()])


def _from_environment(argument: str, options: dict[str, Any]) -> dict[str, Any]:
    """What is not on the command line, make gives by the environment, as text that no shell has read."""
    given = os.environ.get(f"DEFECTMILL_{GIVEN.get(argument, argument.lstrip('-').upper())}")
    if not given or argument in NAMED_BY_MAKE:
        return options
    if argument.startswith("-"):
        return {**options, "default": given}
    many = options.get("nargs") == "*"
    return {**options, "nargs": "*" if many else "?", "default": given.split() if many else given}


if __name__ == "__main__":
    stop_kernels_with_this_process()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a path may be no UTF-8
    try:
        main(sys.argv[1:])
    except DefectmillError as problem:
        sys.exit(f"error: {problem}")
    except (OSError, MemoryError) as problem:
        sys.exit(f"error: {files.explain_failure(problem)}")
