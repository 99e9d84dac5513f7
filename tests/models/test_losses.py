import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import ndimage

from defectmill.files import DefectmillError
from defectmill.models import losses
from defectmill.models.losses import DefectLoss, ForegroundDice, batch_dice, soft_pixel_accuracy

# One image of 1 x 4 pixels, two classes: class 1 at pixels 0 and 1, class 2 at pixel 2.
TRUTH = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32).reshape(1, 1, 4, 2)
MULTICLASS_TRUTH = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32).reshape(1, 1, 4, 3)


def value(head, weights, truth, prediction):
    return float(DefectLoss(head, weights)(truth, ops.convert_to_tensor(prediction)))


def test_multilabel_cross_entropy_is_keras_own():
    prediction = np.random.default_rng(0).uniform(0.1, 0.9, TRUTH.shape).astype(np.float32)
    wanted = float(ops.mean(keras.losses.binary_crossentropy(TRUTH, prediction)))
    assert value("multilabel", {"cross_entropy": 1}, TRUTH, prediction) == pytest.approx(wanted)


def test_multiclass_cross_entropy_is_keras_own_with_background_as_the_rest():
    rng = np.random.default_rng(1)
    prediction = rng.dirichlet([1, 1, 1], (1, 1, 4)).astype(np.float32)
    wanted = float(ops.mean(keras.losses.categorical_crossentropy(MULTICLASS_TRUTH, prediction)))
    got = value("multiclass", {"cross_entropy": 1}, TRUTH, prediction)
    assert got == pytest.approx(wanted, rel=1e-4)


def test_dice_loss_by_hand():
    # Class 1: 2 * 1 / (2 + 1); class 2: 2 * 0.5 / (1 + 1). Mean Dice (2/3 + 1/2) / 2.
    prediction = np.array([[1, 0], [0, 0.5], [0, 0.5], [0, 0]], np.float32).reshape(TRUTH.shape)
    got = value("multilabel", {"dice": 1}, TRUTH, prediction)
    assert got == pytest.approx(1 - (2 / 3 + 1 / 2) / 2, abs=1e-5)


def test_batch_dice_takes_all_classes_as_one_mask():
    # 2 * (1 + 0.5) + 1 over 3 + 2 + 1.
    prediction = np.array([[1, 0], [0, 0.5], [0, 0.5], [0, 0]], np.float32).reshape(TRUTH.shape)
    assert float(batch_dice(TRUTH, prediction)) == pytest.approx(4 / 6)
    assert value("multilabel", {"batch_dice": 1}, TRUTH, prediction) == pytest.approx(2 / 6)
    with_background = np.concatenate([np.ones((1, 1, 4, 1), np.float32), prediction], axis=-1)
    assert float(batch_dice(TRUTH, with_background)) == pytest.approx(4 / 6)


def test_the_capstones_broken_masks_give_its_absurd_loss():
    """At -2^63 every pixel of an absent class that is predicted clean lowers the loss by some 1e18."""
    broken = np.where(TRUTH == 1, 1, np.float32(-(2.0**63)))
    sure, unsure = np.full(TRUTH.shape, 0.9, np.float32), np.full(TRUTH.shape, 0.1, np.float32)
    weights = {"cross_entropy": 1}
    assert value("multilabel", weights, broken, sure) > 1e18
    assert value("multilabel", weights, broken, unsure) < -1e18
    assert float(batch_dice(broken, sure)) == pytest.approx(2 * 0.9, rel=1e-3)


def test_soft_pixel_accuracy_is_flexunets_dice_and_rewards_background():
    """Its formula: 2 sum(t p) / (sum(t) + sum(p)) over background and classes."""
    prediction = np.random.default_rng(2).dirichlet([1, 1, 1], (1, 1, 4)).astype(np.float32)
    theirs = 2 * (MULTICLASS_TRUTH * prediction).sum() / (MULTICLASS_TRUTH.sum() + prediction.sum())
    assert float(soft_pixel_accuracy(TRUTH, prediction)) == pytest.approx(theirs, rel=1e-5)
    background = np.zeros((1, 1, 4, 3), np.float32)
    background[..., 0] = 1
    assert float(soft_pixel_accuracy(TRUTH, background)) == pytest.approx(1 / 4, abs=1e-5)


