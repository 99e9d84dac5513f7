"""Suspicious labels: what a network contradicts that has never seen the labels of the image.

Maps must be out of fold, of networks that did not train on the image: one that did repeats its labels.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pandas as pd

CONFIDENT = 0.5  # pixels above this probability are predicted
LEAST = 0.1  # findings have a suspicion above it
SMALL = 0.1  # of the usual area: a finding of that size has half its suspicion
OVERLAP = 0.5  # intersection over union of two boxes, above which they are one place
BOX = ["top", "left", "bottom", "right"]
COLUMNS = ["ImageId", "ClassId", "kind", "suspicion", "area", *BOX, "PredictedClassId"]


def rank_suspects(maps: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Rank the labels that probabilities contradict, the most suspicious first.

    Looked at are connected components (8 neighbours) of pixels that are labelled or predicted as a class:
    "missing" without a labelled pixel, "spurious" without a predicted one, "wrong class" where more than half
    of them is predicted as another class, "outline" where label and prediction meet and differ.

    Suspicion weighs each pixel by how surely the network contradicts its label: 1 - 2q where that is
    positive, with q the probability of the label that it has (the label quality of Lad & Mueller 2023,
    arXiv:2307.05080, who rank whole images by it). The sum over a component, divided by its labelled plus
    its predicted pixels, is in [0, 1] for every kind: the mean weight where one of the two is missing, and
    1 - Dice of an outline where the network has no doubt. Specks count less than defects: it is multiplied by
    area / (area + SMALL times the median labelled area of a component of the class).

    Args:
        maps: (image id, (H, W, C) probabilities, (H, W, C) labels in {0, 1}), read once.
    Returns:
        One row a place: ImageId, ClassId (of the label; of what is missing), kind, suspicion (above LEAST),
        area (pixels contradicted), top, left, bottom, right (pixels; the last two are just outside) and
        PredictedClassId (0: none). Of boxes that overlap by more than OVERLAP the first stands.
    """
    rows = [(i, *row) for i, probs, truth in maps for row in _find_suspects(probs, truth > 0)]
    found = pd.DataFrame(rows, columns=[*COLUMNS, "labelled"])
    usual = found[found["labelled"] > 0].groupby("ClassId")["labelled"].median()
    small = SMALL * found["ClassId"].map(usual).fillna(0)
    found["suspicion"] *= found["area"] / (found["area"] + small)
    found = found.sort_values("suspicion", ascending=False, kind="stable")[COLUMNS]
    top, left, bottom, right = found[BOX].astype(float).to_numpy().T
    boxes = np.stack([left, top, right - left, bottom - top], axis=1).tolist()
    images, scores = pd.factorize(found["ImageId"])[0].tolist(), found["suspicion"].tolist()
    kept = cv2.dnn.NMSBoxesBatched(boxes, scores, images, LEAST, OVERLAP)
    return found.iloc[np.sort(np.asarray(kept, int))].reset_index(drop=True)


def _find_suspects(probs: np.ndarray, truth: np.ndarray) -> Iterator[tuple]:
    """Yield the columns after ImageId, and labelled pixels, of all components of the classes of one image."""
    sure = probs > CONFIDENT
    weights, denied, added = np.abs(2 * probs - 1), truth & ~sure, sure & ~truth
    for channel in np.flatnonzero((truth | sure).any(axis=(0, 1))).tolist():
        either = (truth | sure)[:, :, channel].astype(np.uint8)
        n, numbers, stats, _ = cv2.connectedComponentsWithStats(either, connectivity=8)
        for number, (left, top, width, height, _) in zip(range(1, n), stats[1:].tolist(), strict=True):
            box = np.s_[top : top + height, left : left + width]
            labelled, predicted = (m[box][:, :, channel] & (numbers[box] == number) for m in (truth, sure))
            wrong = labelled ^ predicted
            suspicion = weights[box][wrong, channel].sum() / (labelled.sum() + predicted.sum())
            class_id = predicted_id = channel + 1
            if labelled.any():
                kind = "outline" if (labelled & predicted).any() else "spurious"
                others = (added[box] & denied[box][:, :, [channel]])[labelled].mean(axis=0)
            else:
                kind, others = "missing", denied[box][predicted].mean(axis=0)
            if others.max() > 0.5:
                kind, other = "wrong class", int(others.argmax()) + 1
                class_id, predicted_id = (class_id, other) if labelled.any() else (other, class_id)
            elif kind == "spurious":
                predicted_id = 0
            edges = top, left, top + height, left + width
            yield (
                class_id,
                kind,
                float(suspicion),
                int(wrong.sum()),
                *edges,
                predicted_id,
                int(labelled.sum()),
            )
