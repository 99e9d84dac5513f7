"""Image tables: one row an image: ImageId, height, width, classes ("1 3"; "" = clean), and, once
they are found, group and fold."""

import shutil
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.cards import Card
from defectmill.images import ImageError, name_masks, read_image, read_shape, write_image
from defectmill.labels import LabelError, draw_masks, draw_runs, runs_by_image
from defectmill.palette import colours_from_masks
from defectmill.rle import RleError, check_rle, intersect_rles, rle_area


def classes_by_image(labels: pd.DataFrame) -> pd.DataFrame:
    """One row an image: ImageId, classes ("1 3"; "" = clean)."""
    runs = runs_by_image(labels)
    classes = [" ".join(map(str, sorted(r))) for r in runs.values()]
    return pd.DataFrame({"ImageId": list(runs), "classes": classes}, dtype=str)


def make_image_table(folder: Path, labels: pd.DataFrame) -> pd.DataFrame:
    """Open every image of a label table and check its runs against its size.

    Returns:
        One row an image: ImageId, height, width, classes ("1 3"; "" = clean).
    Raises:
        LabelError: an image without a file or unreadable, or runs that leave the picture.
    """
    sizes = []
    for image_id, runs in runs_by_image(labels).items():
        try:
            height, width = read_image(folder / image_id).shape[:2]
        except ImageError as error:
            raise LabelError(f"an image of the label table: {error}") from error
        for class_id, rle in runs.items():
            try:
                check_rle(rle, (height, width))
            except RleError as error:
                raise LabelError(f"{image_id} class {class_id}: {error}") from error
        sizes.append((height, width))
    images = classes_by_image(labels)
    images[["height", "width"]] = np.array(sizes, int).reshape(-1, 2)
    return images[["ImageId", "height", "width", "classes"]]


def find_overlaps(labels: pd.DataFrame) -> dict[str, int]:
    """Find the images with a pixel of two classes: {image id: pixels shared, pair by pair}."""
    shared = {
        image_id: sum(intersect_rles(*pair) for pair in combinations(runs.values(), 2))
        for image_id, runs in runs_by_image(labels).items()
    }
    return {image_id: count for image_id, count in shared.items() if count}


def refuse_overlaps(labels: pd.DataFrame) -> None:
    """Raise LabelError, with up to five images, unless each pixel has one class at most."""
    shared = find_overlaps(labels)
    if shared:
        named = ", ".join(f"{i} ({n} pixels)" for i, n in [*shared.items()][:5])
        raise LabelError(
            f"classes overlap in {len(shared)} pictures: {named}{', ...' * (len(shared) > 5)}; a "
            "multiclass head gives a pixel one class: set model.head=multilabel, or mend the labels"
        )


def share_table(labels: pd.DataFrame, folder: Path, card: Card) -> pd.DataFrame:
    """Say how much of each image each class covers.

    Args:
        folder: where the files are; of images without one the card must promise the shape.
    Returns:
        One row an image: ImageId, num_total_masks, and defect_0, defect_1... in the order of
        the channels: the class's area as a share of the image.
    Raises:
        ImageError: no size can be had.
    """
    rows = []
    for image_id, runs in runs_by_image(labels).items():
        height, width = card.shape or read_shape(folder / image_id)
        shares = [rle_area(runs.get(kind.id, "")) / (height * width) for kind in card.classes]
        rows.append((image_id, len(runs), *shares))
    channels = [f"defect_{kind.id - 1}" for kind in card.classes]
    return pd.DataFrame(rows, columns=["ImageId", "num_total_masks", *channels])


def read_image_table(csv: Path) -> pd.DataFrame:
    """Read an image table back; `classes` is text, "" for a clean image."""
    return pd.read_csv(csv, dtype={"ImageId": str, "classes": str}, keep_default_na=False)


def class_matrix(images: pd.DataFrame, n_classes: int) -> np.ndarray:
    """Say which image has which class: (N, n_classes) bool, in the order of the table."""
    present = np.zeros((len(images), n_classes), bool)
    for row, classes in enumerate(images["classes"]):
        present[row, [int(c) - 1 for c in classes.split()]] = True
    return present


def write_colour_masks(
    labels: pd.DataFrame, images: pd.DataFrame, folder: Path, card: Card
) -> None:
    """Write <name>.png for every image: its classes in the card's colours; see `name_masks`.

    Args:
        images: image table, for the shapes.
        folder: what it held before goes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    runs, names = runs_by_image(labels), name_masks(images["ImageId"])
    for image_id, height, width in images[["ImageId", "height", "width"]].itertuples(index=False):
        masks = draw_runs(runs[image_id], (height, width), len(card.classes), image_id)
        picture = colours_from_masks(masks, card.colours)
        write_image(folder / f"{names[image_id]}.png", picture)


def read_with_masks(
    folder: Path, labels: pd.DataFrame, image_ids: Iterable[str], n_classes: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read pictures and draw their masks, to be looked at.

    Returns:
        (H, W, 3) uint8 each, and (H, W, n_classes) uint8 in {0, 1} each.
    """
    ids = list(image_ids)
    pictures = [read_image(folder / i, 3) for i in ids]
    masks = [
        draw_masks(labels, i, p.shape[:2], n_classes) for i, p in zip(ids, pictures, strict=True)
    ]
    return pictures, masks


def pick_examples(labels: pd.DataFrame, class_id: int, n: int) -> list[str]:
    """Pick n images of a class, from its smaller masks to its larger; of class 0 clean ones."""
    if class_id == 0:
        ids = [i for i, runs in runs_by_image(labels).items() if not runs]
    else:
        mine = labels[(labels["ClassId"] == class_id) & labels["hasMask"]]
        ids = mine.iloc[np.argsort(mine["EncodedPixels"].map(rle_area), kind="stable")][
            "ImageId"
        ].tolist()
    if len(ids) >= n + 2:  # neither the smallest nor the largest
        places = np.linspace(0, len(ids) - 1, n + 2)[1:-1]
    else:
        places = np.linspace(0, len(ids) - 1, min(n, len(ids)))
    return [ids[p] for p in places.round().astype(int)]
