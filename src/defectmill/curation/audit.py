"""Audit: what is wrong with a dataset's labels and files, counted (0: looked for, not found) and named."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from defectmill.config import Experiment
from defectmill.curation.duplicates import Scan
from defectmill.curation.similarity import nearest_neighbours
from defectmill.dataset_info import DatasetInfo, Published
from defectmill.files import SUFFIXES, match_names
from defectmill.images import list_unread, original_of, read_shape
from defectmill.labels import PAIR, find_overlaps, read_csv, read_labels, runs_by_image
from defectmill.rle import clean_rle, intersect_rles, rle_area
from defectmill.scores import dice_from_counts
from defectmill.submission import asked_images

BETWEEN = " / "  # names in a cell; no file name holds a slash
NAMES_SHOWN = 5
CHANCE = 3  # standard deviations of a share, beyond which a part of a dataset is no random one
DETAILS = ["part", "ImageId", "value", "duplicate"]
Runs = Mapping[int, str]  # {class id: rle}


class Finding(NamedTuple):
    """What was looked for, the images that have it, and what it means. n: the count, if not of the rows."""

    name: str
    rows: list[tuple]  # DETAILS
    meaning: str
    n: int | None = None


def audit_labels(
    experiment: Experiment, labels: pd.DataFrame, images: pd.DataFrame, train: Scan, test: Scan
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count what is wrong in a competition folder, in the labels of its solution.csv too.

    Args:
        experiment: for its input folder (issues.csv, what the adapter saw, may be missing) and settings.
        labels, images: label table and image table (with groups) of train_images.
        train, test: scans of both parts; `train` in the order of `images`.
    Returns:
        One row a finding: finding, count, meaning, images (all, separated by " / "); and one row a finding
        and image: finding, part ("train", "test", "" for neither), ImageId, value, duplicate.
    Raises:
        DefectmillError: a sample_submission.csv that asks for images which test_images lacks, or for none.
    """
    folder, info, solution = experiment.input, experiment.info, experiment.input / "solution.csv"
    tables = {"train": labels}
    if solution.is_file():
        tables["test"] = read_labels(solution, test.table["ImageId"], info.n_classes)
    runs = {(part, i): r for part, table in tables.items() for i, r in runs_by_image(table).items()}
    overlaps = [(p, i, n, "") for p, table in tables.items() for i, n in find_overlaps(table).items()]
    files = pd.concat([train.table.assign(part="train"), test.table.assign(part="test")], ignore_index=True)
    files["runs"] = pd.Series(map(runs.get, zip(files["part"], files["ImageId"], strict=True)), dtype=object)
    written = read_csv(folder / "train.csv")
    files_of = match_names(written["ImageId"].unique(), train.table["ImageId"].tolist())[0]
    written["ImageId"] = written["ImageId"].map(lambda name: files_of.get(name, name))
    found = [
        *_compare_tables(folder, written, files),
        *_find_unread(folder, test),
        *_find_strange_files(files, overlaps),
        *_compare_labels(files[files["runs"].notna()], info.n_classes),
        *_check_groups(experiment, images, train, test),
        *(_compare_published(written, set(images["ImageId"]), info.published) if info.published else []),
    ]
    counts = [len(f.rows) if f.n is None else f.n for f in found]
    names = [BETWEEN.join("test_images/" * (part == "test") + i for part, i, *_ in f.rows) for f in found]
    short = [(f.name, n, f.meaning, ids) for f, n, ids in zip(found, counts, names, strict=True)]
    details = pd.DataFrame([(f.name, *row) for f in found for row in f.rows], columns=["finding", *DETAILS])
    return pd.DataFrame(short, columns=["finding", "count", "meaning", "images"]), details


def share_table(labels: pd.DataFrame, folder: Path, info: DatasetInfo) -> pd.DataFrame:
    """Say which share of its image each class covers; `folder` is read where `info` promises no shape.

    Returns:
        One row an image: ImageId, num_total_masks, and defect_0, defect_1... in the order of the channels.
    Raises:
        ImageError: an image whose shape is needed cannot be read.
    """
    rows = []
    for image_id, runs in runs_by_image(labels).items():
        height, width = info.shape or read_shape(folder / image_id)
        shares = (rle_area(runs.get(kind.id, "")) / (height * width) for kind in info.classes)
        rows.append((image_id, len(runs), *shares))
    channels = [f"defect_{channel}" for channel in range(info.n_classes)]
    return pd.DataFrame(rows, columns=["ImageId", "num_total_masks", *channels])


