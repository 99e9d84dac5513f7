"""Findings of pairs: copies, labels used twice, near-duplicates."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from defectmill.audit.ceilings import best_score, dice_between
from defectmill.audit.findings import Finding, make_rows
from defectmill.groups import COPY_MARK, find_likest
from defectmill.shots import Shots


def find_copies(shots: pd.DataFrame, n_classes: int) -> Iterator[Finding]:
    """Compare bytes with labels.

    Args:
        shots: part, ImageId, height, width, digest, runs ({class id: rle}; None: not known).
    """
    of_test = shots["part"] == "test"
    for what, meaning, some in (
        ("same bytes as another training image", "they stay in one fold", shots[~of_test]),
        ("same bytes as another test image", "they count twice in the score", shots[of_test]),
    ):
        again = some[some["digest"].duplicated(keep=False)]
        yield Finding(what, meaning, make_rows(again, 1, _next_alike(again, again["digest"])))
    train = shots[~of_test].drop_duplicates("digest").set_index("digest")["ImageId"]
    leaked = shots[of_test & shots["digest"].isin(train.index)]
    yield Finding(
        "test images with the bytes of a training image", "remembered, not found: no measure",
        make_rows(leaked, 1, leaked["digest"].map(train)),
    )  # fmt: skip
    known = shots[shots["runs"].notna()]
    known = known.assign(text=[str(sorted(r.items())) for r in known["runs"]])
    yield _contradictions(known, n_classes)
    yield _reused_labels(known)


def find_near_duplicates(
    images: pd.DataFrame, train: Shots, test: Shots, threshold: float
) -> Iterator[Finding]:
    """Find training images of one group, and test images that are like a training image.

    Args:
        images: image table with groups, in the order of `train`.
    """
    again = images[images["group"].duplicated(keep=False)].assign(part="train")
    yield Finding(
        "near-duplicates or shots of a part that has others", "they stay in one fold",
        make_rows(again, again["group"]),
    )  # fmt: skip
    places, likeness = find_likest(test.prints, train.prints)
    near = likeness > threshold
    twins = train.table["ImageId"].to_numpy()[places[near]]
    yield Finding(
        "test images like a training image", "the score flatters: split by part",
        make_rows(test.table[near].assign(part="test"), likeness[near].round(3), twins),
    )  # fmt: skip


def _contradictions(known: pd.DataFrame, n_classes: int) -> Finding:
    rows, best = [], []
    for _, same in known.groupby("digest", sort=False):
        if len(set(same["text"])) == 1:
            continue
        best += [best_score(list(same["runs"]), n_classes)] * len(same)
        labels = same["runs"].tolist()
        dice = [dice_between(*pair) for pair in zip(labels, labels[1:] + labels[:1], strict=True)]
        rows += make_rows(same, np.round(dice, 4), _next_alike(same, same["digest"]))
    meaning = "no copies contradict each other"
    if best:
        overall = 1 - sum(1 - b for b in best) / len(known)
        meaning = (
            f"value: Dice of the two labels; no model scores above {np.mean(best):.4f} on these, "
            f"above {overall:.6f} on all {len(known)}: mend one"
        )
    return Finding("same bytes, different labels", meaning, rows)


def _reused_labels(known: pd.DataFrame) -> Finding:
    """Labels with defects, equal to the last pixel: two pictures never get them by chance."""
    ids = set(known["ImageId"])
    is_copy = known["ImageId"].map(lambda i: i.partition(COPY_MARK)[2].removesuffix(".png") in ids)
    some = known[(known["text"] != "[]") & ~is_copy].drop_duplicates(["digest", "text"])
    keys = some["text"] + some["height"].astype(str) + "x" + some["width"].astype(str)
    again = keys.duplicated(keep=False)
    return Finding(
        "same labels, different bytes", "one of the two has the other's labels: look at both",
        make_rows(some[again], 1, _next_alike(some[again], keys[again])),
    )  # fmt: skip


def _next_alike(shots: pd.DataFrame, keys: pd.Series) -> list[str]:
    """For each picture the next one of its key, the last one's being the first."""
    ring = shots["ImageId"].groupby(keys)
    return ring.shift(-1).fillna(ring.transform("first")).tolist()
