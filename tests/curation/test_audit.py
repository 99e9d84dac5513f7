"""The audit finds each fault that was planted, with its file names, and nothing else."""

import shutil

import numpy as np
import pytest

from defectmill.config import Experiment
from defectmill.curation.audit import (
    audit_labels,
    dice_between,
    label_noise_bound,
    share_table,
    shorten_names,
)
from defectmill.curation.duplicates import scan_images
from defectmill.dataset_info import Published
from defectmill.images import ImageError, list_images, write_image
from defectmill.labels import make_image_table, make_label_table, read_labels
from defectmill.rle import mask_to_rle
from defectmill.scores import dice_from_counts
from defectmill.submission import SubmissionError
from fake_competition import make_info

FILES = "files without a row in train.csv"
GONE = "images of train.csv without a file"
EMPTY = "rows of train.csv without runs"
SUFFIX = "suffix and content differ"
BLANK = "all pixels of one value"
SIZES = "sizes that differ from the commonest"
OVERLAPS = "classes overlap"
COPIES = "same bytes as another training image"
TEST_COPIES = "same bytes as another test image"
LEAKED = "test images with the bytes of a training image"
CONTRADICTIONS = "same bytes, different labels"
REUSED = "same labels, different bytes"
GROUPS = "near-duplicates or images of a part that has others"
SIMILAR = "test images similar to a training image"
RARE = "classes with fewer groups than folds"
WORDS = "rows of train.csv with a word for no runs"
JOINED = "rows of train.csv of one image and class"
OTHERS = "files that are no images"
BELOW = "images in sub-folders"
UNASKED = "test images that sample_submission.csv lacks"
DEEP, TURNED = "more than 8 bits a channel", "orientation tag"
GOOD = ["0.png,1,1 3", "1.png,1,1 4", "1.png,2,6 2", "2.png,2,45 1", "3.png,2,45 1"]


