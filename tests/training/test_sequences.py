import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectmill import config
from defectmill.config import load_experiment
from defectmill.dataset_info import builtin_datasets
from defectmill.files import DefectmillError
from defectmill.images import write_image
from defectmill.labels import LabelError, make_label_table
from defectmill.rle import mask_to_rle
from defectmill.settings import CapstoneData, CropData, ResizeData
from defectmill.split import Split
from defectmill.training import sequences
from defectmill.training.augment import Augmenter
from defectmill.training.sequences import CapstoneSequence, DefectSequence, Pictures, ValidationSequence

LEVELS = [0, 10, 20, 30, 40]  # of the last pixel of each image
RESIZED = ResizeData(shape=(16, 18), augment="none")


def crops(**settings):
    return CropData(**{"shape": (16, 18), "augment": "none", **settings})


def show(competition, data):
    labels, images, folder = competition
    return Pictures(labels, images, folder, 2, data)


def make(competition, data=None, batch_size=2, steps=0, seed=3, epochs=1):
    return DefectSequence(show(competition, data or crops()), batch_size, seed, steps, epochs)


def validate(competition, data=None, batch_size=2, tile=None):
    return ValidationSequence(show(competition, data or crops()), batch_size, tile)


def capstone(competition, batch_size=2, epochs=1, images="all", **bugs):
    none = {"nan_masks": False, "repeat_order": False, "drop_tail": False}
    data = CapstoneData(shape=(16, 18), augment="none", images=images, **{**none, **bugs})
    return CapstoneSequence(show(competition, data), batch_size, 3, 0, epochs)


def levels_of(sequence):
    """Grey level of the last pixel of each image shown: an epoch a row."""
    levels = [int(image[-1, -1, 0]) for n in range(len(sequence)) for image in sequence[n][0]]
    return np.reshape(levels, (getattr(sequence, "epochs", 1), -1)).tolist()


def test_image_and_masks_are_shown_at_one_scale(competition):
    shown = show(competition, crops(scale=0.5))
    assert shown.read("0.png").shape == (12, 20, 1)
    masks = shown.draw("0.png")
    assert masks.shape == (12, 20, 2)
    assert masks[2:4, 3:5, 1].all()
    assert shown.read("0.png")[masks[..., 1] > 0].tolist() == [[250]] * 4


def test_a_picture_of_another_size_than_its_labels_is_refused(competition):
    folder = competition[2]
    write_image(folder / "1.png", np.zeros((40, 24), np.uint8))
    shown = show(competition, crops())
    shown.read("0.png")
    with pytest.raises(DefectmillError, match=r"1\.png: is 40 x 24 pixels, and was 24 x 40 when 02 read it"):
        shown.read("1.png")


def test_only_as_many_decoded_images_are_kept_as_there_is_room_for(competition, monkeypatch):
    monkeypatch.setattr(sequences, "CACHE", 3 * 24 * 40 + 5)
    shown = show(competition, crops())
    for image_id in shown.shapes:
        shown.read(image_id)
        shown.draw(image_id)
    assert (shown.read.cache_info().currsize, shown.draw.cache_info().currsize) == (3, 1)
    monkeypatch.setattr(sequences, "CACHE", 3)
    assert show(competition, crops()).read.cache_info().maxsize == 1


def test_a_batch_is_float32_and_channels_last(competition):
    for sequence in (make(competition), validate(competition, tile=(16, 18))):
        images, masks = sequence[0]
        assert (images.shape, images.dtype) == ((2, 16, 18, 1), np.float32)
        assert (masks.shape, masks.dtype) == ((2, 16, 18, 2), np.float32)


def test_every_image_comes_once_an_epoch_in_another_order(competition):
    sequence = make(competition, RESIZED, epochs=3)
    assert (len(sequence), sequence.steps_per_epoch) == (6, 2)
    orders = levels_of(sequence)
    assert [sorted(order) for order in orders] == [LEVELS] * 3
    assert orders[0] != orders[1] != orders[2]
    for index in (6, -1):
        with pytest.raises(IndexError):
            sequence[index]


@pytest.mark.parametrize("steps", [0, 4])
def test_a_batch_depends_on_seed_epoch_and_index_only(competition, steps):
    data = crops(augment="surface")
    one, two = (make(competition, data, steps=steps, epochs=2) for _ in range(2))
    two[len(two) - 1], two[0]
    for index in (1, one.steps_per_epoch + 1):
        np.testing.assert_array_equal(one[index][0], two[index][0])
    assert not np.array_equal(one[1][0], one[one.steps_per_epoch + 1][0])
    assert not np.array_equal(one[1][0], make(competition, data, steps=steps, seed=4)[1][0])


