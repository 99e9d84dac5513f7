"""Losses and metrics, in keras.ops only.

Truth is (N, H, W, C) in {0, 1} without background. Prediction is (N, H, W, C) of a multilabel head or
(N, H, W, 1 + C) of a multiclass head, whose channel 0 is background.
"""

import keras
from keras import ops

from defectmill.files import DefectmillError

EPSILON = 1e-6
MISSED, POWER = 0.7, 3 / 4  # focal Tversky: weight of a missed pixel (1 - it: of a false one), 1 / gamma
EDGE = 2  # pixels on either side of an edge that the boundary loss counts
THINNINGS = 4  # of the clDice loss: what is more than 10 pixels wide has no skeleton


def probability_of_truth(y_true, y_pred):
    """Predicted probability of the true class: multilabel (N, H, W, C), multiclass (N, H, W)."""
    if y_pred.shape[-1] == y_true.shape[-1]:
        p = y_true * y_pred + (1 - y_true) * (1 - y_pred)
    else:
        background = 1 - ops.sum(y_true, axis=-1, keepdims=True)
        p = ops.sum(ops.concatenate([background, y_true], axis=-1) * y_pred, axis=-1)
    return ops.clip(p, EPSILON, 1.0)


@keras.saving.register_keras_serializable(package="defectmill")
def soft_pixel_accuracy(y_true, y_pred):
    """Mean predicted probability of the true class over all pixels, background among them: a scalar.

    What FlexUNet calls dice_coef_multiclass: with one-hot truth and a softmax its denominator is twice the
    number of pixels. A prediction of background alone scores the share of background.
    """
    return ops.mean(probability_of_truth(ops.cast(y_true, y_pred.dtype), y_pred))


@keras.saving.register_keras_serializable(package="defectmill")
def batch_dice(y_true, y_pred):
    """Soft Dice of a batch, all classes and images taken as one mask, smoothed by 1: a scalar.

    The capstone's "Dice coefficient". Background does not count.
    """
    y_pred = y_pred[..., -y_true.shape[-1] :]
    both = ops.sum(y_true * y_pred)
    return (2 * both + 1) / (ops.sum(y_true) + ops.sum(y_pred) + 1)


@keras.saving.register_keras_serializable(package="defectmill")
class DefectLoss(keras.losses.Loss):
    """A weighted sum of losses.

    Cross-entropy and focal loss (Lin et al. 2017, arXiv:1708.02002, gamma 2) are means over pixels (and
    classes, multilabel). The Dice loss (Milletari et al. 2016, arXiv:1606.04797) is 1 - the mean, over the
    defect classes present in the batch, of the soft Dice of all images of the batch together; background
    does not count. The batch Dice loss is 1 - `batch_dice`: large masks outweigh small ones.

    Focal Tversky, Lovasz and clDice loss are means over the same classes, of all images together, without
    background. Boundary is the cross-entropy of the pixels within `EDGE` of an edge of a true mask, all other
    pixels left out; it is not the boundary loss of Kervadec et al. 2019, arXiv:1812.07032, which weighs
    pixels by their distance. Without a defect in the batch these four are 0, as the Dice loss is.

    Args:
        head: multilabel or multiclass.
        weights: {name of a loss, of `settings.Loss`: weight}.
    """

    def __init__(self, head: str, weights: dict, name="loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.head, self.weights = head, dict(weights)

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, y_pred.dtype)
        return sum(weight * self._term(name, y_true, y_pred) for name, weight in self.weights.items())

    def _term(self, name: str, y_true, y_pred):
        match name:
            case "dice":
                classes = y_pred[..., 1:] if self.head == "multiclass" else y_pred
                both, true, predicted = _count_pixels(y_true, classes)
                return _mean_of_present(1 - (2 * both + EPSILON) / (true + predicted + EPSILON), true)
            case "image_dice":
                classes = y_pred[..., -y_true.shape[-1] :]
                both, true, predicted = _count_pixels(y_true, classes, axis=(1, 2))
                return _mean_of_present(1 - (2 * both + EPSILON) / (true + predicted + EPSILON), true)
            case "batch_dice":
                return 1 - batch_dice(y_true, y_pred)
            case "cross_entropy" if self.head == "multilabel":
                yes, no = (ops.log(ops.clip(p, EPSILON, 1.0)) for p in (y_pred, 1 - y_pred))
                return -ops.mean(y_true * yes + (1 - y_true) * no)
            case "cross_entropy":
                return -ops.mean(ops.log(probability_of_truth(y_true, y_pred)))
            case "focal":
                p = probability_of_truth(y_true, y_pred)
                return -ops.mean(ops.square(1 - p) * ops.log(p))
            case "boundary":
                p, edge = probability_of_truth(y_true, y_pred), _near_edges(y_true)
                edge = ops.max(edge, axis=-1) if self.head == "multiclass" else edge
                return -ops.sum(edge * ops.log(p)) / ops.maximum(ops.sum(edge), 1)
            case "focal_tversky" | "lovasz" | "cldice":
                losses = {"focal_tversky": _focal_tversky, "lovasz": _lovasz, "cldice": _cldice}[name]
                present = ops.sum(y_true, axis=(0, 1, 2))
                return _mean_of_present(losses(y_true, y_pred[..., -y_true.shape[-1] :]), present)
        raise DefectmillError(f"no loss {name!r}")

    def get_config(self):
        return {**super().get_config(), "head": self.head, "weights": self.weights}


