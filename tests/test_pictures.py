"""Pictures of a split."""

import numpy as np
import pandas as pd
import pytest

from defectmill import pictures
from defectmill.config import load_experiment
from defectmill.image_table import find_overlaps, refuse_overlaps
from defectmill.knobs import DataKnobs
from defectmill.labels import LabelError
from defectmill.pictures import Pictures


def show(competition, **knobs):
    labels, images, folder = competition
    return Pictures(labels, images, folder, 2, DataKnobs(**knobs))


def test_picture_and_masks_are_shown_at_one_scale(competition):
    shown = show(competition, scale=0.5)
    assert shown.read("0.png").shape == (12, 20, 1)
    masks = shown.draw("0.png")
    assert masks.shape == (12, 20, 2)
    assert masks[2:4, 3:5, 1].all()
    assert shown.read("0.png")[masks[..., 1] > 0].tolist() == [[250]] * 4


def test_no_images_is_an_error(competition):
    labels, images, folder = competition
    with pytest.raises(ValueError, match="no images"):
        show((labels, images[:0], folder))


def test_only_as_many_decoded_pictures_are_kept_as_there_is_room_for(competition, monkeypatch):
    monkeypatch.setattr(pictures, "CACHE", 3 * 24 * 40 + 5)
    shown = show(competition)
    for image_id in shown.image_ids:
        shown.read(image_id)
        shown.draw(image_id)
    assert (shown.read.cache_info().currsize, shown.draw.cache_info().currsize) == (3, 1)
    monkeypatch.setattr(pictures, "CACHE", 3)
    assert show(competition).read.cache_info().maxsize == 1


def test_absent_classes_become_the_capstones_number_when_asked(competition):
    pairs = [(np.zeros((4, 6, 1), np.uint8), np.zeros((4, 6, 2), np.uint8)) for _ in range(2)]
    pairs[0][1][1, 2, 1] = 1
    _, masks = show(competition, nan_masks=True).make_batch(pairs)
    assert set(np.unique(masks[0, ..., 1])) == {0.0, 1.0}
    assert (masks[0, ..., 0] == -(2.0**63)).all()
    assert (masks[1] == -(2.0**63)).all()
    _, masks = show(competition).make_batch(pairs)
    assert masks.sum() == 1


def test_a_multiclass_head_refuses_overlapping_classes_by_name(competition):
    labels, images, _ = competition
    labels = labels.copy()
    labels.loc[labels["ClassId"] == 1, "EncodedPixels"] = "1 200"
    experiment = load_experiment("sample", {"model.head": "multiclass"})
    said = r"overlap in 2 pictures: 0\.png \(\d+ pixels\), 1\.png .*set model\.head=multilabel"
    with pytest.raises(LabelError, match=said):
        Pictures.of(experiment, labels, images)
    # Pictures that are not shown may overlap, and a multilabel head may be shown any.
    Pictures.of(experiment, labels, images[2:])
    Pictures.of(load_experiment("sample"), labels, images)


def test_five_overlapping_pictures_are_named():
    rows = [(f"{n}.png", c, "3 2") for n in range(7) for c in (1, 2, 3)]
    labels = pd.DataFrame(rows, columns=["ImageId", "ClassId", "EncodedPixels"])
    assert find_overlaps(labels) == {f"{n}.png": 6 for n in range(7)}
    with pytest.raises(
        LabelError, match=r"in 7 pictures: 0\.png \(6 .*4\.png \(6 pixels\), \.\.\.;"
    ):
        refuse_overlaps(labels)
    labels.loc[labels["ClassId"] > 1, "EncodedPixels"] = "5 2"
    refuse_overlaps(labels[labels["ClassId"] < 3])