def test_foreground_dice_is_not_fooled_by_masks_of_minus_two_to_the_63():
    metric = ForegroundDice(2, "multilabel")
    broken = np.where(TRUTH == 1, 1, np.float32(-(2.0**63)))
    metric.update_state(broken, TRUTH)
    assert float(metric.result()) == 1


def test_background_alone_has_a_dice_loss_of_one():
    background = np.zeros((1, 1, 4, 3), np.float32)
    background[..., 0] = 1
    assert value("multiclass", {"dice": 1}, TRUTH, background) == pytest.approx(1, abs=1e-5)


def test_a_class_absent_from_the_batch_adds_no_dice_loss():
    truth = TRUTH * np.array([1, 0], np.float32)
    prediction = np.array([[1, 0.3]] * 2 + [[0, 0.3]] * 2, np.float32).reshape(TRUTH.shape)
    assert value("multilabel", {"dice": 1}, truth, prediction) == pytest.approx(0, abs=1e-5)
    assert value("multilabel", {"dice": 1}, TRUTH * 0, prediction) == 0


def test_dice_loss_counts_all_images_of_the_batch_together():
    one = np.array([1, 0, 0, 0, 0, 0], np.float32).reshape(2, 1, 3, 1)
    half = np.array([1, 0, 0, 1, 0, 0], np.float32).reshape(2, 1, 3, 1)
    assert value("multilabel", {"dice": 1}, one, half) == pytest.approx(1 - 2 / 3, abs=1e-5)


def test_image_dice_loss_counts_every_image_alike_and_leaves_absent_classes_out():
    """A thin mask that is missed loses as much as a wide one: Dice 1 of 4 pixels, 0 of 1; mean 1 / 2."""
    truth = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], np.float32).reshape(2, 1, 4, 1)
    found = np.array([[1, 1, 1, 1], [0, 0, 0, 0]], np.float32).reshape(2, 1, 4, 1)
    assert value("multilabel", {"image_dice": 1}, truth, found) == pytest.approx(1 / 2, abs=1e-5)
    with_background = np.concatenate([1 - found, found], axis=-1)
    assert value("multiclass", {"image_dice": 1}, truth, with_background) == pytest.approx(1 / 2, abs=1e-5)
    # An image without the class adds nothing, whatever is found in it.
    assert value("multilabel", {"image_dice": 1}, truth * [[[[1]]], [[[0]]]], truth) == pytest.approx(
        0, abs=1e-5
    )
    assert value("multilabel", {"image_dice": 1}, truth * 0, found) == 0


def test_focal_loss_is_small_where_the_prediction_is_nearly_right():
    sure = np.where(TRUTH == 1, 0.9, 0.1).astype(np.float32)
    got = value("multilabel", {"focal": 1}, TRUTH, sure)
    assert got == pytest.approx(0.1**2 * -np.log(0.9), rel=1e-4)


def test_weights_add_terms():
    p = np.full(TRUTH.shape, 0.4, np.float32)
    parts = [value("multilabel", {t: 1}, TRUTH, p) for t in ("cross_entropy", "dice", "focal")]
    both = value("multilabel", {"cross_entropy": 0.5, "dice": 1, "focal": 2}, TRUTH, p)
    assert both == pytest.approx(0.5 * parts[0] + parts[1] + 2 * parts[2], rel=1e-5)


@pytest.mark.parametrize("head", ["multilabel", "multiclass"])
def test_a_hopeless_prediction_stays_finite(head):
    wrong = np.zeros((1, 1, 4, 2 + (head == "multiclass")), np.float32)
    weights = {"cross_entropy": 1, "dice": 1, "focal": 1}
    assert np.isfinite(value(head, weights, TRUTH, wrong))


def test_foreground_dice_counts_all_updates_together_and_leaves_unseen_classes_out():
    metric = ForegroundDice(2, "multilabel")
    truth = TRUTH * np.array([1, 0], np.float32)
    metric.update_state(truth, ops.convert_to_tensor(truth))
    assert float(metric.result()) == pytest.approx(1)
    metric.update_state(truth, ops.convert_to_tensor(truth * 0))
    assert float(metric.result()) == pytest.approx(2 * 2 / (4 + 2))


def test_all_background_scores_no_foreground_dice():
    metric = ForegroundDice(2, "multiclass")
    background = np.zeros((1, 1, 4, 3), np.float32)
    background[..., 0] = 1
    metric.update_state(TRUTH, ops.convert_to_tensor(background))
    assert float(metric.result()) == 0


