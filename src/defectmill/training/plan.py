"""Plan: settings that fit a dataset and a time budget, each with its reason. Reads and measures nothing.

The rules say what the recipes in notebooks/experiments have in common. Sizes are in pixels, times in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from defectmill.config import ConfigError
from defectmill.curation.facts import DatasetFacts

ENCODERS = ("lite0", "lite1", "lite2")  # smallest first
GREY = 2.0  # difference of the colour channels, 0..255: JPEG gives a grey image less
CROP, MANY = 128, 16  # an image of so many crops is shrunk, while the typical defects of each class keep
MIN_SIZE, MIN_WIDTH, MIN_SCALE = 16, 4, 0.25
STRIP, TILE = 3, 512  # a strip's sides, one to the other; larger images are predicted in tiles
CROSS, MANY_IMAGES = 20 * 60, 2000  # from such a budget on, and up to so many images, each fold validates
MIN_STEPS, CROSS_STEPS, ENOUGH = 100, 400, 4000  # of a network: for one, for several, for a larger encoder
# Networks of many folds learn from more of the images each, where so many steps are left for each of them.
FOLDS, LEARNT = (5, 4, 3), 600
FEW_IMAGES = (
    100  # fewer are learned by heart: CutMix gave 0.03 of Dice on 12 leather and on 12 concrete pictures
)
REPEATS = 1000  # crops of an image with a defect that a network is shown at most
KERNEL, JUDGE = 15, 6e-8  # a notebook's start; thresholds and masks of a pixel and class
SPARE, PART = 0.1, 0.15  # shares of the budget: kept back; for more epochs or scales than one


class Speed(NamedTuple):
    """Seconds of a training step, and to predict an image at one scale."""

    step: float
    predict: float


class Choice(NamedTuple):
    """Value of a setting, and why."""

    value: Any
    reason: str = "as SET says"


@dataclass
class Choices:
    """Settings by dotted name, chosen one after the other; the first choice of a setting holds."""

    facts: DatasetFacts
    made: dict[str, Choice]

    def set(self, setting: str, value: Any, reason: str) -> None:
        self.made.setdefault(setting, Choice(value, reason))

    @property
    def values(self) -> dict[str, Any]:
        return {setting: choice.value for setting, choice in self.made.items()}

    def get(self, setting: str, default: Any = None) -> Any:
        return self.values.get(setting, default)

    @property
    def most_steps(self) -> int:
        """Steps that show an image with a defect `REPEATS` times."""
        return REPEATS * self.facts.defects // self.get("training.batch_size")

    def times(self, speed: Speed, steps: int) -> dict[str, float]:
        """Seconds of each part of a run whose networks take `steps` each."""
        facts, last, n_folds = self.facts, self.get("training.last_fit", 0) > 0, self.get("labels.n_folds")
        folds = n_folds if self.get("labels.validation_fold") == "every" else 1
        validated = facts.images * folds / n_folds
        shown = validated + facts.tests * (folds if facts.solved else folds + last)
        return {
            "start-up, labels, report": KERNEL * (4.0 + folds + last),
            "training": (folds + last) * steps * speed.step,
            "validation in training": self.get("training.epochs") * validated * speed.predict,
            "prediction": shown * speed.predict * self._views(),
            "thresholds and masks": (validated + facts.tests) * len(facts.classes) * facts.area * JUDGE,
        }

    def _views(self) -> float:
        """What predicting an image takes, in times of one prediction at the training's scale."""
        sizes = sum(scale**2 for scale in self.get("predict.scales", [1.0]))
        return sizes * (1 + len(self.get("predict.flips", [])))

    def steps(self, speed: Speed, budget: float) -> int:
        """Steps of each network that the budget leaves."""
        without, one = (sum(self.times(speed, steps).values()) for steps in (0, 1))
        return int(((1 - SPARE) * budget - without) / (one - without))


RECIPE = {
    "data.mode": Choice("crop", "defects at full sharpness, and many of them a minute"),
    "data.defect_share": Choice(0.8, "one crop in five is drawn without looking for a defect"),
    "model.name": Choice("encoder_unet", "starts from ImageNet weights: from scratch it learns far slower"),
    "model.up_widths": Choice([96, 64, 40, 24], "as in all recipes; four are faster than five"),
    "model.normalization": Choice("batch", "as in all recipes"),
    "model.frozen": Choice(3, "the widest maps: half of the time, and most prone to overfit"),
    "model.encoder_rate": Choice(0.5, "as in all recipes: the encoder has learnt already"),
    "training.learning_rate": Choice(0.002, "as in all recipes"),
    "training.weight_decay": Choice(0.0001, "as in all recipes"),
    "training.clipnorm": Choice(1.0, "as in all recipes"),
}