def test_a_sequence_may_begin_in_the_middle_and_goes_on_with_the_first_batch_at_its_end(competition):
    whole, late = (make(competition, crops(augment="surface"), steps=3, epochs=2) for _ in range(2))
    late.first = 4
    assert len(late) == len(whole) == 6
    for index, same in ((0, 4), (1, 5), (2, 0), (5, 3)):
        np.testing.assert_array_equal(late[index][0], whole[same][0])


def test_steps_fix_the_length_of_an_epoch(competition):
    sequence = make(competition, steps=7, batch_size=3)
    assert [len(sequence[i][0]) for i in range(len(sequence))] == [3] * 7


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_crops_hold_the_defect_they_were_drawn_for(competition, scale):
    sequence = make(competition, crops(defect_share=1.0, scale=scale), steps=20)
    for index in range(20):
        assert (sequence[index][1][..., 1].sum(axis=(1, 2)) > 0).all()


def test_an_epoch_of_every_image_shows_its_defects_as_often_as_asked(competition):
    for share, least, most in ((1.0, 8, 8), (0.0, 0, 2)):
        data = crops(scale=4.0, defect_share=share, images="defects")
        sequence = make(competition, data, epochs=4)
        shown = sum(int(sequence[n][1][..., 1].any(axis=(1, 2)).sum()) for n in range(len(sequence)))
        assert least <= shown <= most


@pytest.mark.parametrize(("zoom", "area"), [(0.5, 4), (1.0, 16), (2.0, 64)])
def test_zoom_scales_the_defect_and_keeps_the_shape(competition, zoom, area):
    # Half of the crops hold the whole defect of 4 x 4 pixels.
    sequence = make(competition, crops(defect_share=1.0, zoom=(zoom, zoom)), steps=10)
    areas = np.concatenate([sequence[i][1][..., 1].sum(axis=(1, 2)) for i in range(10)])
    assert sequence[0][1].shape == (2, 16, 18, 2)
    assert area / 1.6 < np.median(areas) < area * 1.6


def test_crops_without_a_defect_come_from_clean_images(competition):
    sequence = make(competition, crops(defect_share=0.0), steps=20)
    assert sum(sequence[i][1].sum() for i in range(20)) == 0


@pytest.mark.parametrize("augment", ["none", "flips", "steel", "surface"])
def test_image_and_masks_are_transformed_together(competition, augment):
    sequence = make(competition, crops(defect_share=1.0, augment=augment), steps=10)
    for index in range(10):
        images, masks = sequence[index]
        bright = images[..., 0] > 150
        # Linear against nearest interpolation: the outlines may differ by a pixel.
        assert (bright & (masks[..., 1] == 1)).sum() > 0.6 * max(bright.sum(), masks.sum())


def test_only_images_with_defects_when_asked(competition):
    assert make(competition, crops(images="defects")).image_ids == ["0.png", "1.png"]


def test_a_crop_larger_than_its_image_is_filled_by_reflection(competition):
    images, masks = make(competition, crops(shape=(64, 70), defect_share=1.0), steps=1)[0]
    assert images.shape == (2, 64, 70, 1)
    assert masks[..., 1].sum() > 2 * 16  # the reflected defects are labelled too


@pytest.fixture
def parts(tmp_path):
    """Six grey images. Class 1: four of group 7 and the fifth, alone in group 8. Class 2: one of group 7.
    The sixth is clean, of group 8."""
    rows, images = [], []
    for n, (group, classes) in enumerate([(7, "1"), (7, "1"), (7, "1"), (7, "1 2"), (8, "1"), (8, "")]):
        image, empty = np.full((48, 60), 100 + 10 * n, np.uint8), np.zeros((48, 60), np.uint8)
        for class_id in (1, 2):
            mask = empty.copy()
            if str(class_id) in classes:
                box = np.s_[20:24, 30 * class_id - 10 : 30 * class_id - 4]
                image[box], mask[box] = 30 + n, 1
            rows.append((f"{n}.png", class_id, mask_to_rle(mask)))
        write_image(tmp_path / f"{n}.png", image)
        images.append((f"{n}.png", 48, 60, classes, group))
    columns = ["ImageId", "height", "width", "classes", "group"]
    return make_label_table(rows), pd.DataFrame(images, columns=columns), tmp_path


