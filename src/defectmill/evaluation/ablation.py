"""Ablations: what each setting is worth, an arm a setting, all on the same folds, images and seed."""

import re
import shutil
from collections.abc import Mapping

import numpy as np
import pandas as pd

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.dataset_info import read_yaml
from defectmill.evaluation.compare import compare_counts
from defectmill.evaluation.metrics import pick
from defectmill.products.manifest import LABELLED
from defectmill.products.provenance import hash_files, hash_training, read_usage, step_of
from defectmill.split import load_split

BASELINE = "baseline"
MEASURED = ("nested_score", "nested_micro_dice", "nested_image_recall", "nested_false_alarm_rate")
VERDICTS = {"B better": "better", "A better": "worse"}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def read_arms(experiment: str) -> dict[str, dict]:
    """Read the arms of an ablation, {name: settings}, from notebooks/ablations/<experiment>.yml.

    An experiment without such a file has the arms of default.yml. The first arm changes nothing.

    Raises:
        ConfigError: a file that holds no arms, or an arm whose name cannot be that of a folder.
    """
    named = (files.find_own(f"ablations/{name}.yml") for name in (experiment, "default"))
    path = next((path for path in named if path.is_file()), None)
    try:
        arms = read_yaml(files.read_text(path)) if path else None
    except files.DefectmillError as error:
        raise ConfigError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    if not isinstance(arms, dict) or not all(isinstance(changes, dict) for changes in arms.values()):
        place = path or files.ROOT / "notebooks" / "ablations"
        raise ConfigError(f"{place}: wanted arms, each a name with its settings below")
    for name, changes in arms.items():
        fixed = [key for key in changes if str(key).split(".")[0] in ("dataset", "labels", "seed")]
        if fixed:
            raise ConfigError(f"{path}: arm {name!r} changes {fixed[0]}: arms share data, folds and seed")
        if not _NAME.fullmatch(str(name)) or name == BASELINE:
            raise ConfigError(
                f"{path}: {name!r} cannot be the name of an arm: small letters, digits, _ and -"
            )
    return {BASELINE: {}, **arms}


def copy_from(base: Experiment, arm: Experiment) -> None:
    """Give an arm the tables of the baseline, and those of its networks that the arm would train alike."""
    arm.output.mkdir(parents=True, exist_ok=True)
    for table in ("images.csv", "labels.csv", "scans.npz", "test_images.csv", LABELLED):
        if (base.output / table).is_file():
            shutil.copy2(base.output / table, arm.output / table)
    (arm.output / "notebooks").mkdir(exist_ok=True)
    for network in arm.networks:
        mine, theirs = (run.model_copy(update={"network": network}) for run in (arm, base))
        if hash_training(mine) == hash_training(theirs):
            mine.training_folder.mkdir(exist_ok=True)
            for name in ("model.keras", "history.csv", "trained.json"):
                shutil.copy2(theirs.training_folder / name, mine.training_folder / name)
            took = f"notebooks/{step_of(theirs)}.json"
            shutil.copy2(base.output / took, arm.output / took)


def has_run(arm: Experiment) -> bool:
    """Whether an arm has run with the settings, code and labels of now."""
    note = arm.output / "arm.txt"
    return note.is_file() and note.read_text() == _describe(arm)


def note_run(arm: Experiment) -> None:
    """Note what an arm has just been run with, for `has_run`."""
    (arm.output / "arm.txt").write_text(_describe(arm))


def make_table(arms: Mapping[str, Experiment], changes: Mapping[str, dict]) -> pd.DataFrame:
    """Compare the arms that have run with the baseline, on their validation images.

    All is nested: thresholds come from other groups than those measured. The difference is that of the micro
    Dice, by a paired bootstrap of groups; see `compare_counts`.

    Args:
        arms: {name: experiment}, the baseline first; changes: {name: settings} of `read_arms`.
    Returns:
        One row an arm: arm, settings, score, micro_dice, image_recall, false_alarm_rate, difference, low,
        high, verdict, minutes (of training and prediction).
    """
    rows = []
    for name, run in arms.items():
        metrics = pd.read_csv(run.output / "evaluation.csv")
        values = [pick(metrics, metric)["value"] for metric in MEASURED]
        compared = [np.nan] * 3 + ["baseline"]
        if name != BASELINE:
            a, b = ([np.load(r.output / "nested.npy")] for r in (arms[BASELINE], run))
            groups = load_split(run).validation["group"].to_numpy()
            table = compare_counts(a, b, groups, run.info.class_names)
            *difference, said_of = pick(table, "micro_dice")[["difference", "low", "high", "verdict"]]
            compared = [*difference, VERDICTS.get(said_of, said_of)]
        said = " ".join(f"{key}={value}" for key, value in changes[name].items())
        seconds = sum(used["seconds"] for step, used in read_usage(run).items() if step[:2] in ("03", "04"))
        rows.append((name, said, *values, *compared, seconds / 60))
    columns = ["arm", "settings", "score", "micro_dice", "image_recall", "false_alarm_rate"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "low", "high", "verdict", "minutes"])


def _describe(arm: Experiment) -> str:
    networks = [hash_training(arm.model_copy(update={"network": name})) for name in arm.networks]
    code = hash_files([*sorted(files.PACKAGE.rglob("*.py")), files.find_own("04_predict.ipynb")])
    return "\n".join([*networks, code, arm.predict.model_dump_json()])
