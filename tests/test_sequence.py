import numpy as np
import pytest

from defectmill.knobs import DataKnobs
from defectmill.pictures import Pictures
from defectmill.sequence import DefectSequence

N = 5  # pictures of the competition


def show(competition, **knobs):
    labels, images, folder = competition
    return Pictures(labels, images, folder, 2, DataKnobs(**knobs))


def make(competition, batch_size=2, steps=0, seed=3, epochs=1, **knobs):
    pictures = show(competition, **{"shape": (16, 18), "augment": "none", **knobs})
    return DefectSequence(pictures, batch_size, seed, steps, epochs)


def test_a_batch_is_float32_and_channels_last(competition):
    images, masks = make(competition)[0]
    assert (images.shape, images.dtype) == ((2, 16, 18, 1), np.float32)
    assert (masks.shape, masks.dtype) == ((2, 16, 18, 2), np.float32)


def test_the_last_partial_batch_is_kept(competition):
    sequence = make(competition)
    assert sum(len(sequence[i][0]) for i in range(len(sequence))) == N


def test_every_image_comes_once_an_epoch(competition):
    sequence = make(competition, mode="resize")
    # The grey level of the last row tells the picture.
    seen = [int(image[-1, -1, 0]) for i in range(len(sequence)) for image in sequence[i][0]]
    assert sorted(seen) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("steps", [0, 4])
def test_a_batch_depends_on_seed_epoch_and_index_only(competition, steps):
    one, two = (make(competition, steps=steps, augment="surface", epochs=2) for _ in range(2))
    two[len(two) - 1], two[0]
    for index in (1, one.steps_per_epoch + 1):
        np.testing.assert_array_equal(one[index][0], two[index][0])
    assert not np.array_equal(one[1][0], one[one.steps_per_epoch + 1][0])
    assert not np.array_equal(one[1][0], make(competition, steps=steps, seed=4)[1][0])


def test_epochs_stand_one_after_the_other(competition):
    sequence = make(competition, epochs=3, mode="resize")
    assert (len(sequence), sequence.steps_per_epoch) == (6, 2)
    orders = []
    for epoch in range(3):
        shown = [sequence[2 * epoch + step][0] for step in range(2)]
        orders.append([int(image[-1, -1, 0]) for batch in shown for image in batch])
        assert sorted(orders[-1]) == [0, 10, 20, 30, 40]
    assert orders[0] != orders[1] != orders[2]
    with pytest.raises(IndexError):
        sequence[6]


def test_steps_fix_the_length_of_an_epoch(competition):
    sequence = make(competition, steps=7, batch_size=3)
    assert len(sequence) == 7
    assert [len(sequence[i][0]) for i in range(7)] == [3] * 7


def test_crops_hold_the_defect_they_were_drawn_for(competition):
    sequence = make(competition, steps=20, defect_share=1.0)
    for index in range(20):
        _, masks = sequence[index]
        assert (masks[..., 1].sum(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize(("zoom", "area"), [(0.5, 4), (1.0, 16), (2.0, 64)])
def test_zoom_scales_the_defect_and_keeps_the_shape(competition, zoom, area):
    # Half of the crops hold the whole defect of 4 x 4 pixels.
    sequence = make(competition, steps=10, defect_share=1.0, zoom=[zoom, zoom])
    areas = np.concatenate([sequence[i][1][..., 1].sum(axis=(1, 2)) for i in range(10)])
    assert sequence[0][1].shape == (2, 16, 18, 2)
    assert area / 1.6 < np.median(areas) < area * 1.6


def test_crops_without_a_defect_come_from_clean_images(competition):
    sequence = make(competition, steps=20, defect_share=0.0)
    assert sum(sequence[i][1].sum() for i in range(20)) == 0


@pytest.mark.parametrize("augment", ["none", "flips", "steel", "surface"])
def test_image_and_mask_move_together(competition, augment):
    sequence = make(competition, steps=10, defect_share=1.0, augment=augment)
    for index in range(10):
        images, masks = sequence[index]
        bright = images[..., 0] > 150
        # Linear against nearest interpolation: the outlines may differ by a pixel.
        assert (bright & (masks[..., 1] == 1)).sum() > 0.6 * max(bright.sum(), masks.sum())


def test_the_capstones_bugs_are_off_and_do_what_they_are_called(competition):
    whole = {"mode": "resize", "images": "defects"}
    masks = make(competition, **whole)[0][1]
    broken = make(competition, nan_masks=True, **whole)[0][1]
    assert set(np.unique(masks)) == {0, 1}
    np.testing.assert_array_equal(broken[..., 1], masks[..., 1])  # class 2 is there
    assert (broken[..., 0] == -(2.0**63)).all()  # class 1 is not

    def order(sequence):
        levels = [int(i[-1, -1, 0]) for n in range(len(sequence)) for i in sequence[n][0]]
        return np.reshape(levels, (sequence.epochs, -1)).tolist()

    fresh, stale = (order(make(competition, mode="resize", epochs=3, repeat_order=repeats))
                    for repeats in (False, True))  # fmt: skip
    assert fresh[0] != fresh[1]
    assert stale[0] == stale[1] == stale[2] == fresh[0]
    short = make(competition, mode="resize", drop_tail=True)
    assert sum(len(short[n][0]) for n in range(len(short))) == 4
    assert len(make(competition, batch_size=32, drop_tail=True)[0][0]) == 5


def test_only_images_with_defects_when_asked(competition):
    sequence = make(competition, images="defects")
    assert sequence.image_ids == ["0.png", "1.png"]


def test_a_crop_larger_than_its_picture_is_filled_by_reflection(competition):
    images, masks = make(competition, shape=(64, 70), defect_share=1.0, steps=1)[0]
    assert images.shape == (2, 64, 70, 1)
    assert masks[..., 1].sum() > 2 * 16  # the reflected defects are labelled too


def test_no_images_is_an_error(competition):
    labels, images, folder = competition
    with pytest.raises(ValueError, match="no images"):
        DefectSequence(show((labels, images[2:], folder), images="defects"), 2)


def test_fit_sees_every_batch_in_order(competition):
    import keras

    class Witness(DefectSequence):
        """Marks each batch with its index."""

        def __getitem__(self, index):
            images, masks = super().__getitem__(index)
            return np.full_like(images, index), masks

    class Sum(keras.metrics.Metric):
        """Adds up the indexes seen in an epoch."""

        def __init__(self):
            super().__init__(name="seen")
            self.total = self.add_weight(shape=(), initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign_add(y_pred[0, 0, 0, 0])

        def result(self):
            return self.total

    sequence = Witness(show(competition, shape=(16, 18)), 2, steps=4, epochs=3)
    inputs = keras.Input((16, 18, 1))
    same = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones")
    model = keras.Model(inputs, same(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[Sum()])
    seen = model.fit(
        sequence, epochs=3, steps_per_epoch=4, shuffle=False, verbose=0
    ).history["seen"]  # fmt: skip
    assert seen == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7, 8 + 9 + 10 + 11]