def choices(competition, data, steps=600):
    """Share of each (image, class) among the choices of an epoch."""
    sequence = make(competition, data, batch_size=2, steps=steps)
    chosen = [sequence._choose(0, slot, np.random.default_rng([3, 0, slot])) for slot in range(2 * steps)]
    return pd.Series(chosen).value_counts(normalize=True).to_dict()


def test_a_part_counts_once_however_many_images_it_has(parts):
    shares = choices(parts, crops(balance="part", defect_share=1.0))
    # Half of the crops are for class 1, a quarter for each of its parts; class 2 has one image of group 7.
    assert shares["4.png", 1] == pytest.approx(1 / 4, abs=0.04)
    assert [shares[f"{n}.png", 1] for n in range(4)] == pytest.approx([1 / 16] * 4, abs=0.03)
    assert shares["3.png", 2] == pytest.approx(1 / 2, abs=0.01)
    assert len(shares) == 6


def test_an_image_counts_once_by_default(parts):
    shares = choices(parts, crops(defect_share=1.0))
    assert [shares[f"{n}.png", 1] for n in range(5)] == pytest.approx([1 / 10] * 5, abs=0.03)


def test_clean_crops_are_drawn_by_part_too(parts):
    labels, images, folder = parts
    clean = labels.assign(EncodedPixels="", hasMask=0)
    shares = choices((clean, images, folder), crops(balance="part"))
    assert [shares[f"{n}.png", 0] for n in (4, 5)] == pytest.approx([1 / 4] * 2, abs=0.04)
    assert [shares[f"{n}.png", 0] for n in range(4)] == pytest.approx([1 / 8] * 4, abs=0.04)


def test_an_image_without_a_group_is_a_part_of_its_own(parts):
    labels, images, folder = parts
    assert show(parts, crops()).parts == {f"{n}.png": 7 if n < 4 else 8 for n in range(6)}
    alone = show((labels, images.drop(columns="group"), folder), crops()).parts
    assert alone == {f"{n}.png": f"{n}.png" for n in range(6)}
    # As where tables of two folders, one without groups, are joined: rows are numbered twice.
    joined = pd.concat([images[:3], images[3:].drop(columns="group").set_axis([0, 1, 2])])
    assert show((labels, joined, folder), crops()).parts == {
        **{f"{n}.png": 7 for n in range(3)},
        **{f"{n}.png": f"{n}.png" for n in range(3, 6)},
    }


def test_pasted_defects_show_in_clean_crops_with_their_masks(parts):
    sequence = make(parts, crops(shape=(32, 40), defect_share=0.0, copy_paste=1.0), steps=20)
    images, masks = (np.concatenate(arrays) for arrays in zip(*(sequence[n] for n in range(20)), strict=True))
    # The clean image is brighter than all others by 10 to 50 levels, its defects darker by the same factor.
    assert (images[masks.any(axis=3)] < 60).all()
    assert (images[~masks.any(axis=3)] == 150).all()
    assert (masks.any(axis=(1, 2)).mean(axis=0) > 0.4).all()  # classes in turn
    assert masks.sum(axis=(1, 2, 3)).max() == 24


def test_a_share_of_the_crops_gets_a_defect(parts):
    for share, least, most in ((0.0, 0, 0), (0.5, 0.35, 0.65), (1.0, 0.9, 1)):
        data = crops(shape=(32, 40), defect_share=0.0, copy_paste=share)
        sequence = make(parts, data, batch_size=50, steps=4)
        pasted = np.mean([sequence[n][1].any(axis=(1, 2, 3)) for n in range(4)])
        assert least <= pasted <= most


def test_what_is_reflected_is_not_cut_out(parts, monkeypatch):
    donors = []
    monkeypatch.setattr(sequences, "cut_defect", lambda donor, *_: donors.append(donor))
    sequence = make(parts, crops(shape=(64, 90), zoom=(0.5, 0.5), copy_paste=1.0), steps=10)
    for n in range(10):
        sequence[n]
    # At half the scale, whole images: each defect of 4 x 6 pixels once.
    assert {image.shape for image, _ in donors} == {(24, 30, 1)}
    assert {int(masks.sum()) for _, masks in donors} <= {6, 12}


def test_a_defect_is_cut_out_of_a_crop_half_as_large_again(parts, monkeypatch):
    donors = []
    monkeypatch.setattr(sequences, "cut_defect", lambda donor, *_: donors.append(donor[0].shape))
    sequence = make(parts, crops(shape=(16, 20), copy_paste=1.0), steps=10)
    for n in range(10):
        sequence[n]
    assert set(donors) == {(24, 30, 1)}