def shorten_names(findings: pd.DataFrame) -> pd.DataFrame:
    """Show a table of findings with up to five names in a row."""
    names = findings["images"].str.split(BETWEEN, regex=False)
    more = (names.str.len() > NAMES_SHOWN).map({True: f"{BETWEEN}...", False: ""})
    return findings.assign(images=names.str[:NAMES_SHOWN].str.join(BETWEEN) + more)


def dice_between(first: Runs, second: Runs) -> float:
    """Dice of two labels of one image: mean over the classes that either has; 1 where both have none."""
    classes = sorted({*first, *second})
    return float(dice_from_counts(*_count(first, second, classes)).mean()) if classes else 1.0


def label_noise_bound(labels: Sequence[Runs], n_classes: int) -> float:
    """Find the best competition score that a model can have on copies of one image with different labels.

    It predicts the same for all copies. Of all predictions the union of two labels has the best mean Dice:
    compared with every prediction for all labels of up to 15 pixels each alone and 15 shared.
    Exact for two copies; of more the mean over their pairs, which no prediction exceeds.
    """
    kinds = Counter(tuple(sorted(runs.items())) for runs in labels)
    scores, weights = [1.0], [sum(n * (n - 1) // 2 for n in kinds.values())]  # pairs that agree
    for (one, n), (two, m) in combinations(kinds.items(), 2):
        counts = _count(dict(one), dict(two), range(1, n_classes + 1))
        areas, union = counts[1:], counts[1] + counts[2] - counts[0]
        scores.append(float(dice_from_counts(areas, areas, union).mean()))
        weights.append(n * m)
    return float(np.average(scores, weights=weights))


def _count(first: Runs, second: Runs, class_ids: Iterable[int]) -> np.ndarray:
    """(3, C) pixels of each class that two labels share, of the first, and of the second."""
    runs = [(first.get(c, ""), second.get(c, "")) for c in class_ids]
    return np.array([(intersect_rles(one, two), rle_area(one), rle_area(two)) for one, two in runs]).T


def _rows(files: pd.DataFrame, value: Any = 1, duplicate: Any = "") -> list[tuple]:
    """Rows of a finding; value and duplicate: one for all, or one for each."""
    return [*files.assign(value=value, duplicate=duplicate)[DETAILS].itertuples(index=False, name=None)]


def _repeats(files: pd.DataFrame, keys: pd.Series) -> list[tuple]:
    """Rows of images whose key others have too; duplicate: the next of them, for the last one the first."""
    again = files[keys.duplicated(keep=False)]
    names = again["ImageId"].groupby(keys)
    return _rows(again, 1, names.shift(-1).fillna(names.transform("first")))


def _compare_tables(folder: Path, written: pd.DataFrame, files: pd.DataFrame) -> Iterator[Finding]:
    """What the adapter saw in the raw files ("what, what became of it"), and rows or files too many."""
    if (folder / "issues.csv").is_file():
        parts = dict(zip(files["ImageId"], files["part"], strict=True))
        issues = pd.read_csv(folder / "issues.csv", dtype={"ImageId": str}, keep_default_na=False)
        issues["part"] = issues["ImageId"].map(parts).fillna("")
        for what, seen in issues.groupby("finding", sort=False):
            name, _, meaning = str(what).partition(", ")
            seen = seen[seen["ImageId"] != ""]
            yield Finding(name, _rows(seen, seen["value"]), meaning)
    named, train = set(written["ImageId"]), set(files["ImageId"][files["part"] == "train"])
    rows = [("train", i, 1, "") for i in sorted(train - named)]
    yield Finding("files without a row in train.csv", rows, "they count as clean")
    rows = [("", i, 1, "") for i in sorted(named - train)]
    yield Finding("images of train.csv without a file", rows, "left out")
    runs = written["EncodedPixels"].map(clean_rle)
    is_word, again = (runs == "") & (written["EncodedPixels"] != ""), written.duplicated(PAIR, keep=False)
    for name, chosen, meaning in (
        ("rows of train.csv without runs", runs == "", "classes that they lack, as in the layout of 2019"),
        ("rows of train.csv with a word for no runs", is_word, "such as -1 or NaN: read as no defect"),
        ("rows of train.csv of one image and class", again, "a row a defect: joined into one mask"),
    ):
        counts = written.loc[chosen, "ImageId"].value_counts(sort=False)
        rows = [("train" if i in train else "", i, n, "") for i, n in counts.items()]
        yield Finding(name, rows, f"in {len(counts)} images: {meaning}", int(counts.sum()))


def _find_unread(folder: Path, test: Scan) -> Iterator[Finding]:
    """Files that no step reads: other kinds, images in sub-folders, test images that nobody asks for."""
    unread = [(part, i) for part in ("train", "test") for i in list_unread(folder / f"{part}_images")]
    rows: list[tuple] = [(part, i, Path(i).suffix, "") for part, i in unread if "/" not in i]
    yield Finding("files that are no images", rows, f"left out: read are {' '.join(SUFFIXES)}")
    rows = [(part, i, 1, "") for part, i in unread if "/" in i]
    yield Finding("images in sub-folders", rows, "left out: move them up")
    asked = asked_images(folder / "sample_submission.csv")
    rows = _rows(test.table[~test.table["ImageId"].isin(asked)].assign(part="test"))
    yield Finding("test images that sample_submission.csv lacks", rows, "left out of the submission")


def _find_strange_files(files: pd.DataFrame, overlaps: list[tuple]) -> Iterator[Finding]:
    """Look at format, content, size, overlaps of classes, and bytes that another file has too."""
    yield Finding("suffix and content differ", _rows(files[files["wrong_suffix"]]), "read by content")
    deep = files["bits"] > 8
    meaning = "the lowest bits are dropped, of each image by its brightest pixel: set bits in dataset.json"
    yield Finding("more than 8 bits a channel", _rows(files[deep], files["bits"][deep]), meaning)
    tagged = files["orientation"] > 1
    meaning = "not applied: masks must be drawn on the pixels as they are stored"
    yield Finding("orientation tag", _rows(files[tagged], files["orientation"][tagged]), meaning)
    yield Finding("all pixels of one value", _rows(files[files["blank"]]), "nothing to see: leave them out")
    sizes = files["height"].astype(str) + " x " + files["width"].astype(str)
    other, meaning = sizes != sizes.mode()[0], f"{sizes.mode()[0]} is the commonest; no fault in itself"
    yield Finding("sizes that differ from the commonest", _rows(files[other], sizes[other]), meaning)
    yield Finding("classes overlap", overlaps, "a multiclass head refuses them: multilabel, or mend")
    train, test = (files[files["part"] == part] for part in ("train", "test"))
    rows = _repeats(train, train["digest"])
    yield Finding("same bytes as another training image", rows, "they stay in one fold")
    rows = _repeats(test, test["digest"])
    yield Finding("same bytes as another test image", rows, "they count twice in the score")
    known = train.drop_duplicates("digest").set_index("digest")["ImageId"]
    leaked = test[test["digest"].isin(known.index)]
    rows = _rows(leaked, 1, leaked["digest"].map(known))
    yield Finding("test images with the bytes of a training image", rows, "seen in training: no fair test")


def _compare_labels(known: pd.DataFrame, n_classes: int) -> Iterator[Finding]:
    """Of files with known labels: equal files with different ones, different files with equal ones."""
    known = known.assign(text=[str(sorted(runs.items())) for runs in known["runs"]])
    rows, bounds, meaning = [], [], "no copies contradict each other"
    for _, same in known.groupby("digest", sort=False):
        if len(set(same["text"])) > 1:
            runs, names = same["runs"].tolist(), same["ImageId"].tolist()
            bounds += [label_noise_bound(runs, n_classes)] * len(same)
            dice = [round(dice_between(*two), 4) for two in zip(runs, runs[1:] + runs[:1], strict=True)]
            rows += _rows(same, dice, names[1:] + names[:1])
    if bounds:
        overall = 1 - sum(1 - bound for bound in bounds) / len(known)
        meaning = f"value: Dice of the two labels; no model scores above {np.mean(bounds):.4f} on these, "
        meaning += f"above {overall:.6f} on all {len(known)}: mend one"
    yield Finding("same bytes, different labels", rows, meaning)
    # Labels with defects, equal to the last pixel: two images never get them by chance.
    is_copy = known["ImageId"].map(original_of).isin(known["ImageId"])
    some = known[(known["text"] != "[]") & ~is_copy].drop_duplicates(["digest", "text"])
    rows = _repeats(some, some["text"] + some["height"].astype(str) + "x" + some["width"].astype(str))
    yield Finding("same labels, different bytes", rows, "one of the two has the other's labels: look at both")


def _check_groups(experiment: Experiment, images: pd.DataFrame, train: Scan, test: Scan) -> Iterator[Finding]:
    """Groups of several images, similar test images, and classes that cannot reach every fold."""
    again = images[images["group"].duplicated(keep=False)].assign(part="train")
    rows = _rows(again, again["group"])
    yield Finding("near-duplicates or images of a part that has others", rows, "they stay in one fold")
    places, similarity = nearest_neighbours(test.fingerprints, train.fingerprints)
    near, nearest = similarity > experiment.info.near_duplicate, train.table["ImageId"].to_numpy()[places]
    rows = _rows(test.table[near].assign(part="test"), similarity[near].round(3), nearest[near])
    yield Finding("test images similar to a training image", rows, "the score flatters: split by part")
    each = images.assign(part="train", classes=images["classes"].str.split()).explode("classes")
    n_folds, class_ids = experiment.labels.n_folds, [str(kind.id) for kind in experiment.info.classes]
    n_groups = each.groupby("classes")["group"].nunique().reindex(class_ids, fill_value=0)
    meaning = f"{n_folds} folds: some hold none of it, and cannot measure it"
    for kind, n in zip(experiment.info.classes, n_groups, strict=True):
        rare = each[each["classes"] == str(kind.id)]
        if not n:
            absent = f"no image shows {kind.name}: no network learns it, and none will find it"
            yield Finding(f"class {kind.id}: not in the training part", [], absent, 1)
        elif n < n_folds:
            yield Finding(f"class {kind.id}: fewer groups than folds", _rows(rare, rare["group"]), meaning, n)
    if n_groups.min() >= n_folds:
        yield Finding("classes with fewer groups than folds", [], "every fold measures every class")


def _compare_published(written: pd.DataFrame, files: set[str], whole: Published) -> Iterator[Finding]:
    """Compare train.csv with the published counts of the whole dataset."""
    has = written[written["EncodedPixels"].map(clean_rle) != ""].drop_duplicates(PAIR)
    n_images, masks = len(files | set(written["ImageId"])), has["ClassId"].value_counts()
    by_class = ", ".join(f"{masks.get(c, 0)} of {n}" for c, n in enumerate(whole.masks, 1))
    meaning = f"{n_images} of {whole.images} are here; masks by class: {by_class}"
    yield Finding("published images that train.csv lacks", [], meaning, whole.images - n_images)
    # Shares of the images with a defect: a file of the current layout lists no others.
    counts = has["ImageId"].value_counts(sort=False)
    rows = [("train" if i in files else "", i, n, "") for i, n in counts[counts > 1].items()]
    n, n_defects = max(1, len(counts)), sum(whole.by_classes[1:])
    share, expected = len(rows) / n, sum(whole.by_classes[2:]) / n_defects
    is_many = share > expected + CHANCE * (expected * (1 - expected) / n) ** 0.5
    meaning = f"{len(rows)} of {len(counts)} images with a defect ({share:.1%}); published {expected:.1%} "
    meaning += f"of {n_defects}{': no random part, trust no share of it' * is_many}"
    yield Finding("images with several classes, more than published", rows * is_many, meaning)
