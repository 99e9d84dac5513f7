"""Plans: settings by the facts of the datasets that the project knows, as measured; rules at their edges."""

from dataclasses import replace

import pytest

from defectmill.config import ConfigError
from defectmill.curation.facts import ClassFacts, DatasetFacts
from defectmill.training.plan import SPARE, Speed, draft, propose

MINUTE = 60
SPEEDS = {"lite0": Speed(0.4, 0.1), "lite1": Speed(0.5, 0.12), "lite2": Speed(0.7, 0.15)}


def facts(counts, shape, colour, *kinds):
    """`counts`: images, with a defect, their groups, groups that may validate, test images."""
    return DatasetFacts(*counts, True, shape, colour, True, tuple(ClassFacts(*kind) for kind in kinds))


FACTS = {
    "sample": facts(
        (240, 130, 130, 240, 80),
        (256, 1600),
        0,
        (16, 38, 43, 47, 25),
        (10, 54, 60, 70, 21),
        (94, 55, 76, 141, 26),
        (19, 105, 171, 237, 79),
    ),
    "magnetic-tile": facts(
        (968, 209, 46, 154, 244),
        (328, 267),
        0,
        (12, 9, 11, 14, 6),
        (12, 11, 36, 111, 19),
        (8, 12, 15, 25, 4),
        (5, 89, 165, 239, 101),
        (11, 77, 153, 200, 71),
    ),
    "mvtec-tile": facts(
        (19, 19, 18, 17, 5),
        (512, 512),
        7,
        (6, 51, 72, 94, 9),
        (4, 86, 104, 116, 56),
        (2, 110, 112, 112, 30),
        (5, 176, 191, 203, 135),
        (1, 264, 264, 264, 116),
    ),
    "aluminum": facts(
        (9, 9, 8, 4, 3),
        (2048, 2560),
        68,
        (1, 1156, 1156, 1156, 480),
        (1, 348, 348, 348, 122),
        (1, 223, 224, 226, 92),
        (2, 327, 329, 331, 40),
        (2, 1106, 1290, 1474, 583),
        (1, 702, 702, 702, 188),
    ),
    "crack": facts((478, 478, 278, 278, 120), (360, 640), 7, (278, 36, 85, 164, 20)),
    "severstal": facts(
        (12568, 6666, 6666, 12568, 5506),
        (256, 1600),
        0,
        (897, 28, 38, 65, 19),
        (247, 34, 52, 73, 12),
        (5150, 42, 74, 244, 26),
        (801, 65, 110, 231, 54),
    ),
    "leather": facts(
        (18, 18, 18, 18, 5),
        (512, 512),
        50,
        (6, 20, 23, 38, 9),
        (7, 22, 30, 40, 11),
        (8, 66, 68, 94, 32),
        (3, 40, 59, 66, 40),
        (4, 21, 22, 29, 14),
    ),
    "concrete": facts(
        (19, 19, 19, 19, 5),
        (720, 1080),
        15,
        (2, 66, 85, 104, 20),
        (7, 35, 54, 96, 19),
        (5, 28, 79, 200, 22),
        (18, 171, 362, 504, 109),
    ),
}
# channels, scale, side of a crop, batch, zoom from, tiles.
DATA = {
    "sample": (1, 0.5, 160, 12, 0.6, False),
    "magnetic-tile": (1, 1.0, 224, 8, 0.5, False),
    "mvtec-tile": (3, 0.5, 192, 8, 0.7, False),
    "aluminum": (3, 0.25, 256, 4, 0.6, True),
    "crack": (3, 1.0, 160, 12, 0.7, False),
    "severstal": (1, 0.5, 128, 16, 0.6, False),
    "leather": (3, 1.0, 128, 16, 0.7, False),
    "concrete": (3, 0.5, 256, 4, 0.5, False),
}


