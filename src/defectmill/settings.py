"""Sections of an experiment's settings, types, defaults; a class for each network, data mode and schedule."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareAbove0 = Annotated[float, Field(gt=0, le=1)]
ShareBelow1 = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(ge=0.05, le=4)]
Side = Annotated[int, Field(ge=16, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy and scikit-learn take no more
Width = Annotated[int, Field(ge=2, le=8192)]  # channels
Weight = Annotated[float, Field(ge=0)]
Loss = Literal[
    "cross_entropy", "dice", "image_dice", "batch_dice", "focal", "focal_tversky", "lovasz", "cldice",
    "boundary",
]  # fmt: skip
# Of Keras, which looking at data must not load: activations, and backbones with features at stride 32.
_ACTIVATIONS = (
    "celu|elu|exponential|gelu|hard_shrink|hard_sigmoid|hard_silu|hard_swish|hard_tanh|leaky_relu|linear|"
    "log_sigmoid|log_softmax|mish|relu|relu6|selu|sigmoid|silu|soft_shrink|softmax|softplus|softsign|"
    "sparse_plus|sparse_sigmoid|sparsemax|squareplus|swish|tanh|tanh_shrink"
)
_BACKBONES = (
    "ConvNeXtBase|ConvNeXtLarge|ConvNeXtSmall|ConvNeXtTiny|ConvNeXtXLarge|DenseNet121|DenseNet169|DenseNet201|"
    "EfficientNetB0|EfficientNetB1|EfficientNetB2|EfficientNetB3|EfficientNetB4|EfficientNetB5|EfficientNetB6|"
    "EfficientNetB7|EfficientNetV2B0|EfficientNetV2B1|EfficientNetV2B2|EfficientNetV2B3|EfficientNetV2L|"
    "EfficientNetV2M|EfficientNetV2S|MobileNet|MobileNetV2|MobileNetV3Large|MobileNetV3Small|ResNet101|"
    "ResNet101V2|ResNet152|ResNet152V2|ResNet50|ResNet50V2|VGG16|VGG19|Xception"
)
Activation = Annotated[str, Field(pattern=f"^({_ACTIVATIONS})$")]
Backbone = Annotated[str, Field(pattern=f"^({_BACKBONES})$")]
Grid = Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(lambda g: tuple(sorted(set(g))))]


class Settings(BaseModel):
    """Frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LabelSettings(Settings):
    """Folds. Training never sees `validation_fold`; every: each validates in turn, a network for each."""

    n_folds: Annotated[int, Field(ge=2, le=1000)] = 5
    validation_fold: NotNegative | Literal["every"] = 0
    seed: Seed = 0  # of the folds: the same for all seeds of a training, which then can be compared

    @model_validator(mode="after")
    def _validation_fold_exists(self) -> "LabelSettings":
        if self.validation_fold != "every" and self.validation_fold >= self.n_folds:
            raise ValueError(f"validation_fold {self.validation_fold} is no fold of {self.n_folds}")
        return self


class _Data(Settings):
    """What every data mode has."""

    shape: tuple[Side, Side] = (128, 128)  # (height, width) of what the network is shown
    channels: Literal[1, 3] = 1
    images: Literal["all", "defects"] = "all"  # which train
    defect_share: Share = 0.8  # of what training shows: so much holds a defect
    augment: Literal["none", "flips", "steel", "surface", "strong", "crack", "flexunet"] = "flips"
    # Training shows all classes equally often; part: their parts, too, be they seen once or forty times.
    balance: Literal["class", "part"] = "class"
    parts: ShareAbove0 = 1.0  # of those that may train, drawn at random: is it labels that are short?


class CropData(_Data):
    """Crops, `defect_share` of them around a defect, the classes in turn."""

    mode: Literal["crop"] = "crop"
    scale: Scale = 1.0
    zoom: tuple[Scale, Scale] = (1.0, 1.0)  # range of a crop's further scale, drawn log-uniformly
    copy_paste: Share = 0.0  # of the crops: so many get a defect of another image, where there is room
    cutmix: Share = 0.0  # of the crops: in so many a rectangle is of another crop

    @model_validator(mode="after")
    def _zoom_is_a_range(self) -> "CropData":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom {self.zoom} is no range: the lower end comes first")
        return self


class ResizeData(_Data):
    """Whole images resized to `shape`."""

    mode: Literal["resize"] = "resize"


class CapstoneData(_Data):
    """Whole images, with the three bugs of the Severstal capstone's generator."""

    mode: Literal["capstone"] = "capstone"
    nan_masks: bool = True  # the mask of an absent class is NaN cast to an integer, -2^63, at every pixel
    repeat_order: bool = True  # every epoch in the order of the first
    drop_tail: bool = True  # the last partial batch is never shown