def test_a_share_of_the_crops_is_mixed(parts, monkeypatch):
    mixed = []
    monkeypatch.setattr(sequences, "mix_rectangle", lambda pair, *_: mixed.append(1) or pair)
    sequence = make(parts, crops(shape=(16, 20), cutmix=0.4), steps=100)
    for n in range(100):
        sequence[n]
    assert 65 <= len(mixed) <= 95  # of 200


def test_a_class_of_one_image_is_not_pasted_into_that_image(parts):
    labels, images, folder = parts
    alone = labels[labels["ImageId"] == "3.png"], images[3:4], folder
    data = {"shape": (32, 40), "defect_share": 1.0}
    plain, mixed = (make(alone, crops(**data, copy_paste=share), steps=9) for share in (0.0, 1.0))
    for n in range(9):
        np.testing.assert_array_equal(plain[n][1], mixed[n][1])


def test_a_rectangle_comes_from_another_crop_with_its_masks(parts):
    sequence = make(parts, crops(shape=(32, 40), cutmix=1.0), steps=20)
    levels = [
        len(set(np.unique(image)) & set(range(100, 160))) for n in range(20) for image in sequence[n][0]
    ]
    assert set(levels) == {1, 2}
    for n in range(20):
        images, masks = sequence[n]
        np.testing.assert_array_equal(images < 60, masks.any(axis=3, keepdims=True))


