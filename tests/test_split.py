"""Which images train, which validate, which a last fit sees."""

import pandas as pd
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.labels import make_image_table, make_label_table, write_labels
from defectmill.split import load_split

FIXED = {"training.keep": "last", "training.schedule.name": "cosine"}  # what cross-validation needs


def rows_of(labels: pd.DataFrame) -> list[tuple]:
    return list(labels.itertuples(index=False, name=None))


@pytest.fixture
def run(root):
    (root / "notebooks" / "experiments" / "mine.yml").write_text(
        "dataset: crack\nlabels: {validation_fold: 1}\n"
    )
    return load_experiment("mine")


def write_split(run) -> None:
    labels = make_label_table([("a.png", 1, "1 2"), ("NA", 1, ""), ("c.png", 1, "9 1")])
    images = make_image_table(labels, pd.DataFrame({"ImageId": labels["ImageId"], "height": 3, "width": 5}))
    run.output.mkdir(parents=True)
    write_labels(labels, run.output / "labels.csv", "2019")
    images.assign(group=[0, 1, 2], fold=[1, 0, -1]).to_csv(run.output / "images.csv", index=False)


def test_the_split_has_the_validation_fold_on_one_side_and_all_else_on_the_other(run):
    write_split(run)
    split = load_split(run)
    assert split.images["ImageId"].tolist() == ["a.png", "NA", "c.png"]
    assert split.validation["ImageId"].tolist() == ["a.png"]
    assert split.train["ImageId"].tolist() == ["NA", "c.png"]
    assert split.train["classes"].tolist() == ["", "1"]
    assert rows_of(split.labels_of(split.train)) == [("NA", 1, "", False), ("c.png", 1, "9 1", True)]
    assert len(split.labels) == 3


def test_every_fold_is_left_out_by_its_network_and_by_all_of_them_together(run):
    write_split(run)
    run = load_experiment("mine", {"labels.validation_fold": "every", "labels.n_folds": 2, **FIXED})
    for network, validation, train in (
        ("fold_0", ["NA"], ["a.png", "c.png"]),
        ("fold_1", ["a.png"], ["NA", "c.png"]),
        ("", ["NA", "a.png"], ["a.png", "NA", "c.png"]),  # fold by fold; c.png always trains
    ):
        split = load_split(run, network)
        assert split.validation["ImageId"].tolist() == validation
        assert split.train["ImageId"].tolist() == train
        assert split.folder == run.input / "train_images"


def test_a_last_fit_sees_every_label_those_of_the_test_part_too(run):
    write_split(run)
    alone = load_split(run, "last")
    assert alone.train["ImageId"].tolist() == [f"train_images/{i}" for i in ("a.png", "NA", "c.png")]
    assert (len(alone.validation), alone.folder) == (0, run.input)
    run.input.mkdir(parents=True)
    (run.input / "solution.csv").write_text("ImageId_ClassId,EncodedPixels\na.png_1,7 2\n")
    tests = "ImageId,height,width,classes,group\na.png,3,5,1,3\n"
    with pytest.raises(ConfigError, match=r"test_images\.csv is missing: `make labels EXPERIMENT=mine`"):
        load_split(run, "last")
    (run.output / "test_images.csv").write_text(tests)
    split = load_split(run, "last")
    # An image of the same name stands in both parts.
    assert split.train["ImageId"].tolist() == [*alone.train["ImageId"], "test_images/a.png"]
    assert rows_of(split.labels)[-1] == ("test_images/a.png", 1, "7 2", True)
    assert split.train["group"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["images.csv", "labels.csv"])
def test_a_split_that_is_not_written_yet_names_the_make_target(run, name):
    write_split(run)
    (run.output / name).unlink()
    with pytest.raises(
        ConfigError, match=rf"output/mine/{name} is missing: `make labels EXPERIMENT=mine` writes"
    ):
        load_split(run)


def test_a_share_of_the_parts_trains_and_a_larger_share_adds_to_it(run):
    labels = make_label_table([(f"{i}.png", 1, "1 2") for i in range(12)])
    images = make_image_table(labels, pd.DataFrame({"ImageId": labels["ImageId"], "height": 3, "width": 5}))
    run.output.mkdir(parents=True)
    write_labels(labels, run.output / "labels.csv", "2019")
    images.assign(group=[i // 2 for i in range(12)], fold=[0] * 2 + [1] * 10).to_csv(
        run.output / "images.csv", index=False
    )
    shown = []
    for share in (0.01, 0.4, 0.8, 1.0):
        run = load_experiment("mine", {"labels.validation_fold": 0, "data.parts": share})
        split = load_split(run)
        assert split.validation["ImageId"].tolist() == ["0.png", "1.png"]
        assert len(split.images) == 12
        shown.append(split.train["group"].tolist())
    assert list(map(len, shown)) == [2, 4, 8, 10]  # whole groups
    assert set(shown[0]) < set(shown[1]) < set(shown[2]) < set(shown[3]) == {1, 2, 3, 4, 5}
    assert shown[1] != [1, 1, 2, 2]  # drawn, not the first ones
