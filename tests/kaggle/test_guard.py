"""Time: with enough of it nothing is left out; with little, flips go first; there is always an end."""

import numpy as np
import pytest

from defectmill.config import load_experiment
from defectmill.images import write_image
from defectmill.kaggle.guard import Effort, TimeGuard, list_efforts, reduce_run

FILE = """
dataset: sample
predict: {flips: [horizontal, vertical], scales: [0.5, 1.0]}
"""


@pytest.fixture
def run(root):
    (root / "notebooks" / "experiments" / "e.yml").write_text(FILE)
    return load_experiment("e")


class Clock:
    """A clock that stands still, but for what each image takes: `rate` seconds a unit."""

    def __init__(self, rate=1.0, first=0.0):
        self.now, self.rate, self.first = 1000.0, rate, first

    def __call__(self):
        return self.now


class Network:
    """Takes its time by what it is shown: (flips + 1) times the pixels, in units of a whole image."""

    def __init__(self, clock, pixels):
        self.clock, self.pixels, self.shown = clock, pixels, []

    def predict_on_batch(self, batch):
        units = batch.shape[0] * batch.shape[1] * batch.shape[2] / self.pixels
        self.shown.append(round(units, 2))
        self.clock.now += units * self.clock.rate + self.clock.first
        self.clock.first = 0.0
        return np.full((*batch.shape[:3], 4), 0.25, np.float32)


def predict(run, folder, n_images, seconds, clock, n_networks=2):
    for number in range(n_images):
        write_image(folder / f"{number}.png", np.full((20, 40), 9, np.uint8))
    networks = [(run, Network(clock, 800)) for _ in range(n_networks)]
    guard = TimeGuard(networks, n_images, seconds, clock.now, clock)
    ids = [image_id for image_id, _ in guard.predict(folder, [f"{n}.png" for n in range(n_images)])]
    return guard, ids, networks[0][1].shown


def test_efforts_go_down_by_what_an_image_costs(run):
    efforts = list_efforts([run, run])
    assert efforts[0] == Effort(2 * 3 * 1.25, 2, 2, 2)
    assert efforts[-1] == Effort(1.0, 1, 1, 0)
    assert [e.units for e in efforts] == sorted((e.units for e in efforts), reverse=True)
    assert len(efforts) == 2 * 2 * 3


def test_the_scale_that_stays_is_that_of_the_training_and_the_first_flips_stay(run):
    reduced = reduce_run(run, 1, 1).predict
    assert (reduced.scales, reduced.flips) == ((1.0,), ("horizontal",))
    assert reduce_run(run, 2, 2).predict == run.predict


def test_with_enough_time_every_image_gets_everything(run, tmp_path):
    guard, ids, shown = predict(run, tmp_path, 6, 3600, Clock())
    assert len(ids) == 6
    assert guard.report() == "6 images with 2 networks, 2 scales, 2 flips"
    assert shown == [0.75, 3.0] * 6  # three mirrored images, at half the size and at the whole


def test_with_little_time_images_get_less_and_all_are_predicted_in_time(run, tmp_path):
    clock = Clock()
    guard, ids, _ = predict(run, tmp_path, 20, 60.0, clock)  # all of it would take 150 s
    assert len(ids) == 20
    assert clock.now - 1000 <= 60 * 0.95
    assert sum(guard.spent.values()) == 20
    assert 40 < sum(effort.units * n for effort, n in guard.spent.items()) <= 57


def test_what_no_effort_reaches_is_left_out_and_told(run, tmp_path):
    clock = Clock()
    guard, ids, _ = predict(run, tmp_path, 20, 15.0, clock)
    assert clock.now - 1000 <= 15
    assert ids == [f"{n}.png" for n in range(len(ids))]
    assert len(ids) + len(guard.unpredicted) == 20
    assert len(ids) == 1 + 6  # 7.5 s for the first, then 1 s each until 14.25 s
    assert (
        f"WARNING: {len(guard.unpredicted)} images without a prediction: the time was over" in guard.report()
    )


def test_the_first_image_which_takes_longer_than_any_other_does_not_count_for_the_speed(run, tmp_path):
    guard, ids, _ = predict(run, tmp_path, 10, 200, Clock(first=60.0))
    assert len(ids) == 10
    assert guard.spent[guard.efforts[0]] >= 9


def test_after_the_end_nothing_is_predicted(run, tmp_path):
    guard, ids, shown = predict(run, tmp_path, 3, -1, Clock())
    assert (ids, shown) == ([], [])
    assert guard.unpredicted == ["0.png", "1.png", "2.png"]


def test_an_image_that_cannot_be_read_is_told_and_the_others_go_on(run, tmp_path):
    clock = Clock()
    write_image(tmp_path / "good.png", np.zeros((20, 40), np.uint8))
    (tmp_path / "bad.png").write_bytes(b"no image")
    guard = TimeGuard([(run, Network(clock, 800))], 2, 999, clock.now, clock)
    assert [image_id for image_id, _ in guard.predict(tmp_path, ["bad.png", "good.png"])] == ["good.png"]
    assert "bad.png" in guard.report()
    assert "answered as clean" in guard.report()


def test_time_counts_from_the_start_of_the_process(run):
    clock = Clock()
    guard = TimeGuard([(run, None)], 1, 1e9)
    assert guard.until < 1e9 + guard.clock()
    assert TimeGuard([(run, None)], 1, 100, 1000, clock).until == 1000 + 95
    assert TimeGuard([(run, None)], 1, 32400, 1000, clock).until == 1000 + 32400 - 120
