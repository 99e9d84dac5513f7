"""Whether a run is better than another: paired differences of their scores, each with an interval.

Both sides are measured on the same images and, in every draw of the bootstrap, on the same groups, so that
what is hard for both cancels out. On the validation fold thresholds were chosen too: it flatters both sides.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.dataset_info import ALL_CLASSES
from defectmill.evaluation.metrics import bootstrap, find_interval, make_features
from defectmill.files import DefectmillError
from defectmill.labels import read_csv, read_image_table, read_labels
from defectmill.scores import count_runs
from defectmill.submission import read_aligned

PAIR = ["ImageId", "ClassId"]
Tables = tuple[pd.DataFrame, pd.DataFrame]  # true and predicted label table, the same rows in one order


def compare_counts(
    a: Sequence[np.ndarray], b: Sequence[np.ndarray], groups: Sequence | np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Measure how much better B is than A, by a paired bootstrap of groups.

    Several runs a side are seeds of one recipe: their pixel counts and their Dice of each image are averaged.
    Intervals are those of `metrics`: of other images of the same kind, not of other seeds.

    Args:
        a, b: one array a run, (N, C, 3 or more) pixel counts (shared, true, predicted) of the same images.
        groups: (N,) group of each image.
    Returns:
        One row a (class, metric): class, metric, A, B, difference (B - A), low, high, verdict; first score
        and mean micro Dice (over the classes in the truth), then micro Dice of each class. NaN where there
        is nothing to measure, low and high also where there is one group only.
    Raises:
        DefectmillError: a side without a run, or two arrays that differ in shape or in true pixels.
    """
    first, *others = [np.asarray(counts) for side in (a, b) for counts in side] or [np.zeros(0)]
    if not len(a) or not len(b):
        raise DefectmillError(f"nothing to compare: A has {len(a)} runs, B has {len(b)}")
    for counts in others:
        if counts.shape[:2] != first.shape[:2] or (counts[..., 1] != first[..., 1]).any():
            raise DefectmillError("runs to compare must be counted on the same images with the same labels")
    sides = [np.mean([make_features(np.asarray(counts)) for counts in side], axis=0) for side in (a, b)]
    (value_a, drawn_a), (value_b, drawn_b) = (bootstrap(side, groups, class_names) for side in sides)
    rows = []
    for key in [(ALL_CLASSES, "score"), *((name, "micro_dice") for name in (ALL_CLASSES, *class_names))]:
        values = float(value_a[key][0]), float(value_b[key][0])
        low, high = find_interval(drawn_b[key] - drawn_a[key])
        verdict = "B better" if low > 0 else "A better" if high < 0 else "no difference shown"
        rows.append((*key, *values, values[1] - values[0], low, high, verdict))
    columns = ["class", "metric", "A", "B", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def compare_runs(a: Sequence[Experiment], b: Sequence[Experiment]) -> dict[str, pd.DataFrame]:
    """Compare experiments that have run here, on the validation images that all of them have predicted.

    Args:
        a, b: several a side are seeds of one recipe.
    Returns:
        {what was measured: table of `compare_counts`}: validation images first, then the test images, where
        there is a solution.csv and a submission of every run.
    Raises:
        ConfigError: a side without a run, another dataset, a run that has not predicted, no image in common,
            or labels that differ, with the first difference.
    """
    if not a or not b:
        raise ConfigError('compare needs a run on both sides: make compare A=<run> B="<run> <another seed>"')
    runs = [*a, *b]
    first, solution = runs[0], runs[0].input / "solution.csv"
    for run in runs:
        if run.dataset != first.dataset:
            raise ConfigError(f"{_title(run)} has dataset {run.dataset}, {_title(first)} has {first.dataset}")
    parts = {"validation images": (_read_validation(runs), "images.csv")}
    if solution.is_file() and all(run.submission.is_file() for run in runs):
        named = read_image_table(first.require(first.output / "test_images.csv", "labels"))["ImageId"]
        tested = [_read_test(run.submission, solution, named) for run in runs]
        parts["test images"] = tested, "test_images.csv"
    compared = {}
    for part, (tables, csv) in parts.items():
        _refuse_other_labels(runs, tables)
        counts = [np.stack(count_runs(*pair), axis=-1) for pair in tables]
        ids = tables[0][0]["ImageId"].drop_duplicates().tolist()
        images = read_image_table(first.require(first.output / csv, "labels")).set_index("ImageId")
        groups, sides = images["group"].loc[ids].to_numpy(), (counts[: len(a)], counts[len(a) :])
        title = f"{part}: {len(ids)}, groups: {len(set(groups))}"
        compared[title] = compare_counts(*sides, groups=groups, class_names=first.info.class_names)
    return compared


def print_comparison(compared: dict[str, pd.DataFrame]) -> None:
    """Print the tables of `compare_runs`."""
    for title, table in compared.items():
        rows = []
        for kind, metric, *numbers, verdict in table.itertuples(index=False):
            measure = metric.replace("_dice", " Dice") + ("" if kind == ALL_CLASSES else f", {kind}")
            a, b = (f"{value:.4f}".replace("nan", "none") for value in numbers[:2])
            difference, low, high = (f"{value:+.4f}".replace("+nan", "none") for value in numbers[2:])
            rows.append((measure, a, b, difference, f"[{low}, {high}]", verdict))
        shown = pd.DataFrame(rows, columns=["", "A", "B", "B - A", "95 % interval", "verdict"])
        print(f"\n{title}\n{shown.set_index('').rename_axis(None).to_string()}")


def _title(run: Experiment) -> str:
    return run.output.relative_to(files.ROOT / "output").as_posix()


def _read_validation(runs: Sequence[Experiment]) -> list[Tables]:
    """Read labels and validation.csv of each run, of the images that all have predicted."""
    csvs = [run.require(run.output / "validation.csv", "predict") for run in runs]
    shared = sorted(set.intersection(*(set(read_csv(csv)["ImageId"]) for csv in csvs)))
    if not shared:
        named = ", ".join(map(_title, runs))
        raise ConfigError(f"{named} have no validation image in common: set labels.validation_fold alike")
    tables = []
    for run, csv in zip(runs, csvs, strict=True):
        pair = run.require(run.output / "labels.csv", "labels"), csv
        true, guessed = (read_labels(path, shared, run.info.n_classes, partial=True) for path in pair)
        tables.append((true, guessed))
    return tables


def _read_test(submission: Path, solution: Path, image_ids: Collection[str]) -> Tables:
    """Read both in one order of rows: clean images that a solution does not list come as submitted."""
    both = read_aligned(submission, solution, image_ids)
    true, guessed = (t.sort_values(PAIR, kind="stable") for t in both)
    return true, guessed


def _refuse_other_labels(runs: Sequence[Experiment], tables: Sequence[Tables]) -> None:
    """Raise ConfigError unless all runs have the same (image, class) rows with the same masks."""
    for run, (labels, _) in zip(runs, tables, strict=True):
        both = tables[0][0].merge(labels, on=PAIR, how="outer")
        differ = both[both["EncodedPixels_x"] != both["EncodedPixels_y"]]
        for row in differ[:1].itertuples():
            raise ConfigError(
                f"{_title(runs[0])} and {_title(run)} have different labels, first of {row.ImageId} class "
                f"{row.ClassId}: make labels and make predict both anew"
            )
