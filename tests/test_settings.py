"""Sections of settings: what a training or a search for thresholds would stumble over is refused at once."""

import re
from typing import get_args

import pytest
from pydantic import ValidationError

from defectmill.config import ConfigError, load_experiment
from defectmill.settings import (
    _ACTIVATIONS,
    _BACKBONES,
    BackboneUnetSettings,
    CropData,
    FlexunetSettings,
    LabelSettings,
    PredictSettings,
    TrainingSettings,
    UnetSettings,
)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"data.augment": "flip"}, "setting 'data.augment' = 'flip'; did you mean 'flips'?"),
        (
            {"model": {"name": "unet", "activation": "rellu"}},
            "'model.activation' = 'rellu'; did you mean 'relu'?",
        ),
        ({"model": {"name": "flexunet", "activation": "swich"}}, "'swich'; did you mean 'swish'?"),
        (
            {"model": {"name": "backbone_unet", "backbone": "EfficentNetV2B0"}},
            "setting 'model.backbone' = 'EfficentNetV2B0'; did you mean 'EfficientNetV2B0'?",
        ),
        ({"model": {"name": "backbone_unet", "backbone": "NASNetMobile"}}, "'NASNetMobile'; did you mean "),
        ({"predict.thresholds": []}, "setting 'predict.thresholds' = []: Tuple should have at least 1 item"),
        ({"predict.minimum_areas": []}, "setting 'predict.minimum_areas' = []: Tuple should have at least 1"),
        ({"predict.scales": [0.5, 0.001]}, "setting 'predict.scales.1' = 0.001: Input should be greater"),
        ({"data.zoom": [0.001, 1]}, "setting 'data.zoom.0' = 0.001: Input should be greater"),
        ({"seed": 2**32}, "setting 'seed' = 4294967296: Input should be less than 4294967296"),
        ({"labels.seed": 2**32}, "setting 'labels.seed' = 4294967296: Input should be less than"),
        ({"labels.n_folds": 1001}, "setting 'labels.n_folds' = 1001: Input should be less than or equal"),
        ({"training.steps": 10**6 + 1}, "setting 'training.steps' = 1000001: Input should be less than"),
        ({"training.epochs": 0}, "setting 'training.epochs' = 0: Input should be greater than 0"),
        ({"training.loss": {}}, "setting 'training': loss {} is nothing to learn by"),
        (
            {"training.loss": {"dice": 0.0, "focal": 0}},
            "loss {'dice': 0.0, 'focal': 0.0} is nothing to learn",
        ),
        (
            {"training.learning_rate": float("inf")},
            "setting 'training.learning_rate' = inf: Input should be a",
        ),
        ({"training.weight_decay": float("nan")}, "setting 'training.weight_decay' = nan: Input should be"),
        (
            {"model": {"name": "unet", "widths": []}},
            "'model': 5 up_widths need 6 widths, the last the bottom's",
        ),
        (
            {"model": {"name": "unet", "widths": [4, 6], "up_widths": [8, 4]}},
            "setting 'model': 2 up_widths need 3 widths, the last the bottom's, not (4, 6)",
        ),
        ({"model": {"name": "unet", "widths": [4, 10**6], "up_widths": [8]}}, "'model.widths.1' = 1000000"),
        (
            {"model.up_widths": [8, 8]},
            "setting 'model.up_widths' = [8, 8]: Tuple should have at least 4 items",
        ),
        ({"model.up_widths": [8] * 6}, "Tuple should have at most 5 items"),
        ({"model.up_widths": [8, 8, 8, 1]}, "setting 'model.up_widths.3' = 1: Input should be greater than"),
        (
            {"model": {"name": "flexunet", "dropout": 0.15}},
            "setting 'model': dropout 0.15 is 1.05 at level 7, and must be below 1",
        ),
        (
            {"model": {"name": "backbone_unet", "weights": "imagenet"}},
            "setting 'model': weights=imagenet would be a download; set it to a file, or to none",
        ),
        (
            {"model": {"name": "backbone_unet", "backbone": "EfficientNetB0", "weights": "own.h5"}},
            "setting 'model': EfficientNetB0 lacks a rescaling with own weights; take EfficientNetV2B0",
        ),
    ],
)
def test_what_would_fail_after_minutes_is_told_in_one_line_at_loading(overrides, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        load_experiment("sample", overrides)
    assert "\n" not in str(caught.value)
    assert "sample.yml: " in str(caught.value)


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (LabelSettings, {"seed": 2**32 - 1}),
        (UnetSettings, {"widths": (4,), "up_widths": (), "activation": "tanh"}),
        (FlexunetSettings, {"dropout": 0.14, "activation": "elu"}),
        (BackboneUnetSettings, {"backbone": "VGG19", "weights": "own.weights.h5"}),
        (TrainingSettings, {"epochs": 1, "loss": {"dice": 0.0, "focal": 0.1}}),
        (PredictSettings, {"scales": (0.05, 4)}),
        (CropData, {"augment": "crack", "zoom": (0.05, 4)}),
    ],
)
def test_the_last_value_that_is_allowed_is_allowed(section, settings):
    assert section(**settings).model_dump(include=set(settings)) == settings


def test_points_of_the_grid_are_a_set_in_order():
    found = PredictSettings(thresholds=[0.5, 0.1, 0.5], minimum_areas=[0.2, 0])
    assert (found.thresholds, found.minimum_areas) == ((0.1, 0.5), (0, 0.2))
    with pytest.raises(ValidationError, match=r"thresholds\.0"):
        PredictSettings(thresholds=[1.5])


def test_the_names_of_augmentations_are_the_pipelines_there_are():
    from defectmill.training.augment import PIPELINES

    assert set(get_args(CropData.model_fields["augment"].annotation)) == set(PIPELINES)


def test_the_names_of_activations_are_those_of_keras_that_keep_the_shape():
    from keras.src.activations import ALL_OBJECTS_DICT

    halves_or_wants_arguments = {"glu", "threshold"}
    assert set(_ACTIVATIONS.split("|")) == set(ALL_OBJECTS_DICT) - halves_or_wants_arguments


def test_the_names_of_backbones_are_those_of_keras_with_features_at_stride_32():
    from defectmill.models.backbone_unet import BACKBONES

    without = {"InceptionV3", "InceptionResNetV2", "NASNetLarge", "NASNetMobile"}
    assert set(_BACKBONES.split("|")) == set(BACKBONES) - without