def draft(facts: DatasetFacts, fixed: Mapping[str, Any]) -> Choices:
    """Choose what does not depend on time; `fixed`: settings by dotted name that are decided already."""
    choices = Choices(facts, {**RECIPE, **{setting: Choice(value) for setting, value in fixed.items()}})
    choose, kinds = choices.set, facts.classes
    choose(
        "data.channels",
        3 if facts.colour > GREY else 1,
        f"on average they differ by {facts.colour:.0f} of 255",
    )
    choose("data.scale", *_find_scale(facts))
    # Concrete, of its largest class: Dice 0.61 by crops of 128, 0.74 by 192 and by 256 (two folds of four).
    # Magnetic-tile, all classes: 0.14 by 128, 0.20 by 192, of the same pixels (500 steps, one fold of three).
    size = max(kind.typical for kind in kinds) * choices.get("data.scale")
    side = int(np.clip(32 * round((size + 64) / 32), CROP, 2 * CROP))
    choose("data.shape", [side, side], f"a defect of the largest class, {size:.0f} pixels, and 32 around it")
    spread = max(kind.large for kind in kinds) / min(kind.small for kind in kinds)
    low = float(np.clip(round(spread**-0.25, 1), 0.5, 0.8))
    choose("data.zoom", [low, 1.4], f"large defects have {spread:.0f} times the size of small ones")
    strip = max(facts.shape) >= STRIP * min(facts.shape)
    told = "a long strip has a direction: only mirrored" if strip else "turned, mirrored, resized, brightened"
    choose("data.augment", "steel" if strip else "surface", told)
    if facts.images < FEW_IMAGES:
        told = f"{facts.images} images are few: two in one crop are new ones"
        choose("data.cutmix", 0.4, told)
    each = facts.defects / facts.defect_groups
    choose("data.balance", "part" if each >= 2 else "class", f"a part with a defect has {each:.1f} images")
    told = "classes exclude one another" if facts.exclusive else "classes overlap"
    head = "multiclass" if facts.exclusive and len(kinds) > 1 else "multilabel"
    choose("model.head", head, told if len(kinds) > 1 else "one class")
    batch_size = int(4 * np.ceil(4 * CROP**2 / np.prod(choices.get("data.shape"))))
    choose("training.batch_size", batch_size, f"some 16 crops of {CROP}: many small ones teach most")
    # crack's score and Dice out of fold: 0.51 and 0.67 without the second half, 0.57 and 0.64 with it alone.
    loss = {"cross_entropy": 1.0, "dice": 0.5, "image_dice": 0.5}
    loss = {"focal": 2.0, **loss, "cross_entropy": 0.5} if choices.get("model.head") == "multiclass" else loss
    focal = "; focal: most pixels are easy" * ("focal" in loss)
    choose("training.loss", loss, f"single pixels, masks of all images together and of each{focal}")
    if facts.area * choices.get("data.scale") ** 2 > TILE**2:
        choose("predict.tiles", {"shape": [TILE, TILE], "overlap": 64}, f"images exceed {TILE} x {TILE}")
    choose("predict.minimum_areas", [0, 0.02, 0.05, 0.1, 0.2, 0.4], "of a typical mask; validation chooses")
    return choices


def propose(choices: Choices, speeds: Mapping[str, Speed], budget: float) -> Choices:
    """Add to a draft what fills a budget of so many seconds; ConfigError where no time to train is left.

    `speeds`: measured for the draft, by encoder, the smallest first.
    """
    facts, why = choices.facts, ""
    if budget < CROSS:
        why = f"under {CROSS // 60} min"
    elif facts.images > MANY_IMAGES:
        why = f"more than {MANY_IMAGES:,} images"
    elif facts.rarest < 2:
        why = "no class stands in two parts"
    else:
        for n_folds in [n for n in FOLDS if n <= facts.groups] or [2]:
            done = _fill(choices, speeds, budget, n_folds)
            left = done.steps(speeds[done.get("model.encoder")], budget)
            if left >= min(LEARNT, done.most_steps):
                return done
        if left >= CROSS_STEPS:
            return done
        why = f"a network for each fold would make {max(0, left)} steps only"
    return _fill(choices, speeds, budget, 0, why)