class _Model(Settings):
    """What every network has."""

    head: Literal["multilabel", "multiclass"] = "multilabel"  # multiclass: a pixel has one class at most
    normalization: Literal["none", "batch", "group"] = "none"
    dropout: ShareBelow1 = 0.0


class UnetSettings(_Model):
    """U-Net."""

    name: Literal["unet"] = "unet"
    widths: tuple[Width, ...] = (8, 16, 32, 64, 64, 128)  # channels of the encoder levels, then the bottom
    up_widths: tuple[Width, ...] = (64, 32, 32, 16, 8)  # channels of the decoder levels
    activation: Activation = "elu"

    @model_validator(mode="after")
    def _widths_fit(self) -> "UnetSettings":
        if len(self.widths) != (n := len(self.up_widths)) + 1:
            raise ValueError(f"{n} up_widths need {n + 1} widths, the last the bottom's, not {self.widths}")
        return self


class EncoderModel(_Model):
    """What networks on a classifier's encoder have."""

    up_widths: Annotated[tuple[Width, ...], Field(min_length=4, max_length=5)] = (96, 64, 40, 24, 16)
    summed_logits: bool = False  # every decoder level has logits, which are summed
    image_head: bool = False  # a class's probabilities are multiplied by that of its being in the image


class EncoderUnetSettings(EncoderModel):
    """U-Net decoder on EfficientNet-Lite."""

    name: Literal["encoder_unet"] = "encoder_unet"
    encoder: Literal["lite0", "lite1", "lite2"] = "lite0"  # the higher, the slower
    pretrained: bool = True  # the encoder starts from ImageNet weights
    frozen: Annotated[int, Field(ge=0, le=8)] = 0  # parts that keep them: the stem, then seven stages
    fold_norm: bool = False  # the encoder's batch normalisation is part of its convolutions, trained ones too
    encoder_rate: Share = 1.0  # learning rate of the last part, in shares of training.learning_rate
    rate_decay: Share = 1.0  # that of any other part, in shares of the next deeper one's
    thaw_step: NotNegative = 0  # training steps in which the encoder's weights stay as they are


class BackboneUnetSettings(EncoderModel):
    """U-Net decoder on a backbone of keras.applications, with weights from a file."""

    name: Literal["backbone_unet"] = "backbone_unet"
    backbone: Backbone = "EfficientNetV2B0"
    weights: str = "none"  # or a .weights.h5, .h5 or .keras file of it; a relative path is the project's
    frozen: bool = False  # the whole backbone keeps its weights

    @model_validator(mode="after")
    def _weights_fit(self) -> "BackboneUnetSettings":
        if self.weights == "imagenet":
            raise ValueError("weights=imagenet would be a download; set it to a file, or to none")
        if self.weights != "none" and self.backbone.startswith("EfficientNetB"):
            raise ValueError(f"{self.backbone} lacks a rescaling with own weights; take EfficientNetV2B0")
        return self


class FlexunetSettings(_Model):
    """FlexUNet: kernels shrink and filters double level by level."""

    name: Literal["flexunet"] = "flexunet"
    filters: Positive = 16
    kernel: Positive = 11
    levels: Annotated[int, Field(ge=1, le=10)] = 8
    dilation: Positive = 1
    activation: Activation = "relu"
    rescale: bool = True  # divide the image by 255

    @model_validator(mode="after")
    def _dropout_fits(self) -> "FlexunetSettings":
        if (rate := self.dropout * (deepest := self.levels - 1)) >= 1:
            raise ValueError(f"dropout {self.dropout} is {rate:g} at level {deepest}, and must be below 1")
        return self


class ConstantSchedule(Settings):
    """One learning rate from start to end."""

    name: Literal["constant"] = "constant"


class ReduceSchedule(Settings):
    """Multiply the rate by `factor` after `patience` epochs without a better validation Dice."""

    name: Literal["reduce"] = "reduce"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Positive = 4


class CosineSchedule(Settings):
    """Linear warm-up, then half a cosine down to 0 at the last step."""

    name: Literal["cosine"] = "cosine"
    warmup_steps: NotNegative = 0


class OneCycleSchedule(Settings):
    """Half a cosine up to the rate, then half a cosine down over all further steps."""

    name: Literal["onecycle"] = "onecycle"
    warmup_share: ShareBelow1 = 0.3  # of all steps: so many climb
    start: Share = 0.04  # of training.learning_rate, at the first step
    end: Share = 0.0001  # of training.learning_rate, after the last step


def _choose(choice: str, default: str) -> Any:
    """Read a section that makes no `choice` as one that makes the default one."""
    return BeforeValidator(lambda values: {choice: default, **values} if isinstance(values, dict) else values)


