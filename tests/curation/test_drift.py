"""Drift: statistics by hand, the rule at its edge, what is said; pictures like the others get no hint."""

import json

import numpy as np
import pandas as pd
import pytest

from defectmill.config import CropData, load_experiment
from defectmill.curation import drift
from defectmill.files import DefectmillError
from defectmill.images import write_image
from defectmill.prediction.tiles import shown_shape
from defectmill.split import Split
from fake_competition import draw_picture, make_info

WHOLE = CropData(scale=1.0)
TEN = [{"mean_grey": 100.0 + n, "height": 40, "width": 60} for n in range(10)]  # 100 ... 109


def measure(image: np.ndarray, data: CropData = WHOLE) -> dict[str, float]:
    return drift.measure_image(image, data, shown_shape)


def test_grey_pictures_have_no_colour_and_their_own_height_and_width():
    image = np.full((4, 6, 1), 50, np.uint8)
    image[:, 3:] = 150
    measures = measure(image)
    assert measures.pop("sharpness") == pytest.approx(100**2 / 3)  # two columns of six differ by 100
    assert measures == {"mean_grey": 100, "contrast": 50, "height": 4, "width": 6}


def test_statistics_are_of_the_size_at_which_the_network_is_shown_the_picture():
    image = np.zeros((8, 12, 1), np.uint8)
    image[::2] = 200  # half as large it is even
    measures = measure(image, CropData(scale=0.5))
    assert (measures["mean_grey"], measures["contrast"], measures["sharpness"]) == (100, 0, 0)
    assert (measures["height"], measures["width"]) == (8, 12)


def test_colourfulness_is_that_of_hasler_and_suesstrunk():
    image = np.zeros((4, 6, 3), np.uint8)
    assert measure(image)["colourfulness"] == 0
    image[:] = 90, 60, 25  # red - green 30, yellow - blue 50, without any spread
    assert measure(image)["colourfulness"] == pytest.approx(0.3 * np.hypot(30, 50))


def differences_at(grey: float) -> list[drift.Difference]:
    training = drift.summarize_measures(TEN)
    return drift.find_differences({"mean_grey": grey, "height": 40, "width": 60}, training)


def test_the_range_is_that_of_the_quantiles_widened_by_the_quartiles_or_the_slack():
    # 1 % and 99 % are 100.09 and 108.91; the quartiles are 4.5 apart, which is less than the slack of 6.
    assert [len(differences_at(grey)) for grey in (94.08, 94.1, 114.9, 114.92)] == [1, 0, 0, 1]
    wide = drift.summarize_measures([{"mean_grey": 10.0 * n} for n in range(10)])
    # 0.9 and 89.1, and 45 to either side.
    for grey, n in ((-44.2, 1), (-44.0, 0), (134.0, 0), (134.2, 1)):
        assert len(drift.find_differences({"mean_grey": grey}, wide)) == n


def test_sizes_are_compared_as_ratios():
    training = drift.summarize_measures(TEN)
    for height, width, words in ((37, 66, []), (36, 60, ["less high"]), (40, 67, ["wider"])):
        found = drift.find_differences({"mean_grey": 100, "height": height, "width": width}, training)
        assert [difference.word for difference in found] == words


def test_nothing_is_known_from_a_handful_of_pictures():
    few = drift.summarize_measures(TEN[: drift.FEWEST - 1])
    assert drift.find_differences({"mean_grey": 255, "height": 1, "width": 1}, few) == []


def test_a_picture_is_told_with_its_value_and_theirs():
    training = drift.summarize_measures(TEN)
    found = drift.find_differences({"mean_grey": 31.4, "height": 400, "width": 60}, training)
    assert drift.describe_differences(found, training) == (
        "darker than all 10 training pictures (mean grey 31; they: 100 to 109); "
        "higher than all 10 training pictures (pixels 400; they: 40)"
    )
    assert drift.describe_differences([], training) == ""


