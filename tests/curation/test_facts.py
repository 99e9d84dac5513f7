"""Facts of a dataset: how large its defects are, by shapes drawn by hand."""

import numpy as np
import pytest

from defectmill.config import load_experiment
from defectmill.curation.facts import ClassFacts, DatasetFacts, mask_size, mask_width, read_facts
from defectmill.files import DefectmillError
from defectmill.images import write_image
from defectmill.labels import masks_to_labels
from defectmill.split import Split
from fake_competition import EXPERIMENT, write_fake_competition


def draw(shape, *boxes):
    mask = np.zeros(shape, np.uint8)
    for box in boxes:
        mask[box] = 1
    return mask


@pytest.mark.parametrize("width", [2, 4, 10])
def test_width_of_a_long_stripe_of_even_width_is_exact_also_at_the_border(width):
    for top in (0, 4):
        assert mask_width(draw((20, 3001), np.s_[top : top + width])) == pytest.approx(width, rel=0.005)


def test_size_is_that_of_the_component_that_holds_the_middle_pixel():
    specks = [np.s_[0, 2 * n] for n in range(8)]
    assert mask_size(draw((20, 31), np.s_[8:12, 2:11], *specks)) == 6
    assert mask_size(draw((20, 31), np.s_[8:12, 2:11], np.s_[15:17, 2:20])) == 6
    assert mask_size(draw((20, 31), np.s_[3, 4])) == 1


@pytest.fixture
def facts_of(root):
    write_fake_competition(root / "input" / "fake", n_train=1, n_test=3)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    run = load_experiment("e")

    def read(masks, groups, colour=(90, 90, 90)):
        """`masks`: (H, W, 2) of each image."""
        named = [(f"{n}.png", mask) for n, mask in enumerate(masks)]
        for image_id, mask in named:
            write_image(root / image_id, np.full((*mask.shape[:2], 3), colour, np.uint8))
        labels = masks_to_labels(named)
        classes = [" ".join(str(c + 1) for c in np.flatnonzero(m.any(axis=(0, 1)))) for m in masks]
        images = labels[["ImageId"]].drop_duplicates().assign(classes=classes, group=groups)
        images = images.assign(height=[m.shape[0] for m in masks], width=[m.shape[1] for m in masks])
        return read_facts(run, Split(labels, images, images, images[:0], root))

    return read


CLEAN = np.zeros((20, 300), np.uint8)


def test_facts_count_images_groups_and_sizes(facts_of):
    one, two = draw(CLEAN.shape, np.s_[2:6, :256]), draw(CLEAN.shape, np.s_[2:11, 5:14])
    pairs = [(one, CLEAN), (one, CLEAN), (CLEAN, two), (CLEAN, CLEAN), (one, CLEAN)]
    facts = facts_of([np.stack(pair, axis=2) for pair in pairs], [0, 0, 1, 2, 3])
    kinds = facts.classes
    assert facts == DatasetFacts(5, 4, 3, 3, 3, True, (20.0, 300.0), 0.0, True, kinds)
    assert (facts.area, facts.rarest) == (6000.0, 2)
    assert kinds[0] == ClassFacts(2, 32, 32, 32, pytest.approx(4, rel=0.05))
    assert kinds[1][:4] == (1, 9, 9, 9)


def test_a_mask_of_specks_alone_does_not_make_a_class_small(facts_of):
    speck, square = draw(CLEAN.shape, np.s_[1, 1]), draw(CLEAN.shape, np.s_[2:11, 5:14])
    masks = [np.stack([mask, CLEAN], axis=2) for mask in (speck, speck, square)]
    assert [kind.typical for kind in facts_of(masks, [0, 1, 2]).classes] == [9]
    assert [kind.typical for kind in facts_of(masks[:2], [0, 1]).classes] == [1]


def test_coloured_images_and_overlapping_classes_are_told(facts_of):
    square = draw(CLEAN.shape, np.s_[2:11, 5:14])
    facts = facts_of([np.stack([square, square], axis=2)], [0], colour=(200, 150, 80))
    assert (facts.colour, facts.exclusive, facts.groups, facts.rarest) == (120, False, 0, 1)


def test_a_dataset_without_a_defect_is_refused(facts_of):
    with pytest.raises(DefectmillError, match="e: no training image has a defect"):
        facts_of([np.stack([CLEAN, CLEAN], axis=2)], [0])