DataSettings = CropData | ResizeData | CapstoneData
ModelSettings = UnetSettings | EncoderUnetSettings | FlexunetSettings | BackboneUnetSettings
ScheduleSettings = ReduceSchedule | ConstantSchedule | CosineSchedule | OneCycleSchedule
Data = Annotated[DataSettings, Field(discriminator="mode"), _choose("mode", "crop")]
Model = Annotated[ModelSettings, Field(discriminator="name"), _choose("name", "unet")]
Schedule = Annotated[ScheduleSettings, Field(discriminator="name"), _choose("name", "reduce")]


class TrainingSettings(Settings):
    """How it learns."""

    epochs: Positive = 10
    steps: Annotated[int, Field(ge=0, le=10**6)] = 0  # batches an epoch; 0: every image once
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Weight = 0.0  # decoupled, as AdamW's
    clipnorm: Weight = 0.0  # bounds the norm of all gradients
    clipvalue: Weight = 0.0  # bounds each gradient
    ema: ShareBelow1 = 0.0  # momentum of averaged weights; 0: none
    schedule: Schedule = ReduceSchedule()
    # The best epoch on the validation fold, which chooses by luck where it holds few defects; or the last.
    keep: Literal["best", "last"] = "best"
    loss: dict[Loss, Weight] = {"cross_entropy": 1.0, "dice": 1.0}
    metrics: tuple[Literal["batch_dice", "soft_pixel_accuracy"], ...] = ()  # beside the foreground Dice
    previews: NotNegative = 0  # validation images whose masks are drawn after every epoch
    tensorboard: bool = False  # logs beside the network, in tensorboard/; needs that package
    early_stop: Positive = 10  # epochs without a better one
    save_every: NotNegative = 30  # seconds between states that a training, if stopped, goes on from
    # Epochs of one more network, of every label there is, that `make infer` uses; no score is claimed for it
    last_fit: NotNegative = 0
    warm_start: bool = False  # the last fit goes on from the weights of the first fold's network

    @model_validator(mode="after")
    def _can_learn(self) -> "TrainingSettings":
        if not any(self.loss.values()):
            raise ValueError(f"loss {self.loss} is nothing to learn by: give one a weight above 0")
        if self.clipnorm and self.clipvalue:
            raise ValueError("clipnorm and clipvalue exclude one another")
        if self.last_fit and isinstance(self.schedule, ReduceSchedule):
            raise ValueError("last_fit has no validation, which schedule.name=reduce needs: choose cosine")
        return self

    def kept_epoch(self, history: Any) -> int:
        """Which epoch's model is kept, from 0, by the columns of history.csv."""
        dice = np.asarray(history.get("val_foreground_dice", np.nan), float)
        validated = self.keep == "best" and np.isfinite(dice).any()
        return int(np.nanargmax(dice)) if validated else len(history["epoch"]) - 1


class TileSettings(Settings):
    """Tiles of `shape` in which a large image is predicted; neighbours share `overlap` pixels."""

    shape: tuple[Side, Side]
    overlap: NotNegative = 64

    @model_validator(mode="after")
    def _overlap_fits(self) -> "TileSettings":
        if self.overlap >= min(self.shape):
            raise ValueError(f"overlap {self.overlap} does not fit tiles of {self.shape}")
        return self


class PredictSettings(Settings):
    """How masks are made: probabilities are averaged over `flips` and `scales`, then thresholded."""

    flips: tuple[Literal["horizontal", "vertical", "both"], ...] = ()
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (1.0,)  # times the training scale
    thresholds: Grid = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # tried for each class
    expected_dice: tuple[ShareAbove0, ...] = (0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # tried, `ClassThreshold`
    minimum_areas: Grid = (0, 0.02, 0.05, 0.1, 0.2, 0.4)  # tried, in shares of its median mask
    calibrate: bool = True  # `thresholds` are of probabilities that agree with how often they are right
    objective: Literal["both", "score", "dice"] = "both"  # is to gain: competition's score, micro Dice, both
    image_recall: Share = 0.0  # of the images with a class so many must be hit, whatever else that costs
    fill_holes: bool = False  # of the masks
    tiles: TileSettings | None = None  # None: an image is predicted whole


class LineSettings(Settings):
    """What `make infer` counts, see `prediction.line`; ok_ng: {class: {size: so large, and it is NG}}."""

    roi: str = ""  # region of interest: a picture, or polygons in a .json; a relative path is the project's
    mm_per_pixel: Annotated[float, Field(gt=0)] | None = None
    ok_ng: dict[str, dict[Literal["area", "area_mm2", "length_mm", "width_mm"], Weight]] = {}
