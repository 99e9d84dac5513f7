"""Experiments: what is unknown, does not apply or has another name now is refused by name."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from defectmill import files
from defectmill.config import LARGEST_STEP, RENAMED, ConfigError, list_experiments, load_experiment
from defectmill.settings import TrainingSettings
from fake_competition import make_info

SHIPPED = sorted(p.stem for p in (files.ROOT / "notebooks" / "experiments").glob("*.yml"))


@pytest.fixture
def write(root):
    """Write notebooks/experiments/<name>.yml."""

    def write_yml(text: str, name: str = "mine") -> None:
        (root / "notebooks" / "experiments" / f"{name}.yml").write_text(text)

    return write_yml


def refusal(name: str = "mine", overrides: dict | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_experiment(name, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_experiment_loads(name):
    run = load_experiment(name)
    assert (run.name, run.info.name) == (name, run.dataset)
    assert "info" not in run.model_dump()  # settings alone


def test_experiments_are_shipped_and_listed():
    assert {"sample", "severstal", "magnetic-tile", "mvtec-tile-flexunet"} < set(SHIPPED)
    assert list_experiments() == SHIPPED


def test_file_overrides_the_defaults(write):
    write("dataset: sample\ntraining: {epochs: 3}\ndata: {shape: [64, 96]}\n")
    run = load_experiment("mine")
    assert (run.name, run.dataset) == ("mine", "sample")
    assert (run.training.epochs, run.training.batch_size) == (3, 16)
    assert run.data.shape == (64, 96)


def test_a_section_that_makes_no_choice_makes_the_default_one(write):
    write("dataset: sample\ndata: {scale: 0.5}\nmodel: {dropout: 0.1}\ntraining: {schedule: {factor: 0.3}}\n")
    run = load_experiment("mine")
    assert (run.data.mode, run.model.name, run.training.schedule.name) == ("crop", "unet", "reduce")
    assert (run.data.scale, run.model.dropout, run.training.schedule.factor) == (0.5, 0.1, 0.3)


@pytest.mark.parametrize(
    "overrides", [{"training.epochs": 5}, {"training": {"epochs": 5}}, {"training.epochs": "5"}]
)
def test_overrides_stand_above_the_file(write, overrides):
    write("dataset: sample\ntraining: {epochs: 3, batch_size: 7}\n")
    training = load_experiment("mine", overrides).training
    assert (training.epochs, training.batch_size) == (5, 7)


def test_number_with_an_exponent_is_a_number(write):
    write("dataset: sample\ntraining: {learning_rate: 1e-4}\n")
    assert load_experiment("mine").training.learning_rate == 1e-4


def test_loading_leaves_the_overrides_alone(write):
    write("dataset: sample\n")
    overrides = {"training": {"epochs": 5}}
    load_experiment("mine", overrides)
    assert overrides == {"training": {"epochs": 5}}


@pytest.mark.parametrize(
    ("text", "offence"),
    [
        ("epoch: 3", "unknown setting 'epoch'"),
        ("training: {epoch: 3}", "unknown setting 'training.epoch'; did you mean 'training.epochs'?"),
        ("trainin: {}", "unknown setting 'trainin'; did you mean 'training'?"),
        ("model: {name: flexunet, kernal: 3}", "'model.kernal'; did you mean 'model.kernel'?"),
        ("training: {schedule: {factr: 3}}", "did you mean 'training.schedule.factor'?"),
        ("zzz: 1", "unknown setting 'zzz'; there are: name, dataset"),
        ("training: {epochs: many}", "setting 'training.epochs' = 'many'"),
        ("training: {epochs: 0}", "setting 'training.epochs' = 0"),
        ("training: {loss: {dise: 1}}", "setting 'training.loss.dise' = 'dise'; did you mean 'dice'?"),
        ("training: {clipnorm: 1, clipvalue: 1}", "clipnorm and clipvalue exclude one another"),
        ("data: {shape: [64]}", "data.shape"),
        ("data: {shape: [64, 8]}", "setting 'data.shape.1' = 8"),
        ("data: {zoom: [2, 0.5]}", "setting 'data': zoom (2.0, 0.5) is no range"),
        ("data: {mode: capstone, nan_masks: 7}", "setting 'data.nan_masks' = 7"),
        ("labels: {n_folds: 3, validation_fold: 3}", "setting 'labels': validation_fold 3 is no fold of 3"),
        (
            "labels: {validation_fold: evry}",
            "setting 'labels.validation_fold' = 'evry'; did you mean 'every'?",
        ),
        ("predict: {tiles: {shape: [64, 96]}}", "'predict.tiles': overlap 64 does not fit tiles of (64, 96)"),
        (
            "predict: {flips: [horizonal]}",
            "setting 'predict.flips.0' = 'horizonal'; did you mean 'horizontal'?",
        ),
        ("name: other", "setting 'name' = 'other'"),
        ("info: other", "setting 'info' = 'other'"),
        ("training: 5", "setting 'training' = 5"),
        ("data: {mode: cros}", "setting 'data.mode' = 'cros'; did you mean 'crop'?"),
        ("model: {name: resnet}", "setting 'model.name' = 'resnet'; did you mean 'unet'?"),
        ("training: {schedule: {name: cosin}}", "'training.schedule.name' = 'cosin'; did you mean 'cosine'?"),
        ("data: crop", "setting 'data' = 'crop' is a section: data.mode chooses it"),
        ("model:", "setting 'model' = None is a section: model.name chooses it"),
        ("training: {schedule: cosine}", "is a section: training.schedule.name chooses it"),
    ],
)
def test_wrong_setting_is_named_with_file_and_value(write, text, offence):
    write(f"dataset: sample\n{text}\n")
    said = refusal()
    assert "mine.yml" in said
    assert offence in said


@pytest.mark.parametrize(
    ("text", "choice", "here", "there"),
    [
        ("data: {mode: resize, zoom: [1, 2]}", "data.mode", "resize", "crop"),
        ("data: {mode: capstone, scale: 0.5}", "data.mode", "capstone", "crop"),
        ("data: {nan_masks: true}", "data.mode", "crop", "capstone"),
        ("data: {mode: resize, drop_tail: false}", "data.mode", "resize", "capstone"),
        ("model: {name: encoder_unet, kernel: 3}", "model.name", "encoder_unet", "flexunet"),
        ("model: {pretrained: true}", "model.name", "unet", "encoder_unet"),
        (
            "model: {name: flexunet, up_widths: [4]}",
            "model.name",
            "flexunet",
            "unet and model.name=encoder_unet and model.name=backbone_unet",
        ),
        ("training: {schedule: {name: cosine, patience: 3}}", "training.schedule.name", "cosine", "reduce"),
        ("training: {schedule: {warmup_steps: 3}}", "training.schedule.name", "reduce", "cosine"),
    ],
)
def test_a_setting_of_another_choice_does_not_apply_and_hears_where_it_would(
    write, text, choice, here, there
):
    write(f"dataset: sample\n{text}\n")
    assert refusal().endswith(f"does not apply to {choice}={here}; it applies to {choice}={there}")


@pytest.mark.parametrize("text", ["mode: resize, defect_share: 0.5", "mode: capstone, defect_share: 0.8"])
def test_a_share_of_defects_does_not_apply_where_whole_images_are_shown_once(write, text):
    write(f"dataset: sample\ndata: {{{text}}}\n")
    said = "'data.defect_share' does not apply where .* it applies with data.mode=crop or training.steps > 0"
    assert re.search(said, refusal())
    load_experiment("mine", {"training.steps": 7})
    load_experiment("mine", {"data.mode": "crop"})


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_of_an_earlier_version_hears_its_name_of_today(write, old, new):
    write("dataset: sample\n")
    assert refusal(overrides={old: 0.5}).endswith(f"mine.yml: setting {old!r} is now {new!r}")


@pytest.mark.parametrize("new", RENAMED.values())
def test_the_names_of_today_are_settings(write, new):
    write("dataset: sample\n")
    choices = {
        "model.name": "encoder_unet",
        "training.schedule.name": "reduce",
        "predict.tiles.shape": [64, 96],
    }
    if new.endswith("warmup_steps"):
        choices["training.schedule.name"] = "cosine"
    value = {"validation_fold": 1, "shape": [64, 80], "factor": 0.5, "encoder_rate": 0.5}
    load_experiment(
        "mine", {"predict.tiles.overlap": 8, **choices, new: value.get(new.rpartition(".")[2], 2)}
    )


MINE = """
dataset: sample
data: {mode: crop, shape: [64, 96], channels: 3, scale: 0.5, zoom: [0.5, 2]}
model: {name: encoder_unet, head: multiclass, normalization: batch, up_widths: [8, 8, 8, 4], frozen: 3}
training: {epochs: 3, schedule: {name: cosine, warmup_steps: 9}}
"""


def test_an_override_of_the_network_drops_the_settings_of_the_former_one(write):
    write(MINE)
    model = load_experiment("mine", {"model.filters": 4, "model.levels": 7, "model.name": "flexunet"}).model
    assert (model.name, model.filters) == ("flexunet", 4)
    assert (model.head, model.normalization) == ("multiclass", "batch")  # every network has these


def test_an_override_of_the_mode_drops_the_settings_of_the_former_one(write):
    write(MINE)
    data = load_experiment("mine", {"data": {"mode": "resize", "channels": 1}}).data
    assert (data.mode, data.shape, data.channels) == ("resize", (64, 96), 1)


def test_an_override_of_the_schedule_drops_the_settings_of_the_former_one_alone(write):
    write(MINE)
    training = load_experiment("mine", {"training.schedule.name": "constant"}).training
    assert (training.schedule.name, training.epochs) == ("constant", 3)


def test_an_override_that_chooses_the_same_again_drops_nothing(write):
    write(MINE)
    same = {"data.mode": "crop", "model.name": "encoder_unet", "training.schedule.name": "cosine"}
    assert load_experiment("mine", same) == load_experiment("mine")
    write("dataset: sample\ndata: {scale: 0.5}\n")
    assert load_experiment("mine", {"data.mode": "crop"}).data.scale == 0.5


def test_a_setting_of_the_former_choice_among_the_overrides_is_refused(write):
    write(MINE)
    assert "'model.frozen' does not apply" in refusal(overrides={"model.frozen": 1, "model.name": "unet"})


def test_unknown_override_is_named_with_the_nearest(write):
    write("dataset: sample\n")
    assert "'training.epoch'; did you mean 'training.epochs'" in refusal(overrides={"training.epoch": 3})


@pytest.mark.parametrize("key", ["", ".", "training.", "model..name"])
def test_an_override_without_a_name_is_refused(write, key):
    write("dataset: sample\n")
    assert "setting" in refusal(overrides={key: 3})


def test_override_below_a_plain_setting_is_refused(write):
    write("dataset: sample\n")
    said = refusal(overrides={"seed": 1, "seed.x": 3})
    assert said == "setting 'seed.x': 'seed' has no settings inside"


def test_all_wrong_settings_are_named_at_once(write):
    write("dataset: sample\nepoch: 1\ntraining: {epochs: 0}\n")
    assert re.search(r"'training\.epochs' = 0.*; unknown setting 'epoch'", refusal())


@pytest.mark.parametrize(("text", "offence"), [("a: [", "not YAML"), ("- a", "holds list")])
def test_file_that_holds_no_settings_is_named(write, text, offence):
    write(text)
    assert f"mine.yml: {offence}" in refusal()
    assert "\n" not in refusal()


@pytest.mark.parametrize("text", ["", "dataset:", "dataset: [sample]"])
def test_file_that_names_no_dataset_is_named(write, text):
    write(text)
    assert re.search(r"mine\.yml: setting 'dataset' = .*: not the name of a dataset", refusal())


def test_unknown_experiment_brings_the_nearest(write):
    write("dataset: sample\n", "magnetic-tile")
    write("dataset: sample\n", "sample")
    assert list_experiments() == ["magnetic-tile", "sample"]
    assert "'magnetic'; did you mean 'magnetic-tile'" in refusal("magnetic")


@pytest.mark.parametrize("name", ["../../secret", "", "mine.yml", "/etc/passwd"])
def test_experiment_is_a_name_and_no_path(write, root, name):
    write("dataset: sample\n")
    (root / "secret.yml").write_text("dataset: sample\n")
    assert f"no experiment {name!r}" in refusal(name)


def test_unknown_dataset_is_named(write):
    write("dataset: smaple\n")
    assert re.search(r"mine\.yml: .*'smaple'; did you mean 'sample'.*dataset\.json", refusal())


def test_own_dataset_brings_its_description(write, root):
    info = make_info("mine", n_classes=3)
    (root / "input" / "mine").mkdir()
    (root / "input" / "mine" / "dataset.json").write_text(info.model_dump_json())
    write("dataset: mine\n")
    assert load_experiment("mine").info == info


def test_file_that_describes_no_dataset_is_named_with_the_experiment(write, root):
    (root / "input" / "mine").mkdir()
    (root / "input" / "mine" / "dataset.json").write_text("{}")
    write("dataset: mine\n")
    assert re.search(r"mine\.yml: .*input/mine/dataset\.json: does not describe a dataset", refusal())


def test_paths_carry_the_names(write, root):
    write("dataset: sample\n")
    run = load_experiment("mine")
    assert run.input == root / "input" / "sample"
    assert run.output == root / "output" / "mine"
    assert run.submission == root / "submissions" / "mine.csv"


def test_a_missing_product_is_named_with_the_target_that_makes_it(write, root):
    write("dataset: sample\n")
    run = load_experiment("mine")
    assert run.require(root / "input", "input") == root / "input"
    with pytest.raises(ConfigError, match=r"model\.keras is missing: `make train EXPERIMENT=mine` writes it"):
        run.require(Path("output/mine/model.keras"), "train")


def test_experiment_is_frozen(write):
    write("dataset: sample\n")
    with pytest.raises(ValidationError, match="frozen"):
        load_experiment("mine").seed = 3


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 3)])
def test_the_kept_epoch_is_the_first_of_the_best_or_the_last(keep, epoch):
    history = {"epoch": [0, 1, 2, 3], "val_foreground_dice": [0.1, 0.7, 0.7, 0.2]}
    assert TrainingSettings(keep=keep).kept_epoch(history) == epoch
    assert TrainingSettings(keep=keep).kept_epoch({"epoch": [0, 1], "val_foreground_dice": [np.nan] * 2}) == 1


@pytest.mark.parametrize(
    ("settings", "networks", "test", "infer", "folders"),
    [
        ({}, ["fold_0"], ["fold_0"], ["fold_0"], ["."]),
        ({"labels.validation_fold": 1}, ["fold_1"], ["fold_1"], ["fold_1"], ["."]),
        ({"training.last_fit": 2}, ["fold_0", "last"], ["fold_0", "last"], ["last"], ["fold_0", "."]),
        (
            {"labels.validation_fold": "every"},
            ["fold_0", "fold_1"],
            ["fold_0", "fold_1"],
            ["fold_0", "fold_1"],
            ["fold_0", "fold_1"],
        ),
        (
            {"labels.validation_fold": "every", "training.last_fit": 2},
            ["fold_0", "fold_1", "last"],
            ["fold_0", "fold_1", "last"],
            ["last"],
            ["fold_0", "fold_1", "."],
        ),
    ],
)
def test_folds_and_last_fit_say_which_networks_there_are_and_what_each_predicts(
    write, settings, networks, test, infer, folders
):
    write("dataset: sample\nlabels: {n_folds: 2}\ntraining: {schedule: {name: cosine}, keep: last}\n")
    run = load_experiment("mine", settings)
    assert list(run.networks) == networks
    assert list(run.test_networks()) == test
    assert list(run.infer_networks) == infer
    assert [run.network_folder(name) for name in networks] == [run.output / folder for folder in folders]
    # Where the labels of the test part are at hand, what has seen them does not predict it.
    run.input.mkdir(parents=True)
    (run.input / "solution.csv").touch()
    assert list(run.test_networks()) == [name for name in networks if name != "last"]


def test_a_network_that_the_experiment_does_not_have_is_refused(write):
    write("dataset: sample\n")
    with pytest.raises(ConfigError, match="network 'fold_3' is none of fold_0"):
        load_experiment("mine", {"network": "fold_3"})


def test_a_last_fit_has_no_validation_that_could_reduce_its_rate(write):
    write("dataset: sample\ntraining: {last_fit: 3}\n")
    with pytest.raises(ConfigError, match=r"schedule\.name=reduce needs: choose cosine"):
        load_experiment("mine")


def test_an_arm_of_an_ablation_writes_into_a_folder_of_its_own(write):
    write("dataset: sample\n")
    run, arm = load_experiment("mine"), load_experiment("mine", {"variant": "lite2"})
    assert arm.output == run.output / "ablation" / "lite2"
    assert arm.submission.parent == arm.output


@pytest.mark.parametrize(
    "more", ["keep: last", "schedule: {name: cosine}", "keep: last, schedule: {name: reduce}"]
)
def test_folds_that_are_measured_choose_neither_epoch_nor_rate(write, more):
    write(f"dataset: sample\nlabels: {{validation_fold: every}}\ntraining: {{{more}}}\n")
    assert refusal().endswith(
        "labels.validation_fold=every measures each fold, so none may choose an epoch or a rate: set "
        "training.keep=last and training.schedule.name=cosine"
    )


def test_a_command_s_settings_are_refused_in_a_file(write):
    for setting in ("network: fold_0", "variant: lite2"):
        write(f"dataset: sample\n{setting}\n")
        assert "a command gives it" in refusal()


def test_a_loss_is_given_as_a_whole(write):
    write("dataset: sample\ntraining: {loss: {focal: 2, dice: 1}}\n")
    assert load_experiment("mine", {"training": {"loss": {"lovasz": 1}}}).training.loss == {"lovasz": 1}
    assert load_experiment("mine", {"training.loss.focal": 3}).training.loss == {"focal": 3, "dice": 1}


def test_parts_are_balanced_among_images_that_are_drawn(write):
    write("dataset: sample\ndata: {balance: part}\n")
    assert "'data.balance' does not apply where images are shown once each: set training.steps" in refusal()
    assert load_experiment("mine", {"training.steps": 3}).data.balance == "part"


def test_members_of_an_ensemble_are_other_experiments(write):
    write("dataset: sample\n", "crack")
    for members, offence in (("[crak]", "'crak'; did you mean 'crack'?"), ("[crack, mine]", "'mine'; ")):
        write(f"dataset: sample\nmembers: {members}\n")
        assert f"mine.yml: setting 'members': no other experiment {offence}" in refusal()
    write("dataset: sample\nmembers: [crack]\n")
    assert [part.name for part in load_experiment("mine").load_parts()] == ["crack"]


def test_a_multiclass_head_is_refused_where_classes_may_overlap(write, root):
    info = make_info("mine").model_copy(update={"exclusive": False})
    (root / "input" / "mine").mkdir()
    (root / "input" / "mine" / "dataset.json").write_text(info.model_dump_json())
    write("dataset: mine\nmodel: {head: multiclass}\n")
    assert refusal().endswith("mine.yml: classes of mine may overlap: set model.head=multilabel")
    assert load_experiment("mine", {"model.head": "multilabel"}).model.head == "multilabel"


@pytest.mark.parametrize(
    ("model", "stride"),
    [
        ({"name": "unet", "widths": [4, 8], "up_widths": [4]}, 2),
        ({"name": "unet"}, 32),
        ({"name": "encoder_unet"}, 32),
        ({"name": "backbone_unet"}, 32),
        ({"name": "flexunet", "levels": 7}, 64),
    ],
)
def test_images_that_would_be_padding_for_the_deepest_features_are_refused(write, model, stride):
    write("dataset: sample\n")
    fits = {"model": model, "data.shape": [max(16, stride // 2 + 1), 96]}
    tiles = {"predict.tiles": {"shape": [96, 32], "overlap": 4}}
    assert load_experiment("mine", fits).stride == stride
    if stride < 64:
        load_experiment("mine", {**fits, **tiles})
        return
    said = "32 pixels are too few where flexunet has one deepest feature for 64: give more than 32"
    for small in ({**fits, "data.shape": [96, 32]}, {**fits, **tiles}):
        assert said in refusal(overrides=small)


def test_the_stride_of_a_network_is_what_it_pads_to(write):
    from defectmill.models import build_model
    from defectmill.models.layers import PadToMultiple

    write("dataset: sample\n")
    for model in (
        {"name": "unet", "widths": [4, 4, 4], "up_widths": [4, 4]},
        {"name": "encoder_unet", "pretrained": False, "up_widths": [8, 8, 8, 8]},
        {"name": "flexunet", "filters": 2, "levels": 4},
    ):
        run = load_experiment("mine", {"model": model})
        (pad,) = [layer for layer in build_model(run).layers if isinstance(layer, PadToMultiple)]
        assert pad.factor == run.stride


def test_a_batch_that_no_machine_holds_is_refused(write):
    write("dataset: sample\ndata: {shape: [64, 128]}\n")
    most = LARGEST_STEP // (64 * 128)
    assert load_experiment("mine", {"training.batch_size": most}).training.batch_size == most
    said = refusal(overrides={"training.batch_size": most + 1})
    assert f"setting 'training.batch_size' = {most + 1}: with data.shape=[64, 128] a step has" in said
