"""Comparisons of runs, on counts and tables written by hand."""

import numpy as np
import pytest

from defectmill.__main__ import main
from defectmill.config import ConfigError, load_experiment
from defectmill.dataset_info import ALL_CLASSES
from defectmill.evaluation.compare import compare_counts, compare_runs, print_comparison
from defectmill.evaluation.counts import PixelCounts
from defectmill.evaluation.metrics import compute_metrics, pick
from defectmill.files import DefectmillError
from fake_competition import write_fake_competition

NAMES = ["dot", "bar"]


def random_counts(seed, n=12):
    """Counts of n images in which the truth is the same whatever the seed."""
    truth = np.random.default_rng(99).integers(0, 3, (n, 2)) * 10
    predicted = np.random.default_rng(seed).integers(0, 20, (n, 2))
    both = np.minimum(truth, predicted) // 2
    return np.stack([both, truth, predicted], axis=-1)


def rows_of(table):
    return table.set_index(["class", "metric"])


def test_sides_are_what_the_metrics_say_and_differences_are_b_less_a():
    a, b = random_counts(1), random_counts(2)
    table = compare_counts([a], [b], np.arange(12), NAMES)
    assert table.columns.tolist() == ["class", "metric", "A", "B", "difference", "low", "high", "verdict"]
    keys = [(ALL_CLASSES, "score"), *((name, "micro_dice") for name in (ALL_CLASSES, *NAMES))]
    assert list(zip(table["class"], table["metric"], strict=True)) == keys
    for side, counts in (("A", a), ("B", b)):
        measured = compute_metrics(PixelCounts([], counts, np.zeros(0)), np.arange(12), NAMES)
        assert table[side].tolist() == [pick(measured, metric, of)["value"] for of, metric in keys]
    np.testing.assert_array_equal(table["difference"], table["B"] - table["A"])


def test_a_small_gain_on_every_image_is_shown_though_the_images_differ_much():
    truth = np.full((30, 1), 100)
    both = np.arange(30)[:, None] * 3
    a, b = (np.stack([both + more, truth, truth], axis=-1) for more in (0, 1))
    table = rows_of(compare_counts([a], [b], np.arange(30), ["dot"]))
    assert table["verdict"].unique().tolist() == ["B better"]
    np.testing.assert_allclose(table[["difference", "low", "high"]], 0.01)
    turned = compare_counts([b], [a], np.arange(30), ["dot"])
    assert turned["verdict"].unique().tolist() == ["A better"]


def test_a_gain_on_one_group_of_two_is_not_shown():
    truth = np.full((20, 1), 10)
    a, b = (np.stack([np.repeat(k, 10)[:, None], truth, truth], axis=-1) for k in ((5, 5), (10, 4)))
    by_image = rows_of(compare_counts([a], [b], np.arange(20), ["dot"])).loc[(ALL_CLASSES, "score")]
    by_group = rows_of(compare_counts([a], [b], np.repeat([7, 3], 10), ["dot"])).loc[(ALL_CLASSES, "score")]
    assert by_image["verdict"] == "B better"
    assert by_group["verdict"] == "no difference shown"
    # A draw takes either group twice, or both.
    np.testing.assert_allclose(by_group[["difference", "low", "high"]].astype(float), [0.2, -0.1, 0.5])
    alone = compare_counts([a], [b], np.zeros(20), ["dot"])
    assert alone["low"].isna().all()
    assert alone["verdict"].unique().tolist() == ["no difference shown"]