def test_an_unknown_loss_is_named():
    with pytest.raises(DefectmillError, match="no loss 'flat_dice'"):
        value("multilabel", {"flat_dice": 1}, TRUTH, TRUTH)


def test_loss_and_metric_come_back_from_their_configuration():
    loss = DefectLoss("multiclass", {"dice": 2.0})
    assert DefectLoss.from_config(loss.get_config()).weights == {"dice": 2.0}
    metric = ForegroundDice(3, "multilabel")
    assert ForegroundDice.from_config(metric.get_config()).n_classes == 3


SHAPE_TERMS = ("focal_tversky", "lovasz", "boundary", "cldice")


def make_masks(head, seed=0):
    """Truth (2, 6, 9, 3) whose last class is absent, and a prediction of the head."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, (2, 6, 9))
    truth = np.stack([classes == 1, classes == 2, classes == 9], axis=-1).astype(np.float32)
    if head == "multiclass":
        return truth, rng.dirichlet([1, 1, 1, 1], classes.shape).astype(np.float32)
    return truth, rng.uniform(0, 1, truth.shape).astype(np.float32)


def with_background(truth, head):
    """A prediction that is the truth."""
    background = 1 - truth.sum(axis=-1, keepdims=True)
    return np.concatenate([background, truth], axis=-1) if head == "multiclass" else truth


def gradient(head, term, truth, prediction):
    prediction = tf.constant(prediction)
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        loss = DefectLoss(head, {term: 1})(truth, prediction)
    return tape.gradient(loss, prediction).numpy()


def test_focal_tversky_weighs_missed_pixels_more_by_hand():
    # Class 1: 1 found, 1 missed, 0 false; class 2: 0.5 found, 0.5 missed, 0.5 false.
    prediction = np.array([[1, 0], [0, 0.5], [0, 0.5], [0, 0]], np.float32).reshape(TRUTH.shape)
    wanted = ((0.7 / 1.7) ** 0.75 + 0.5**0.75) / 2
    assert value("multilabel", {"focal_tversky": 1}, TRUTH, prediction) == pytest.approx(wanted, rel=1e-5)


def lovasz_by_definition(true, errors):
    """Sum of the errors, largest first, each times what the Jaccard loss of the wrong pixels gains by it."""
    loss, wrong, before = 0.0, set(), 0.0
    true_pixels = set(np.flatnonzero(true))
    for pixel in np.argsort(-errors):
        wrong.add(pixel)
        jaccard_loss = len(wrong) / len(true_pixels | wrong)
        loss, before = loss + errors[pixel] * (jaccard_loss - before), jaccard_loss
    return loss


@pytest.mark.parametrize("head", ["multilabel", "multiclass"])
def test_lovasz_is_the_extension_of_the_jaccard_loss_over_present_classes(head):
    truth, prediction = make_masks(head)
    classes = prediction[..., -3:]
    pairs = [(truth[..., c].ravel(), np.abs(truth - classes)[..., c].ravel()) for c in (0, 1)]
    wanted = np.mean([lovasz_by_definition(*pair) for pair in pairs])
    assert value(head, {"lovasz": 1}, truth, prediction) == pytest.approx(wanted, rel=1e-4)


def test_lovasz_of_a_sure_prediction_is_one_minus_its_jaccard_index():
    # Class 1: 1 pixel in both, 2 in either; class 2: 1 in both, 2 in either.
    prediction = np.array([[1, 0], [0, 1], [0, 1], [0, 0]], np.float32).reshape(TRUTH.shape)
    assert value("multilabel", {"lovasz": 1}, TRUTH, prediction) == pytest.approx(1 / 2)


def test_boundary_counts_two_pixels_on_either_side_of_an_edge_alone():
    # Class 1 from pixel 6 on, class 2 nowhere: pixels 4 to 7 count, with both heads.
    truth = np.zeros((1, 1, 10, 2), np.float32)
    truth[..., 6:, 0] = 1
    prediction = np.where(truth == 1, 0.2, 0.8).astype(np.float32)  # hopeless
    prediction[..., 4:8, 0] = [0.1, 0.2, 0.7, 0.6]
    wanted = -np.log([0.9, 0.8, 0.7, 0.6]).mean()
    assert value("multilabel", {"boundary": 1}, truth, prediction) == pytest.approx(wanted, rel=1e-5)
    rest = np.clip(1 - prediction[..., :1], 0, 1)
    prediction = np.concatenate([rest, prediction[..., :1], np.zeros_like(rest)], axis=-1)
    assert value("multiclass", {"boundary": 1}, truth, prediction) == pytest.approx(wanted, rel=1e-5)


def test_a_multiclass_head_has_edges_between_classes_and_to_the_background():
    truth = np.zeros((1, 18, 1, 2), np.float32)
    truth[:, :6, :, 0] = truth[:, 6:12, :, 1] = 1
    prediction = np.full((1, 18, 1, 3), 1e-3, np.float32)
    prediction[:, 4:8], prediction[:, 10:14] = 0.25, 0.5
    wanted = -np.log([0.25, 0.5]).mean()
    assert value("multiclass", {"boundary": 1}, truth, prediction) == pytest.approx(wanted, rel=1e-5)


def test_cldice_asks_for_the_centre_line_and_not_for_the_width():
    bar, line = np.zeros((2, 1, 5, 9, 1), np.float32)
    bar[:, 1:4, 1:8] = line[:, 2, 2:7] = 1  # three pixels wide, and its skeleton of five pixels
    assert value("multilabel", {"cldice": 1}, bar, line) == pytest.approx(0, abs=1e-6)
    line[:, 2, 4] = 0  # all of its four pixels are right, four of the skeleton's five are there
    recall = (4 + 1) / (5 + 1)
    assert value("multilabel", {"cldice": 1}, bar, line) == pytest.approx(1 - 2 * recall / (1 + recall))


def skeleton(mask):
    """Soft skeleton of (H, W), by SciPy."""
    thin, cross = np.zeros_like(mask), ndimage.generate_binary_structure(2, 1)
    for _ in range(losses.THINNINGS + 1):
        eroded = ndimage.grey_erosion(mask, footprint=cross, mode="nearest")
        opened = ndimage.grey_dilation(eroded, (3, 3), mode="nearest")
        thin, mask = thin + (1 - thin) * np.maximum(mask - opened, 0), eroded
    return thin


@pytest.mark.parametrize("head", ["multilabel", "multiclass"])
def test_cldice_is_the_dice_of_soft_skeletons_over_present_classes(head):
    truth, prediction = make_masks(head, seed=3)
    found = []
    for true, predicted in [(truth[..., c], prediction[..., -3 + c]) for c in (0, 1)]:
        thin, true_thin = (np.stack([skeleton(m) for m in masks]) for masks in (predicted, true))
        precision = ((thin * true).sum() + 1) / (thin.sum() + 1)
        recall = ((true_thin * predicted).sum() + 1) / (true_thin.sum() + 1)
        found.append(1 - 2 / (1 / precision + 1 / recall))
    assert value(head, {"cldice": 1}, truth, prediction) == pytest.approx(np.mean(found), rel=1e-4)


@pytest.mark.parametrize("head", ["multilabel", "multiclass"])
@pytest.mark.parametrize("term", SHAPE_TERMS)
def test_a_term_of_shape_is_zero_for_the_truth_and_without_a_defect(term, head):
    truth, prediction = make_masks(head)
    assert value(head, {term: 1}, truth, with_background(truth, head)) == pytest.approx(0, abs=1e-4)
    assert value(head, {term: 1}, truth, prediction) > 0.1
    assert value(head, {term: 1}, truth * 0, prediction) == 0


@pytest.mark.parametrize("head", ["multilabel", "multiclass"])
@pytest.mark.parametrize("term", SHAPE_TERMS)
def test_a_term_of_shape_has_a_finite_gradient_everywhere_and_falls_along_it(term, head):
    truth, prediction = make_masks(head)
    right = with_background(truth, head)
    for extreme in (right, 1 - right, right * 0, right * 0 + 1):
        assert np.isfinite(gradient(head, term, truth, extreme)).all()
        assert np.isfinite(gradient(head, term, truth * 0, extreme)).all()
    slope = gradient(head, term, truth, prediction)
    step = 1e-3 * slope / np.abs(slope).max()
    assert value(head, {term: 1}, truth, prediction - step) < value(head, {term: 1}, truth, prediction)