def test_one_odd_training_picture_does_not_hide_that_a_picture_differs():
    training = drift.summarize_measures([{"mean_grey": 100.0}] * 999 + [{"mean_grey": 10.0}])
    found = drift.find_differences({"mean_grey": 20}, training)
    assert drift.describe_differences(found, training) == (
        "darker than 99 % of the 1000 training pictures (mean grey 20; they: 10 to 100)"
    )


def test_a_folder_is_told_in_one_line_the_most_frequent_difference_first():
    training = drift.summarize_measures(TEN)
    pictures = [(100, 40), (31.4, 40), (200, 40), (45, 400)]
    found = [
        drift.find_differences({"mean_grey": grey, "height": height, "width": 60}, training)
        for grey, height in pictures
    ]
    assert drift.describe_folder(found, training) == (
        "3 of 4 pictures look unlike the 10 training pictures: 2 darker (mean grey 31 to 45; they: 100 to "
        "109), 1 brighter (mean grey 200; they: 100 to 109), 1 higher (pixels 400; they: 40)"
    )
    found.append(drift.find_differences({"mean_grey": 100, "height": 9, "width": 600}, training))
    assert drift.describe_folder(found, training).endswith("(pixels 400; they: 40), and in 2 more ways")
    assert drift.describe_folder([[], []], training) == ""


@pytest.fixture
def run(root):
    (root / "input" / "fake").mkdir()
    (root / "input" / "fake" / "dataset.json").write_text(make_info().model_dump_json())
    (root / "notebooks" / "experiments" / "fake.yml").write_text("dataset: fake\ndata: {channels: 3}\n")
    return load_experiment("fake")


def learn(run, images: list[np.ndarray]) -> drift.Statistics:
    for n, image in enumerate(images):
        write_image(run.input / f"{n}.png", image)
    table = pd.DataFrame({"ImageId": [f"{n}.png" for n in range(len(images))]})
    return drift.learn_statistics(run, Split(table, table, table, table, run.input), shown_shape)


def test_pictures_like_those_of_the_training_get_no_hint_and_dark_or_blurred_ones_do(run):
    rng = np.random.default_rng(0)
    drawn = [draw_picture((37, 53), 2, {n % 3} - {0}, rng)[0] for n in range(80)]
    training = learn(run, drawn[:40])
    assert training.images == 40
    assert set(training.quantiles) == set(drift.KINDS)
    coloured = [np.repeat(image, 3, axis=2) for image in drawn[40:]]
    found = [drift.find_differences(measure(image), training) for image in coloured]
    assert drift.describe_folder(found, training) == ""
    dark = [(image * 0.5).astype(np.uint8) for image in coloured]
    words = {d.word for image in dark for d in drift.find_differences(measure(image), training)}
    assert words >= {"darker", "of less contrast", "less sharp"}


def test_of_many_training_pictures_a_sample_is_looked_at(run, monkeypatch):
    monkeypatch.setattr(drift, "MOST", 3)
    training = learn(run, [np.full((4, 6, 1), 10 * n, np.uint8) for n in range(7)])
    assert training.images == 3


def test_statistics_come_back_as_they_were_written(tmp_path):
    training = drift.summarize_measures(TEN)
    drift.write_statistics(training, tmp_path / "training_statistics.json")
    assert drift.read_statistics(tmp_path / "training_statistics.json") == training
    assert drift.read_statistics(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "values",
    [{"images": 10}, {"images": 10, "quantiles": {"mood": [1] * 6}}, {"images": None, "quantiles": {}}],
)
def test_a_file_of_something_else_is_refused_with_what_writes_it(tmp_path, values):
    path = tmp_path / "fake" / "training_statistics.json"
    path.parent.mkdir()
    path.write_text(json.dumps(values))
    with pytest.raises(DefectmillError, match="`make predict EXPERIMENT=fake` writes it anew"):
        drift.read_statistics(path)