@pytest.mark.parametrize("steps", [0, 4])
def test_mixed_crops_depend_on_seed_epoch_and_index_only(parts, steps):
    data = crops(shape=(32, 40), augment="strong", copy_paste=0.7, cutmix=0.7)
    one, two = (make(parts, data, steps=steps, epochs=2) for _ in range(2))
    two[len(two) - 1], two[0]
    for index in (1, one.steps_per_epoch + 1):
        for a, b in zip(one[index], two[index], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("augment", ["none", "strong", "crack", "flexunet"])
def test_no_crop_writes_into_the_pictures_that_are_kept(parts, augment):
    # Of the shape of the images, so that a crop may be a view of one.
    sequence = make(parts, crops(shape=(48, 60), augment=augment, copy_paste=1.0, cutmix=1.0), steps=10)
    pictures = sequence.pictures
    before = {i: (pictures.read(i).copy(), pictures.draw(i).copy()) for i in pictures.shapes}
    for n in range(10):
        sequence[n]
    for image_id, (image, masks) in before.items():
        np.testing.assert_array_equal(pictures.read(image_id), image)
        np.testing.assert_array_equal(pictures.draw(image_id), masks)


def test_no_images_is_an_error(competition):
    labels, images, folder = competition
    with pytest.raises(DefectmillError, match="no images to show; is every image clean"):
        show((labels, images[:0], folder), crops())
    with pytest.raises(DefectmillError, match="no images to show: none has a defect"):
        make((labels, images[2:], folder), crops(images="defects"))


def test_the_capstones_masks_of_absent_classes_are_minus_two_to_the_63(competition):
    right, wrong = (capstone(competition, images="defects", nan_masks=bug)[0][1] for bug in (False, True))
    assert set(np.unique(right)) == {0, 1}
    np.testing.assert_array_equal(wrong[..., 1], right[..., 1])  # class 2 is there
    assert (wrong[..., 0] == -(2.0**63)).all()  # class 1 is not


def test_the_capstone_repeats_the_order_of_its_first_epoch(competition):
    fresh, stale = (levels_of(capstone(competition, epochs=3, repeat_order=bug)) for bug in (False, True))
    assert fresh[0] != fresh[1]
    assert stale == [fresh[0]] * 3


def test_the_capstone_drops_the_last_partial_batch(competition):
    assert np.shape(levels_of(capstone(competition))) == (1, 5)
    assert np.shape(levels_of(capstone(competition, drop_tail=True))) == (1, 4)
    assert np.shape(levels_of(capstone(competition, batch_size=32, drop_tail=True))) == (1, 5)


def test_fit_sees_every_batch_in_order(competition):
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

    sequence = Witness(show(competition, CropData(shape=(16, 18))), 2, 0, 4, 3)
    inputs = keras.Input((16, 18, 1))
    same = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones")
    model = keras.Model(inputs, same(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[Sum()])
    history = model.fit(sequence, epochs=3, steps_per_epoch=4, shuffle=False, verbose=0).history
    assert history["seen"] == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7, 8 + 9 + 10 + 11]


def test_every_validation_image_comes_once(competition):
    assert sorted(levels_of(validate(competition))[0]) == LEVELS


def test_whole_images_come_in_batches_of_one_shape(competition):
    sequence = validate(competition, batch_size=8)
    shapes = [sequence[i][0].shape for i in range(len(sequence))]
    assert sorted(shapes) == [(1, 24, 33, 1), (1, 30, 20, 1), (3, 24, 40, 1)]
    # Keras takes what the first two batches share for fixed.
    assert shapes[0][1] != shapes[1][1]
    assert shapes[0][2] != shapes[1][2]


def test_of_images_of_one_height_the_first_two_batches_differ_in_width(competition):
    labels, images, folder = competition
    for name in ("0.png", "3.png"):
        write_image(folder / name, np.zeros((24, 33), np.uint8))
    narrow = images.assign(width=[33, 40, 20, 33, 40])[images["height"] == 24]
    sequence = validate((labels, narrow, folder), batch_size=1)
    assert [sequence[n][0].shape[2] for n in range(4)] == [33, 40, 33, 40]


def test_keras_knows_every_sequence(competition):
    assert [sequence.workers for sequence in (make(competition), validate(competition))] == [1, 1]


def test_tiles_cover_every_pixel_of_every_image(competition):
    sequence = validate(competition, batch_size=3, tile=(12, 20))
    batches = [sequence[n] for n in range(len(sequence))]
    assert {images.shape[1:] for images, _ in batches} == {(12, 20, 1)}
    # 24 x 40 four times (one is 24 x 33, whose tiles share columns), 30 x 20 in three.
    assert [len(images) for images, _ in batches] == [3] * 5 + [4]
    assert sum(masks[..., 1].sum() for _, masks in batches) == 2 * 16
    for images, masks in batches:
        assert (images[masks[..., 1:] > 0] == 250).all()


def test_an_image_smaller_than_a_tile_is_extended(competition):
    images, masks = validate(competition, batch_size=9, tile=(32, 48))[0]
    assert images.shape == (5, 32, 48, 1)
    assert set(np.unique(images[4])) == {40.0}
    assert masks.shape == (5, 32, 48, 2)


@pytest.mark.parametrize("tile", [None, (12, 20)])
def test_no_validation_batch_past_the_end(competition, tile):
    sequence = validate(competition, tile=tile)
    with pytest.raises(IndexError):
        sequence[len(sequence)]


def sequences_of(competition, root, n_train=3, **settings):
    labels, images, folder = competition
    if not (root / "input" / "sample").exists():
        (root / "input" / "sample").mkdir()
        (root / "input" / "sample" / "train_images").symlink_to(folder)
    small = "dataset: sample\nmodel: {widths: [4, 8], up_widths: [4]}\n"
    (root / "notebooks" / "experiments" / "e.yml").write_text(small)
    run = load_experiment("e", {"data.shape": [16, 18], "training.batch_size": 2, **settings})
    return sequences.make_sequences(
        run, Split(labels, images, images[:n_train], images[n_train:], run.input / "train_images")
    )


def test_an_experiment_has_its_training_part_and_its_validation_fold(competition, root):
    settings = {"predict.tiles.shape": [16, 20], "predict.tiles.overlap": 2, "training.steps": 4, "seed": 7}
    train, validation = sequences_of(competition, root, **settings)
    assert type(train) is DefectSequence
    assert (train.seed, train.steps_per_epoch, train.epochs) == (7, 4, 10)
    assert train.image_ids == ["0.png", "1.png", "2.png"]
    assert validation[0][0].shape == (2, 16, 20, 1)
    assert set(validation.pictures.shapes) == {"3.png", "4.png"}


def test_a_last_fit_has_epochs_of_its_own_and_may_do_without_validation(competition, root):
    last = {"training.last_fit": 4, "training.schedule.name": "cosine", "training.keep": "last"}
    for network, epochs in (("last", 4), ("fold_0", 10)):
        train, validation = sequences_of(competition, root, **last, network=network)
        assert (train.epochs, set(validation.pictures.shapes)) == (epochs, {"3.png", "4.png"})
    train, validation = sequences_of(competition, root, n_train=5, **last, network="last")
    assert (len(train.image_ids), validation) == (5, None)
    with pytest.raises(DefectmillError, match="no images to show"):
        sequences_of(competition, root, n_train=5, **last, network="fold_0")


def test_the_capstones_mode_breaks_the_training_masks_only(competition, root):
    train, validation = sequences_of(competition, root, **{"data.mode": "capstone"})
    assert type(train) is CapstoneSequence
    assert train[0][1].min() < 0
    assert validation[0][1].min() == 0


def test_a_multiclass_head_refuses_overlapping_classes_by_name(competition, root):
    labels, images, folder = competition
    overlapping = labels.assign(EncodedPixels=labels["EncodedPixels"].where(labels["ClassId"] == 2, "1 200"))
    says = r"overlap in 2 images: 0\.png \(\d+ pixels\), 1\.png .*set model\.head=multilabel"
    with pytest.raises(LabelError, match=says):
        sequences_of((overlapping, images, folder), root, **{"model.head": "multiclass"})
    sequences_of((overlapping, images, folder), root, **{"model.head": "multilabel"})


def test_the_images_are_put_in_order_once_an_epoch(competition, monkeypatch):
    drawn, order = [], DefectSequence._order
    monkeypatch.setattr(
        DefectSequence, "_order", lambda self, epoch: drawn.append(epoch) or order(self, epoch)
    )
    sequence = make(competition, RESIZED, epochs=3)
    ids = [
        sequence._choose(epoch, slot, np.random.default_rng(0))[0] for epoch in range(3) for slot in range(5)
    ]
    assert drawn == [0, 1, 2]
    expected = (np.random.default_rng([3, epoch]).permutation(5) for epoch in range(3))
    assert ids == [f"{n}.png" for n in np.concatenate([*expected])]


def test_a_defect_stands_anywhere_within_a_third_of_the_middle_of_its_crop(tmp_path):
    image, mask = np.zeros((90, 120), np.uint8), np.zeros((90, 120), np.uint8)
    mask[40, 70] = 1
    write_image(tmp_path / "a.png", image)
    labels = make_label_table([("a.png", 1, mask_to_rle(mask))])
    images = pd.DataFrame({"ImageId": ["a.png"], "height": 90, "width": 120})
    pictures = Pictures(labels, images, tmp_path, 1, crops(defect_share=1.0, shape=(24, 30)))
    sequence = DefectSequence(pictures, 1, 0, 150, 1)
    places = np.array([np.argwhere(sequence[n][1][0, :, :, 0])[0] for n in range(150)])
    for found, side in zip(places.T, (24, 30), strict=True):
        assert side / 6 - 1 <= found.min() < side / 6 + 2
        assert 5 * side / 6 - 3 < found.max() <= 5 * side / 6
        assert abs(found.mean() - side / 2) < side / 12
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.2


def test_a_crop_without_a_defect_is_from_anywhere(tmp_path):
    rows, columns = np.mgrid[:90, :120].astype(np.uint8)
    write_image(tmp_path / "a.png", np.stack([rows, columns, 0 * rows], 2))
    images = pd.DataFrame({"ImageId": ["a.png"], "height": 90, "width": 120})
    data = crops(shape=(24, 30), channels=3)
    pictures = Pictures(make_label_table([("a.png", 1, "")]), images, tmp_path, 1, data)
    sequence = DefectSequence(pictures, 1, 0, 150, 1)
    tops, lefts = np.array([sequence[n][0][0, 0, 0, :2] for n in range(150)]).T
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 90 - 24, 0, 120 - 30)
    assert abs(tops.mean() - 33) < 6
    assert abs(lefts.mean() - 45) < 6
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.2


def test_each_crop_is_augmented_by_a_seed_of_its_own(competition, monkeypatch):
    seeds = []
    monkeypatch.setattr(Augmenter, "__call__", lambda _, *pair: seeds.append(pair[2]) or pair[:2])
    sequence = make(competition, steps=200)
    for index in range(200):
        sequence[index]
    assert len(set(seeds)) == 400


def test_the_bits_of_the_camera_count_in_training_and_validation(competition, root, monkeypatch):
    info = builtin_datasets()["sample"].model_copy(update={"bits": 12})
    monkeypatch.setattr(config, "load_dataset_info", lambda _: info)
    train, validation = sequences_of(competition, root)
    for sequence in (train, validation):
        name = next(iter(sequence.pictures.shapes))
        shape = sequence.pictures.shapes[name]
        Image.fromarray(np.full(shape, 255, np.uint16)).save(competition[2] / name)
        assert sequence.pictures.read(name).max() == 255 >> 4
    Image.fromarray(np.full((24, 40), 255, np.uint16)).save(competition[2] / "0.png")
    assert show(competition, crops()).read("0.png").max() == 255  # 0: as many as it needs