@pytest.mark.parametrize("name", DATA)
def test_crops_hold_a_defect_of_the_largest_class(name):
    plan = draft(FACTS[name], {})
    settings = ("data.channels", "data.scale", "data.shape", "training.batch_size", "data.zoom")
    channels, scale, shape, batch_size, zoom = map(plan.get, settings)
    assert shape[0] == shape[1]
    assert (channels, scale, shape[0], batch_size, zoom[0], plan.get("predict.tiles") is not None) == DATA[
        name
    ]


# n_folds, networks, epochs, scales, flips.
@pytest.mark.parametrize(
    ("name", "minutes", "expected"),
    [
        ("sample", 30, (4, "every", 4, 2, 1)),
        ("magnetic-tile", 10, (5, 0, 4, 2, 0)),
        ("magnetic-tile", 60, (5, "every", 4, 2, 0)),
        ("mvtec-tile", 30, (4, "every", 4, 3, 3)),
        ("mvtec-tile", 10, (5, 0, 4, 3, 3)),
        ("aluminum", 10, (4, 0, 4, 3, 3)),
        ("crack", 60, (5, "every", 4, 2, 1)),
        ("severstal", 60, (20, 0, 4, 1, 0)),
        ("leather", 30, (4, "every", 4, 3, 3)),
        ("concrete", 30, (4, "every", 4, 3, 3)),
    ],
)
def test_folds_epochs_and_scales_are_what_the_budget_carries(name, minutes, expected):
    plan = propose(draft(FACTS[name], {}), SPEEDS, minutes * MINUTE)
    settings = ("labels.n_folds", "labels.validation_fold", "training.epochs")
    n_folds, fold, epochs = map(plan.get, settings)
    views = len(plan.get("predict.scales")), len(plan.get("predict.flips"))
    assert (n_folds, fold, epochs, *views) == expected
    assert plan.get("training.last_fit") == (epochs if fold == "every" else 0)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("minutes", [5, 10, 19, 20, 60, 600])
def test_a_plan_never_takes_more_than_its_budget_and_uses_it_unless_it_would_repeat(name, minutes):
    try:
        plan = propose(draft(FACTS[name], {}), SPEEDS, minutes * MINUTE)
    except ConfigError as error:
        enough = int(str(error).split("; ")[1].split("min")[0])
        assert enough > minutes
        plan, minutes = propose(draft(FACTS[name], {}), SPEEDS, enough * MINUTE), enough
    speed = SPEEDS[plan.get("model.encoder")]
    steps = plan.get("training.steps") * plan.get("training.epochs")
    whole = sum(plan.times(speed, steps).values())
    assert whole <= (1 - SPARE) * minutes * MINUTE
    repeats = (steps + 4) * plan.get("training.batch_size") >= 1000 * FACTS[name].defects
    assert repeats or whole > (1 - SPARE) * minutes * MINUTE - 30 * speed.step


def test_few_images_are_not_shown_over_and_over_however_much_time_there_is():
    plan = propose(draft(FACTS["leather"], {}), SPEEDS, 100 * 60 * MINUTE)
    steps, reason = plan.made["training.steps"]
    assert steps == 1000 * 18 // 16 // 4
    assert reason.endswith(", 1,125 show an image 1,000 times")


def test_a_part_s_time_is_counted_for_every_network():
    given = {"labels.n_folds": 3, "labels.validation_fold": "every", "training.last_fit": 4}
    plan = propose(
        draft(FACTS["crack"], {**given, "predict.scales": [0.5, 1.0], "predict.flips": ["both"]}),
        SPEEDS,
        60 * MINUTE,
    )
    times = plan.times(Speed(0.5, 0.25), 100)
    assert times == {
        "start-up, labels, report": 15 * (4 + 3 + 1),
        "training": 4 * 100 * 0.5,
        "validation in training": 4 * 478 * 0.25,
        "prediction": (478 + 3 * 120) * 0.25 * 1.25 * 2,
        "thresholds and masks": pytest.approx((478 + 120) * 360 * 640 * 6e-8),
    }
    unsolved = replace(plan, facts=replace(plan.facts, solved=False)).times(Speed(0.5, 0.25), 100)
    assert unsolved["prediction"] == (478 + 4 * 120) * 0.25 * 1.25 * 2