def _fill(
    choices: Choices, speeds: Mapping[str, Speed], budget: float, n_folds: int, one: str = ""
) -> Choices:
    """Fill a budget with a network for each of `n_folds`, or with one network where `one` says why."""
    facts, (first, speed) = choices.facts, next(iter(speeds.items()))
    done = replace(choices, made={**choices.made})
    if one:
        many = facts.images > MANY_IMAGES
        n_folds = np.clip(facts.images // 600, 5, 20) if many else np.clip(facts.groups, 2, 5)
        told = "some 600 images validate" if many else f"{facts.groups} parts can validate"
        done.set("labels.n_folds", int(n_folds), told)
    else:
        told = f"a network learns from {1 - 1 / n_folds:.0%} of the images"
        done.set("labels.n_folds", n_folds, told)
    done.set("labels.validation_fold", 0 if one else "every", one or "thresholds are chosen on all images")
    _afford(done, "validation in training", [{"training.epochs": n} for n in (4, 2, 1)], speed, budget)
    done.set("training.last_fit", 0 if one else done.get("training.epochs"), one or "for make infer")
    # Dice out of fold, mirrored: leather 0.67 -> 0.70, magnetic-tile 0.45 -> 0.46, mvtec-tile 0.889 -> 0.891.
    # Beyond the zoom of training it is a gamble: 2.0 gave mvtec-tile 0.882 -> 0.889 out of fold, and took
    # concrete's test part from 0.44 to 0.30.
    low, flips = max(0.6, done.get("data.zoom")[0]), ["horizontal", "vertical", "both"]
    sizes = [[low, 1.0, done.get("data.zoom")[1]], [low, 1.0]]
    views = [(scales, flips) for scales in sizes] + [([low, 1.0], flips[:1]), ([low, 1.0], []), ([1.0], [])]
    wanted = [{"predict.scales": scales, "predict.flips": mirrored} for scales, mirrored in views]
    _afford(done, "prediction", wanted, speed, budget)
    fits = [name for name, speed in speeds.items() if done.steps(speed, budget) >= ENOUGH]
    done.set("model.encoder", (fits or [first])[-1], f"a larger one wants time for {ENOUGH:,} steps")
    speed, epochs = speeds[done.get("model.encoder")], done.get("training.epochs")
    left, cap = done.steps(speed, budget), done.most_steps
    if one and left < MIN_STEPS:
        needed = np.ceil(sum(done.times(speed, MIN_STEPS).values()) / (1 - SPARE - 2 * PART) / 60)
        raise ConfigError(f"BUDGET: {budget:.0f}s leave no time to train; {needed:.0f}min do")
    told = f"a network has time for {left:,}" + f", {cap:,} show an image {REPEATS:,} times" * (cap < left)
    done.set("training.steps", max(min(left, cap), MIN_STEPS) // epochs, told)
    warmup = int(np.clip(done.get("training.steps") * epochs // 20, 15, 50))
    done.set("training.schedule", {"name": "cosine", "warmup_steps": warmup}, "the rate ends at 0")
    done.set("training.keep", "last", "the best epoch would be chosen on the images that measure it")
    return done


def _afford(choices: Choices, part: str, options: list[dict], speed: Speed, budget: float) -> None:
    """Choose the first settings by which a part takes a small share of the time, or the last ones."""
    for option in options:
        made = {setting: Choice(value) for setting, value in option.items()}
        share = replace(choices, made={**made, **choices.made}).times(speed, 0)[part] / budget
        if share <= PART:
            break
    for setting, value in option.items():
        choices.set(setting, value, f"{part} takes {share:.0%} of the time")


def _find_scale(facts: DatasetFacts) -> tuple[float, str]:
    """Halve the scale of an image of many crops while typical defects of all classes keep enough pixels."""
    crops, scale = facts.area / CROP**2, 1.0
    size, width = (min(getattr(kind, name) for kind in facts.classes) for name in ("typical", "width"))
    least = max(MIN_SCALE, MIN_SIZE / size, MIN_WIDTH / width)
    while crops * scale**2 >= MANY and scale / 2 >= least:
        scale /= 2
    kept = f"the smallest class is {size * scale:.0f} pixels across, the thinnest {width * scale:.0f} wide"
    return scale, f"an image makes {crops * scale**2:.0f} crops of {CROP}; {kept}"