def texture(seed: int, shape=(5, 9)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def audit(root):
    """Audit four training images of 5 x 9 and two test images: {finding: (count, names)}."""
    folder = root / "input" / "fake"
    for part, numbers in (("train", range(4)), ("test", (10, 11))):
        (folder / f"{part}_images").mkdir(parents=True)
        for n in numbers:
            write_image(folder / f"{part}_images" / f"{n}.png", texture(n))
    # 3.png has the label of 2.png, but another size.
    write_image(folder / "train_images" / "3.png", texture(3, (9, 5)))

    def run(*rows: str, groups: list[int] | None = None, n_folds: int = 2, info=None) -> dict:
        (folder / "train.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *rows]))
        train, test = (scan_images(part, list_images(part)) for part in (run.train, run.test))
        labels = read_labels(folder / "train.csv", train.table["ImageId"], 2, partial=True)
        images = make_image_table(labels, train.table)
        images["group"] = range(len(images)) if groups is None else groups
        settings = {"name": "fake", "dataset": "fake", "labels": {"n_folds": n_folds}}
        experiment = Experiment(**settings, info=info or make_info())
        run.table, run.details = audit_labels(experiment, labels, images, train, test)
        run.meanings = dict(zip(run.table["finding"], run.table["meaning"], strict=True))
        return {what: (n, names) for what, n, _, names in run.table.itertuples(index=False)}

    run.folder, run.train, run.test = folder, folder / "train_images", folder / "test_images"
    return run


def rows_of(audit, finding: str) -> list[tuple]:
    """(part, ImageId, value, duplicate) of a finding."""
    named = audit.details[audit.details["finding"] == finding]
    return list(named.drop(columns="finding").itertuples(index=False, name=None))


def test_what_was_looked_for_and_not_found_stays_with_0(audit):
    found = audit(*GOOD)
    assert found.pop(SIZES) == (1, "3.png")
    looked_for = [FILES, GONE, EMPTY, SUFFIX, BLANK, OVERLAPS, COPIES, TEST_COPIES, LEAKED, CONTRADICTIONS]
    looked_for += [WORDS, JOINED, OTHERS, BELOW, UNASKED, DEEP, TURNED]
    assert found == dict.fromkeys([*looked_for, REUSED, GROUPS, SIMILAR, RARE], (0, ""))


def test_files_without_a_row_and_rows_without_a_file_or_runs_are_named(audit):
    found = audit(*GOOD[:3], "3.png,1,", "gone.png,1,1 3", "0.png,2,")
    assert (found[FILES], found[GONE]) == ((1, "2.png"), (1, "gone.png"))
    assert found[EMPTY] == (2, "3.png / 0.png")
    assert "in 2 images" in audit.meanings[EMPTY]


def test_png_bytes_named_jpg_are_found_in_both_parts(audit):
    (audit.train / "0.png").rename(audit.train / "0.jpg")
    (audit.test / "11.png").rename(audit.test / "11.jpg")
    assert audit(*GOOD[1:])[SUFFIX] == (2, "0.jpg / test_images/11.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp", ".png"])
def test_honest_suffix_is_no_finding(audit, suffix):
    write_image(audit.train / f"9{suffix}", texture(9))
    assert audit(*GOOD)[SUFFIX] == (0, "")


def test_image_of_one_value_is_found(audit):
    write_image(audit.train / "4.png", np.zeros((5, 9), np.uint8))
    write_image(audit.test / "12.png", np.full((5, 9), 7, np.uint8))
    assert audit(*GOOD)[BLANK] == (2, "4.png / test_images/12.png")


def test_odd_size_is_told_with_its_value(audit):
    audit(*GOOD)
    assert rows_of(audit, SIZES) == [("train", "3.png", "9 x 5", "")]
    assert audit.meanings[SIZES].startswith("5 x 9 is the commonest")


def test_classes_that_share_pixels_are_found_in_the_solution_too(audit):
    solution = "ImageId,ClassId,EncodedPixels\n10.png,1,1 4\n10.png,2,2 9\n11.png,1,\n"
    (audit.folder / "solution.csv").write_text(solution)
    found = audit(*GOOD, "0.png,2,3 1")
    assert found[OVERLAPS] == (2, "0.png / test_images/10.png")
    assert [row[2] for row in rows_of(audit, OVERLAPS)] == [1, 3]


def test_copies_with_the_same_labels_do_not_contradict(audit):
    for name in ("4.png", "5.png"):
        shutil.copy(audit.train / "0.png", audit.train / name)
    found = audit(*GOOD, "4.png,1,1 3", "5.png,1,1 3")
    assert found[COPIES] == (3, "0.png / 4.png / 5.png")
    assert [row[3] for row in rows_of(audit, COPIES)] == ["4.png", "5.png", "0.png"]
    assert found[CONTRADICTIONS] == (0, "")
    assert found[REUSED] == (0, "")


@pytest.mark.parametrize(
    ("other", "dice", "best"),
    [("4.png,1,1 4", 0.8571, 0.9643), ("4.png,2,1 3", 0, 0.5), ("4.png,1,", 0, 0.75)],
)
def test_copies_with_other_labels_contradict_and_bound_the_score(audit, other, dice, best):
    shutil.copy(audit.train / "0.png", audit.train / "4.png")
    assert audit(*GOOD, other)[CONTRADICTIONS] == (2, "0.png / 4.png")
    expected = [("train", "0.png", dice, "4.png"), ("train", "4.png", dice, "0.png")]
    assert rows_of(audit, CONTRADICTIONS) == expected
    meaning = audit.meanings[CONTRADICTIONS]
    assert f"no model scores above {best:.4f} on these" in meaning
    # Two of the five labelled images are bounded.
    assert float(meaning.split("above ")[2].split(" ")[0]) == pytest.approx(1 - 2 / 5 * (1 - best), abs=1e-4)


def test_labels_used_twice_are_found_and_clean_or_augmented_images_are_not(audit):
    for name, seed in (("4.png", 4), ("5.png", 5), ("6.png", 6), ("sharp__0.png.png", 7)):
        write_image(audit.train / name, texture(seed))
    write_image(audit.train / "7.png", texture(8, (6, 9)))  # other pixels have these numbers there
    labels = [f"{n}.png,{row}" for n in (4, 7) for row in ("1,1 4", "2,6 2")]
    found = audit(*GOOD, *labels, "sharp__0.png.png,1,1 3")
    assert found[REUSED] == (2, "1.png / 4.png")
    assert rows_of(audit, REUSED)[0] == ("train", "1.png", 1, "4.png")


def test_test_image_that_was_trained_on_is_found(audit):
    shutil.copy(audit.train / "1.png", audit.test / "12.png")
    write_image(audit.test / "13.png", (texture(2) * 0.8 + 20).astype(np.uint8))
    shutil.copy(audit.test / "10.png", audit.test / "14.png")
    found = audit(*GOOD)
    assert found[LEAKED] == (1, "test_images/12.png")
    assert rows_of(audit, LEAKED) == [("test", "12.png", 1, "1.png")]
    assert found[SIMILAR] == (2, "test_images/12.png / test_images/13.png")
    assert [row[3] for row in rows_of(audit, SIMILAR)] == ["1.png", "2.png"]
    assert found[TEST_COPIES] == (2, "test_images/10.png / test_images/14.png")
    assert found[COPIES] == (0, "")


def test_empty_test_part_has_no_findings(audit):
    for path in audit.test.iterdir():
        path.unlink()
    found = audit(*GOOD)
    assert [found[what] for what in (LEAKED, SIMILAR, TEST_COPIES)] == [(0, "")] * 3


def test_groups_of_several_and_classes_with_fewer_groups_than_folds_are_counted(audit):
    found = audit(*GOOD, groups=[0, 1, 0, 2], n_folds=3)
    assert found[GROUPS] == (2, "0.png / 2.png")
    assert found["class 1: fewer groups than folds"] == (2, "0.png / 1.png")
    found = audit(*GOOD, groups=[0, 0, 1, 2], n_folds=3)
    assert found["class 1: fewer groups than folds"] == (1, "0.png / 1.png")
    assert "class 2: fewer groups than folds" not in found
    assert RARE not in found


def test_class_that_nobody_has_is_found(audit):
    found = audit("0.png,1,1 3", "1.png,1,2 1")
    assert found["class 2: not in the training part"] == (1, "")
    assert "no image shows bar 2" in audit.meanings["class 2: not in the training part"]
    assert "class 2: fewer groups than folds" not in found


def test_rows_of_one_class_and_words_for_no_runs_are_counted(audit):
    found = audit(
        *GOOD, "1.png,1,9 1", "1.png,1,12 1", "0.png,2,-1", "3.png,1,NaN", "3.png,1,", "gone.png,1,-1"
    )
    assert found[JOINED] == (5, "1.png / 3.png")
    assert [row[:3] for row in rows_of(audit, JOINED)] == [("train", "1.png", 3), ("train", "3.png", 2)]
    assert found[WORDS] == (3, "0.png / 3.png / gone.png")
    assert found[EMPTY] == (4, "0.png / 3.png / gone.png")


def test_names_of_train_csv_are_those_of_the_files(audit):
    rows = [row.replace(".png", "") for row in GOOD]
    assert audit(*rows)[FILES] == audit(*rows)[GONE] == (0, "")


def test_files_that_no_step_reads_are_found(audit):
    (audit.train / "lot 7").mkdir()
    shutil.copy(audit.train / "0.png", audit.train / "lot 7" / "4.png")
    for path in (audit.train / "5.heic", audit.test / "notes.txt", audit.train / "._0.png"):
        path.touch()
    found = audit(*GOOD)
    assert found[BELOW] == (1, "lot 7/4.png")
    assert found[OTHERS] == (2, "5.heic / test_images/notes.txt")
    assert rows_of(audit, OTHERS)[0] == ("train", "5.heic", ".heic", "")


def test_test_images_that_the_sample_lacks_are_found_and_its_images_must_be_there(audit):
    sample = audit.folder / "sample_submission.csv"
    sample.write_text("ImageId_ClassId,EncodedPixels\n11_1,1 1\n11_2,1 1\n")
    assert audit(*GOOD)[UNASKED] == (1, "test_images/10.png")
    sample.write_text("ImageId_ClassId,EncodedPixels\n12.png_1,1 1\n")
    with pytest.raises(SubmissionError, match=r"row 2: test_images has no '12\.png'"):
        audit(*GOOD)


def test_an_image_may_have_the_name_of_a_test_image(audit):
    write_image(audit.test / "0.png", texture(20))
    (audit.folder / "solution.csv").write_text(
        "ImageId,ClassId,EncodedPixels\n0.png,1,1 3\n10.png,2,5 1\n11.png,2,5 1\n"
    )
    found = audit(*GOOD)
    assert (found[COPIES], found[LEAKED]) == ((0, ""), (0, ""))
    assert rows_of(audit, REUSED)[:2] == [("train", "0.png", 1, "0.png"), ("test", "0.png", 1, "0.png")]


def test_what_the_adapter_saw_stands_there_with_its_zeros(audit):
    specks = "".join(f'"specks, rubbed out",{row}\n' for row in ("1.png,5", "10.png,2", "left.png,1"))
    (audit.folder / "issues.csv").write_text(f'finding,ImageId,value\n{specks}"holes, filled",,0\n')
    found = audit(*GOOD)
    assert found["specks"] == (3, "1.png / test_images/10.png / left.png")
    assert found["holes"] == (0, "")
    assert audit.meanings["specks"] == "rubbed out"
    expected = [("train", "1.png", 5, ""), ("test", "10.png", 2, ""), ("", "left.png", 1, "")]
    assert rows_of(audit, "specks") == expected


def test_five_names_are_shown_and_all_are_kept(audit):
    for n in range(4, 9):
        shutil.copy(audit.train / "0.png", audit.train / f"{n} a.png")
    names = "0.png / 4 a.png / 5 a.png / 6 a.png / 7 a.png"
    assert audit(*GOOD)[COPIES] == (6, f"{names} / 8 a.png")
    shown = shorten_names(audit.table).set_index("finding")["images"]
    assert shown[COPIES] == f"{names} / ..."
    assert shown[SIZES] == "3.png"


def test_part_of_a_published_set_is_compared_with_the_whole(audit):
    whole = Published(images=100, masks=(30, 40), by_classes=(40, 55, 5))
    info = make_info().model_copy(update={"published": whole})
    many = [f"{n}.png,{c},{n + 1} 1" for n in range(4) for c in (1, 2)]
    found = audit(*many, info=info)
    lacking = "published images that train.csv lacks"
    assert found[lacking] == (96, "")
    assert "masks by class: 4 of 30, 4 of 40" in audit.meanings[lacking]
    several = "images with several classes, more than published"
    assert found[several] == (4, "0.png / 1.png / 2.png / 3.png")
    assert "(100.0%); published 8.3% of 60: no random part" in audit.meanings[several]
    assert audit(*GOOD, info=info)[several] == (0, "")


def test_bound_of_two_labels_is_the_score_of_the_best_of_all_predictions():
    rng = np.random.default_rng(0)
    predictions = np.array([[n >> k & 1 for k in range(6)] for n in range(64)])
    for _ in range(40):
        pair = rng.integers(0, 2, (2, 6)) * rng.integers(0, 2, (2, 1))
        scores = [
            np.mean([dice_from_counts((a & p).sum(), p.sum(), a.sum()) for p in pair]) for a in predictions
        ]
        labels = [{1: mask_to_rle(p.reshape(2, 3))} for p in pair]
        assert label_noise_bound(labels, 1) == pytest.approx(max(scores))
        assert label_noise_bound(labels, 2) == pytest.approx((max(scores) + 1) / 2)
        # Three copies: the mean over their pairs, of which one agrees.
        assert label_noise_bound([labels[0], *labels], 1) == pytest.approx((1 + 2 * max(scores)) / 3)


def test_dice_between_labels_is_the_mean_over_the_classes_there_are():
    assert dice_between({1: "1 3", 3: "9 1"}, {1: "1 4"}) == pytest.approx((6 / 7 + 0) / 2)
    assert dice_between({}, {}) == 1


def test_shares_are_of_the_whole_image_and_need_its_size(tmp_path):
    info = make_info()
    table = make_label_table(
        [("a.png", 1, "1 12"), ("a.png", 2, ""), ("b.png", 1, "1 900 999 1"), ("b.png", 2, "")]
    )
    write_image(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    shares = share_table(table[:2], tmp_path, info)
    assert shares.to_dict("records") == [
        {"ImageId": "a.png", "num_total_masks": 1, "defect_0": 0.5, "defect_1": 0}
    ]
    with pytest.raises(ImageError, match=r"b\.png"):
        share_table(table, tmp_path, info)
    promised = share_table(table, tmp_path, info.model_copy(update={"shape": (30, 40)}))
    assert promised["defect_0"].tolist() == [0.01, 901 / 1200]