def test_one_network_where_others_would_learn_too_little_and_the_reason_says_so():
    small, large = (propose(draft(FACTS["crack"], {}), SPEEDS, n * MINUTE) for n in (19, 20))
    assert small.made["labels.validation_fold"] == (0, "under 20 min")
    assert large.get("labels.validation_fold") == "every"
    slow = propose(draft(FACTS["crack"], {}), {"lite0": Speed(0.9, 0.1)}, 20 * MINUTE)
    value, reason = slow.made["labels.validation_fold"]
    assert value == 0
    assert reason.startswith("a network for each fold would make ")
    alone = replace(FACTS["crack"], classes=(ClassFacts(1, 36, 85, 164, 20),))
    told = propose(draft(alone, {}), SPEEDS, 60 * MINUTE).made["labels.validation_fold"]
    assert told == (0, "no class stands in two parts")


def test_a_larger_encoder_only_where_it_has_the_time_for_many_steps():
    half, two, five = (propose(draft(FACTS["crack"], {}), SPEEDS, n * 60 * MINUTE) for n in (0.5, 5, 9))
    assert [plan.get("model.encoder") for plan in (half, two, five)] == ["lite0", "lite1", "lite2"]


def test_classes_that_overlap_and_one_class_alone_have_a_sigmoid_each():
    exclusive = FACTS["sample"]
    heads = [
        draft(each, {}).get("model.head")
        for each in (exclusive, replace(exclusive, exclusive=False), FACTS["crack"])
    ]
    assert heads == ["multiclass", "multilabel", "multilabel"]
    assert "focal" in draft(exclusive, {}).get("training.loss")
    assert "focal" not in draft(FACTS["crack"], {}).get("training.loss")


def test_parts_are_balanced_where_they_have_many_images_and_strips_are_not_turned():
    assert draft(FACTS["magnetic-tile"], {}).get("data.balance") == "part"
    assert draft(FACTS["crack"], {}).get("data.balance") == "class"
    assert draft(FACTS["sample"], {}).get("data.augment") == "steel"
    assert draft(FACTS["crack"], {}).get("data.augment") == "surface"


def test_what_is_fixed_holds_and_the_rest_follows_from_it():
    given = {"data.scale": 0.25, "training.steps": 7, "predict.flips": ["both"], "training.epochs": 2}
    plan = propose(draft(FACTS["crack"], given), SPEEDS, 30 * MINUTE)
    assert {setting: plan.made[setting] for setting in given} == {
        setting: (value, "as SET says") for setting, value in given.items()
    }
    assert plan.get("data.shape") == [128, 128]
    assert plan.get("training.last_fit") == 2
    assert plan.get("training.schedule") == {"name": "cosine", "warmup_steps": 15}


def test_proposing_leaves_the_draft_as_it_is():
    first = draft(FACTS["crack"], {})
    before = dict(first.made)
    assert propose(first, SPEEDS, 3600).values == propose(first, SPEEDS, 3600).values
    assert first.made == before


def test_a_budget_without_time_to_train_is_refused_with_one_that_has():
    with pytest.raises(ConfigError, match=r"BUDGET: 60s leave no time to train; 5min do"):
        propose(draft(FACTS["crack"], {}), SPEEDS, 60)


@pytest.mark.parametrize(("images", "cutmix"), [(24, 0.4), (99, 0.4), (100, None)])
def test_few_images_are_mixed(images, cutmix):
    some = replace(FACTS["sample"], images=images)
    assert draft(some, {}).get("data.cutmix") == cutmix
    assert draft(some, {"data.cutmix": 0.1}).get("data.cutmix") == 0.1