def _count_pixels(y_true, y_pred, axis=(0, 1, 2)):
    """Pixels of each class in both, in the truth, in the prediction: 3 x (C,), or (N, C) without axis 0."""
    return [ops.sum(masks, axis=axis) for masks in (y_true * y_pred, y_true, y_pred)]


def _mean_of_present(values, true):
    """Mean of (C,) or (N, C) values over those with a true pixel; 0 where there is none."""
    present = ops.cast(true > 0, values.dtype)
    return ops.sum(values * present) / ops.maximum(ops.sum(present), 1)


def _focal_tversky(y_true, y_pred):
    """1 - the Tversky index of each class, to the power 1 / gamma: (C,).

    Abraham & Khan 2018, arXiv:1810.07842. Below `EPSILON` it is flat: the root's slope at 0 is infinite.
    """
    both, true, predicted = _count_pixels(y_true, y_pred)
    wrong = MISSED * (true - both) + (1 - MISSED) * (predicted - both)
    return ops.power(ops.maximum(wrong / (both + wrong + EPSILON), EPSILON), POWER)


def _lovasz(y_true, y_pred):
    """Lovasz extension of the Jaccard loss of each class, of the errors |truth - probability|: (C,).

    Berman et al. 2018, arXiv:1705.08790: their Lovasz-softmax; in place of their hinge, a multilabel head's
    probabilities have the same errors. An error weighs what the Jaccard index loses by it, after all larger.
    """
    true, errors = (_by_class(a) for a in (y_true, ops.abs(y_true - y_pred)))
    order = ops.argsort(-errors, axis=1)
    true, errors = (ops.take_along_axis(a, order, axis=1) for a in (true, errors))
    total = ops.sum(true, axis=1, keepdims=True)
    union = total + ops.cumsum(1 - true, axis=1)
    jaccard_loss = 1 - (total - ops.cumsum(true, axis=1)) / union
    return ops.sum(errors * ops.diff(ops.pad(jaccard_loss, ((0, 0), (1, 0))), axis=1), axis=1)


def _by_class(masks):
    """(N, H, W, C) as (C, N * H * W)."""
    return ops.reshape(ops.transpose(masks, (3, 0, 1, 2)), (masks.shape[-1], -1))


def _cldice(y_true, y_pred):
    """1 - the soft centreline Dice of each class: (C,).

    Shit et al. 2021, arXiv:2003.07311: the harmonic mean of the share of the predicted skeleton that lies in
    the truth, and the share of the true skeleton that is predicted, both smoothed by 1 as theirs.
    """
    pairs = (_thin(y_pred), y_true), (_thin(y_true), y_pred)
    precision, recall = (
        (ops.sum(skeleton * masks, axis=(0, 1, 2)) + 1) / (ops.sum(skeleton, axis=(0, 1, 2)) + 1)
        for skeleton, masks in pairs
    )
    return 1 - 2 * precision * recall / (precision + recall)


def _thin(masks):
    """Soft skeleton, (N, H, W, C) in 0..1: what an opening takes from the masks, eroded 0, 1... times."""
    skeleton = ops.zeros_like(masks)
    for _ in range(THINNINGS + 1):
        eroded = -ops.maximum(_dilate(-masks, (3, 1)), _dilate(-masks, (1, 3)))
        skeleton = skeleton + (1 - skeleton) * ops.relu(masks - _dilate(eroded, 3))
        masks = eroded
    return skeleton


def _near_edges(masks):
    """Mark the pixels within `EDGE` of one inside and one outside of a mask: (N, H, W, C) in {0, 1}.

    The image's own border is no edge.
    """
    inside, outside = (_dilate(part, 2 * EDGE + 1) for part in (masks, 1 - masks))
    return inside * outside


def _dilate(masks, window: int | tuple[int, int]):
    return ops.max_pool(masks, window, strides=1, padding="same")


@keras.saving.register_keras_serializable(package="defectmill")
class ForegroundDice(keras.metrics.Metric):
    """Mean over the defect classes of the Dice of all images together; classes never seen do not count.

    A multilabel pixel has the classes above 0.5, a multiclass pixel its most probable one. A prediction of
    background alone scores 0.
    """

    def __init__(self, n_classes: int, head: str, name="foreground_dice", **kwargs):
        super().__init__(name=name, **kwargs)
        self.n_classes, self.head = n_classes, head
        self.counts = self.add_weight(shape=(3, n_classes), initializer="zeros", name="counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true > 0, "float32")
        if self.head == "multiclass":
            y_pred = ops.one_hot(ops.argmax(y_pred, axis=-1), self.n_classes + 1)[..., 1:]
        else:
            y_pred = ops.cast(y_pred > 0.5, "float32")
        self.counts.assign_add(ops.stack(_count_pixels(y_true, y_pred)))

    def result(self):
        both, true, predicted = ops.unstack(self.counts)
        return _mean_of_present(2 * both / ops.maximum(true + predicted, 1), true)

    def get_config(self):
        return {**super().get_config(), "n_classes": self.n_classes, "head": self.head}