def test_the_same_run_on_both_sides_never_differs():
    table = compare_counts([random_counts(1)], [random_counts(1)], np.arange(12) // 2, NAMES)
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert table["verdict"].unique().tolist() == ["no difference shown"]


def test_seeds_of_a_side_are_averaged_image_by_image():
    # A clean image in which one seed of two raises an alarm: Dice 1 and 0, on average a half.
    silent, alarm = (np.array([[[0, 0, n]], [[5, 10, 10]]]) for n in (0, 4))
    table = rows_of(compare_counts([silent, alarm], [silent], [0, 1], ["dot"]))
    assert table.loc[(ALL_CLASSES, "score"), "A"] == (0.5 + 0.5) / 2
    assert table.loc[("dot", "micro_dice"), "A"] == pytest.approx(2 * 5 / (10 + 10 + 2))
    assert table.loc[(ALL_CLASSES, "score"), "B"] == (1 + 0.5) / 2


def test_a_class_that_is_nowhere_is_not_compared():
    counts = np.pad(random_counts(1)[:, :1], [(0, 0), (0, 1), (0, 0)])
    row = rows_of(compare_counts([counts], [counts], np.arange(12), NAMES)).loc[("bar", "micro_dice")]
    assert row[["A", "B", "difference", "low", "high"]].isna().all()
    assert row["verdict"] == "no difference shown"


def test_runs_of_other_images_or_labels_and_empty_sides_are_refused():
    a, b = random_counts(1), random_counts(2)
    with pytest.raises(DefectmillError, match="same images"):
        compare_counts([a], [b[:5]], np.arange(12), NAMES)
    b[3, 1, 1] += 1
    with pytest.raises(DefectmillError, match="same labels"):
        compare_counts([a], [b], np.arange(12), NAMES)
    for sides in (([], [a]), ([a], []), ([], [])):
        with pytest.raises(DefectmillError, match="nothing to compare"):
            compare_counts(*sides, np.arange(12), NAMES)


@pytest.fixture
def project(root):
    """Experiments x, y and z of three drawn images of 2 x 5 pixels in two groups; y finds more than x."""
    info = write_fake_competition(root / "input" / "fake", n_train=1, n_test=1, solution=False)
    assert info.n_classes == 2
    masks = {"x": ("1 2", "", "3 1"), "y": ("1 4", "", "3 1"), "z": ("1 4", "9 1", "3 1")}
    for name, runs in masks.items():
        (root / "notebooks" / "experiments" / f"{name}.yml").write_text("dataset: fake\n")
        folder = root / "output" / name
        folder.mkdir(parents=True)
        tables = {"labels": ("1 4", "", "3 1"), "validation": runs}
        for table, cells in tables.items():
            lines = [f"{i}.png_1,{run}\n{i}.png_2,\n" for i, run in zip("abc", cells, strict=True)]
            (folder / f"{table}.csv").write_text("ImageId_ClassId,EncodedPixels\n" + "".join(lines))
        rows = "".join(f"{i}.png,2,5,,{group},0\n" for i, group in zip("abc", (4, 4, 9), strict=True))
        (folder / "images.csv").write_text(f"ImageId,height,width,classes,group,fold\n{rows}")
    return root


def compare_named(a, b):
    return compare_runs(*([load_experiment(name) for name in side] for side in (a, b)))


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_runs_are_compared_on_the_images_that_all_predicted(project):
    ((title, table),) = compare_named(["x"], ["y", "z"]).items()
    assert title == "validation images: 3, groups: 2"
    score = rows_of(table).loc[(ALL_CLASSES, "score")]
    assert score["A"] == pytest.approx((2 / 3 + 1 + 1 + 3) / 6)
    assert score["B"] == pytest.approx((1 + 5 / 6) / 2)
    replace(project / "output/z/validation.csv", "c.png_1,3 1\nc.png_2,\n", "")
    assert list(compare_named(["x"], ["y", "z"])) == ["validation images: 2, groups: 1"]


def test_the_test_part_is_compared_where_there_is_a_solution_and_every_submission(project):
    head = "ImageId_ClassId,EncodedPixels\n"
    (project / "input/fake/solution.csv").write_text(f"{head}p.png_1,1 4\nq.png_2,2 2\n")  # r and s are clean
    rows = [f"{i}.png_1,{'1 2' * (i == 'p')}\n{i}.png_2,{'2 2' * (i in 'qr')}\n" for i in "pqrs"]
    (project / "submissions").mkdir()
    (project / "submissions/x.csv").write_text(head + "".join(rows))
    assert len(compare_named(["x"], ["y"])) == 1
    (project / "submissions/y.csv").write_text(head + "".join(rows[::-1]).replace("1 2", "1 4"))
    groups = "ImageId,height,width,classes,group\nq.png,2,5,,1\ns.png,2,5,,2\np.png,2,5,,7\nr.png,2,5,,1\n"
    (project / "output/x/test_images.csv").write_text(groups)
    compared = compare_named(["x"], ["y"])
    assert list(compared) == ["validation images: 3, groups: 2", "test images: 4, groups: 3"]
    score = rows_of(compared["test images: 4, groups: 3"]).loc[(ALL_CLASSES, "score")]
    assert (score["A"], score["B"]) == (pytest.approx((2 / 3 + 6) / 8), 7 / 8)
    assert score["low"] == 0  # both are wrong on r.png: no draw shows A better


def test_other_labels_are_refused_with_the_first_difference(project):
    replace(project / "output/y/labels.csv", "c.png_1,3 1", "c.png_1,4 1")
    with pytest.raises(
        ConfigError, match=r"x and y have different labels, first of c\.png class 1: make labels"
    ):
        compare_named(["x"], ["y"])


def test_other_datasets_other_images_and_missing_runs_are_refused(project):
    with pytest.raises(ConfigError, match="a run on both sides"):
        compare_named([], ["y"])
    path = project / "output/y/validation.csv"
    path.write_text(path.read_text().replace(".png", ".jpg"))
    with pytest.raises(ConfigError, match="no validation image in common"):
        compare_named(["x"], ["y"])
    path.unlink()
    with pytest.raises(ConfigError, match="`make predict EXPERIMENT=y`"):
        compare_named(["x"], ["y"])
    (project / "notebooks/experiments/y.yml").write_text("dataset: sample\n")
    with pytest.raises(ConfigError, match="y has dataset sample, x has fake"):
        compare_named(["x"], ["y"])


def test_the_table_is_printed_with_signs_and_intervals(project, capsys):
    print_comparison(compare_named(["x"], ["y"]))
    _, title, head, first, *_, last = capsys.readouterr().out.splitlines()
    assert title == "validation images: 3, groups: 2"
    assert head.split() == ["A", "B", "B", "-", "A", "95", "%", "interval", "verdict"]
    wanted = "score 0.9444 1.0000 +0.0556 [+0.0000, +0.0833] no difference shown"
    assert first.split() == wanted.split()
    assert " ".join(last.split()) == "micro Dice, bar 2 none none none [none, none] no difference shown"


def test_the_command_compares_test_images_by_the_groups_of_02(project, capsys):
    for name in ("x", "y"):
        path = project / "submissions" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("ImageId_ClassId,EncodedPixels\np.png_1,1 4\np.png_2,\nq.png_1,\nq.png_2,2 2\n")
    (project / "input/fake/solution.csv").write_text(path.read_text())
    groups = "ImageId,height,width,classes,group\nq.png,2,5,,3\np.png,2,5,,3\n"
    (project / "output/x/test_images.csv").write_text(groups)
    main(["compare", "--a=x", "--b=y"])
    assert "\ntest images: 2, groups: 1\n" in capsys.readouterr().out
