import keras
import numpy as np
import pytest
from keras import ops

from defectmill.files import DefectmillError
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
