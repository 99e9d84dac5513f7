"""Knobs: the sections of an experiment, their types and defaults."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0, le=4)]
Side = Annotated[int, Field(ge=16, le=4096)]


class Knobs(BaseModel):
    """Frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelKnobs(Knobs):
    """Folds. `held_out` is the fold that training never sees."""

    n_folds: Annotated[int, Field(ge=2)] = 5
    held_out: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _held_out_exists(self) -> "LabelKnobs":
        if self.held_out >= self.n_folds:
            raise ValueError(f"held_out {self.held_out} is no fold of {self.n_folds}")
        return self


class DataKnobs(Knobs):
    """What the network is shown.

    resize: whole pictures brought to `shape`; crop: windows of `shape` at the scale `scale`,
    `defect_share` of them around a defect of classes in turn. `zoom` is the range of a crop's
    further scale, drawn log-uniformly.

    Three bugs of the Severstal capstone, to show what they do: nan_masks (an absent class's mask
    is NaN cast to an integer, -2^63, at every pixel), repeat_order (every epoch in the order of
    the first), drop_tail (the last partial batch is never shown).
    """

    mode: Literal["resize", "crop"] = "crop"
    shape: tuple[Side, Side] = (128, 128)
    scale: Scale = 1.0
    zoom: tuple[Scale, Scale] = (1.0, 1.0)
    channels: Literal[1, 3] = 1
    images: Literal["all", "defects"] = "all"
    defect_share: Share = 0.8
    augment: str = "flips"
    nan_masks: bool = False
    repeat_order: bool = False
    drop_tail: bool = False

    @model_validator(mode="after")
    def _zoom_is_a_range(self) -> "DataKnobs":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom {self.zoom} is no range: the lower end comes first")
        return self


class ModelKnobs(Knobs):
    """The network.

    widths: encoder levels, then the bottom, of a unet; up_widths: decoder levels. frozen: parts
    of a pretrained encoder (the stem, then its seven stages) that keep their ImageNet weights.
    filters, kernel, levels, dilation, rescale: of a flexunet, see there.
    """

    name: Literal["unet", "encoder_unet", "flexunet"] = "unet"
    head: Literal["multilabel", "multiclass"] = "multilabel"
    widths: tuple[Positive, ...] = (8, 16, 32, 64, 64, 128)
    up_widths: tuple[Positive, ...] = (64, 32, 32, 16, 8)
    activation: str = "elu"
    normalization: Literal["none", "batch", "group"] = "none"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pretrained: bool = True
    frozen: Annotated[int, Field(ge=0, le=8)] = 0
    filters: Positive = 16
    kernel: Positive = 11
    levels: Annotated[int, Field(ge=1, le=10)] = 8
    dilation: Positive = 1
    rescale: bool = True


class TrainingKnobs(Knobs):
    """How it learns.

    One epoch is `steps` batches, or every image once where steps is 0. encoder_rate: the learning
    rate of a pretrained encoder as a share of the decoder's. weight_decay: decoupled, as AdamW's.
    keep: the epoch that is best on the held-out fold, or the last one: where a schedule ends at a
    rate of 0, a fold of few defects chooses by luck. metrics: measured beside the foreground Dice.
    clipnorm bounds the norm of all gradients, clipvalue each of them. previews: held-out pictures
    whose masks are drawn after every epoch.
    """

    epochs: Positive = 10
    steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    encoder_rate: Share = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clipnorm: Annotated[float, Field(ge=0)] = 0.0
    clipvalue: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["constant", "reduce", "cosine"] = "reduce"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    keep: Literal["best", "last"] = "best"
    loss: dict[
        Literal["cross_entropy", "dice", "flat_dice", "focal"], Annotated[float, Field(ge=0)]
    ] = {
        "cross_entropy": 1.0,
        "dice": 1.0,
    }
    metrics: tuple[Literal["flat_dice", "soft_pixel_accuracy"], ...] = ()
    previews: Annotated[int, Field(ge=0)] = 0
    early_stop: Positive = 10
    reducer_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    reducer_patience: Positive = 4

    @model_validator(mode="after")
    def _one_way_to_clip(self) -> "TrainingKnobs":
        if self.clipnorm and self.clipvalue:
            raise ValueError("clipnorm and clipvalue exclude one another")
        return self

    def kept_epoch(self, measures: Sequence[float]) -> int:
        """Which epoch's model is kept, from 0, by the held-out measure of each."""
        return int(np.argmax(measures)) if self.keep == "best" else len(measures) - 1


class PredictKnobs(Knobs):
    """How masks are made.

    Averaged over mirror images (`flips`) and `scales` (times the training scale). thresholds and
    minimum_areas are what is tried for each class; areas in shares of its median mask. tile: shape
    of the parts that a picture is predicted in, `overlap` pixels shared; null: it is taken whole.
    """

    flips: tuple[Literal["horizontal", "vertical", "both"], ...] = ()
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (1.0,)
    thresholds: tuple[Share, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    minimum_areas: tuple[Share, ...] = (0, 0.02, 0.05, 0.1, 0.2, 0.4)
    tile: tuple[Side, Side] | None = None
    overlap: Annotated[int, Field(ge=0)] = 64

    @model_validator(mode="after")
    def _overlap_fits(self) -> "PredictKnobs":
        if self.tile and self.overlap >= min(self.tile):
            raise ValueError(f"overlap {self.overlap} does not fit tiles of {self.tile}")
        return self
