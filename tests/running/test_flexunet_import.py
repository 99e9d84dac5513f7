"""FlexUNet's configuration files, translated and called out."""

import time

import pytest
import yaml

from defectmill.config import ConfigError, load_experiment
from defectmill.dataset_info import builtin_datasets
from defectmill.files import DefectmillError
from defectmill.running.flexunet_import import compare_readme, import_config, read_literal_ini, translate

TILE = """\
; a comment
[model]
model          = "TensorflowFlexUNet"
generator      = False
image_width    = 512   ; its width
image_height=384
image_channels = 3
input_normalize = True
normalization  = False
num_classes    = 6
base_filters   = 16
base_kernels   = (9,9)
num_layers     = 7
dropout_rate   = 0.04
optimizer      = "Adam"
learning_rate  = 0.00007
clipvalue      = 0.4
dilation       = (2,2)
loss           = "categorical_crossentropy"
metrics        = ["dice_coef_multiclass"]
show_summary   = False
[train]
epochs = 100
batch_size = 2
patience = 10
images_dir = "../../dataset/train/images/"
learning_rate_reducer = True
reducer_factor = 0.4
reduer_patience = 7
epoch_change_infer = True
epoch_change_infer_dir = "./epoch_change_infer"
num_infer_images = 5
create_backup = False
[mask]
rgb_map = {(0,0,0):0,(0,0,255):1,
  (255,0,0):2,
(0,255,0):3,(255,255,0):4,(0,255,255):5,}
[deformation]
alpah = 1300
"""


@pytest.fixture
def config_file(tmp_path):
    def write(text: str = TILE, end: str = "\n"):
        path = tmp_path / "My Tiles" / "train_eval_infer.config"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.replace("\n", end).encode())
        return path

    return write


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_values_are_python_literals_over_several_lines(config_file, end):
    config = read_literal_ini(config_file(end=end))
    assert config["model.base_kernels"] == (9, 9)
    assert config["model.image_width"] == 512
    assert config["model.metrics"] == ["dice_coef_multiclass"]
    assert config["mask.rgb_map"][0, 255, 255] == 5


def test_code_is_never_run(config_file, tmp_path):
    text = TILE.replace('"Adam"', f"open('{tmp_path / 'made'}', 'w')")
    with pytest.raises(ConfigError, match=r"\[model\] optimizer = open.*not a Python literal"):
        read_literal_ini(config_file(text))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("epochs 100", "epochs 100"),
        ("epochs = 100\nepochs = 50", "epochs"),
        ("epochs = ten", "ten"),
        ("epochs = {[]: 1}", "not a Python literal"),
        ("epochs = " + "(" * 3000, "not a Python literal"),
        ("epochs = " + "-" * 5000 + "1", "not a Python literal"),
        ("epochs = {1, 2}", "lists or dicts of them are read"),
        ("epochs = [b'1']", "lists or dicts of them are read"),
        ("epochs = 1e400", "numbers below"),
        ("epochs = 1j", "lists or dicts of them are read"),
        ("epochs = ...", "lists or dicts of them are read"),
        ("epochs = " + "9" * 5000, "not a Python literal"),
        ("epochs = \0", "not a Python literal"),
    ],
)
def test_broken_line_is_named(config_file, wrong, said):
    with pytest.raises(ConfigError, match=said):
        read_literal_ini(config_file(TILE.replace("epochs = 100", wrong)))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.config: no such file"):
        read_literal_ini(tmp_path / "no.config")


def test_every_value_reaches_its_setting(config_file):
    settings, colours, _ = translate(read_literal_ini(config_file()))
    assert colours == builtin_datasets()["mvtec-tile"].colours
    assert settings == {
        "model.name": "flexunet",
        "model.head": "multiclass",
        "data.mode": "resize",
        "data.shape": [384, 512],
        "data.channels": 3,
        "data.augment": "none",
        "model.filters": 16,
        "model.kernel": 9,
        "model.levels": 7,
        "model.dropout": 0.04,
        "model.dilation": 2,
        "model.activation": "relu",
        "model.rescale": True,
        "model.normalization": "none",
        "training.learning_rate": 7e-5,
        "training.clipvalue": 0.4,
        "training.loss": {"cross_entropy": 1.0},
        "training.metrics": ["soft_pixel_accuracy"],
        "training.epochs": 100,
        "training.batch_size": 2,
        "training.early_stop": 10,
        "training.schedule.name": "reduce",
        "training.schedule.factor": 0.4,
        "training.schedule.patience": 4,
        "training.previews": 5,
    }


def test_what_is_switched_changes_its_setting(config_file):
    text = TILE.replace("generator      = False", "generator = True").replace(
        "reducer = True", "reducer = False"
    )
    text = text.replace("normalization  = False", "normalization = True").replace(
        "infer = True", "infer = False"
    )
    text = text.replace('"categorical_crossentropy"', '"bce_dice_loss"').replace("_multiclass", "")
    settings, _, said = translate(read_literal_ini(config_file(text)))
    assert (settings["data.augment"], settings["model.normalization"]) == ("flexunet", "batch")
    assert settings["training.schedule.name"] == "constant"
    assert "training.schedule.factor" not in settings
    assert settings["training.previews"] == 0
    assert settings["training.loss"] == {"cross_entropy": 1.0, "batch_dice": 1.0}
    assert settings["training.metrics"] == ["batch_dice"]
    assert "[train] reducer_factor: not needed: learning_rate_reducer is off" in said
    assert "[deformation] alpah: not needed: data.augment has its own ranges" in said


@pytest.mark.parametrize("key", ["epoch_change_tiledinfer", "epoch_change_tiled_infer"])
def test_tiles_are_taken_where_the_previews_are_tiled(config_file, key):
    tiles = "[tiledinfer]\noverlapping = 128\n"
    text = TILE.replace("epoch_change_infer = True", f"{key} = True") + tiles
    settings, _, said = translate(read_literal_ini(config_file(text)))
    assert settings["predict.tiles.shape"] == [512, 512]
    assert settings["predict.tiles.overlap"] == 128
    assert "[tiledinfer] overlapping: predict.tiles.overlap = 128" in said
    settings, _, said = translate(read_literal_ini(config_file(TILE + tiles)))
    assert "predict.tiles.overlap" not in settings
    assert "[tiledinfer] overlapping: not needed: nothing is tiled" in said


def test_every_key_has_a_fate_and_a_typo_is_called_out(config_file):
    config = read_literal_ini(config_file())
    _, _, said = translate(config)
    assert len(said) == len(config)
    assert "[model] base_kernels: model.kernel = 9" in said
    assert "[model] show_summary: not needed: does nothing in FlexUNet either" in said
    assert "[train] images_dir: not needed: make input RAW=<folder> says where the images are" in said
    assert "[deformation] alpah: not needed: generator is off, so it is never used" in said
    typo = "UNKNOWN, not translated; did you mean 'reducer_patience'? FlexUNet took its default"
    assert f"[train] reduer_patience: {typo}" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("num_classes    = 6", "num_classes = 9", "num_classes = 9, but rgb_map has 6"),
        ('"categorical_crossentropy"', '"iou_loss"', "loss 'iou_loss' has no equivalent"),
        ('"Adam"', '"AdamW"', "there is Adam only"),
        ("(9,9)", "(9,7)", r"\(9, 7\): kernels and dilations here are square"),
        ("(0,255,255):5", "(0,255,255):6", "classes count from 1"),
        ("rgb_map", "rgbmap", "rgb_map = None: no colours"),
        ('["dice_coef_multiclass"]', "True", "metric True has no equivalent"),
        ('["dice_coef_multiclass"]', "[[]]", r"metric \[\] has no equivalent"),
        ('"categorical_crossentropy"', "{'a': [1]}", r"loss \{'a': \[1\]\} has no equivalent"),
        ("(9,9)", "()", r"\(\): kernels and dilations here are square"),
        ("(9,9)", "([9],9)", r"\(\[9\], 9\): kernels and dilations here are square"),
        ("(0,0,0):0", "0:0", "black is 0 and classes count from 1"),
        ("(0,0,0):0", "(0,0,0):'0'", "black is 0 and classes count from 1"),
        ("(0,0,0):0", "(0,0,0):False", "black is 0 and classes count from 1"),
        ("(0,0,255):1", "(0,0,255):[1]", "black is 0 and classes count from 1"),
    ],
)
def test_what_has_no_equivalent_is_refused(config_file, old, new, said):
    with pytest.raises(ConfigError, match=said):
        translate(read_literal_ini(config_file(TILE.replace(old, new))))


def test_readme_that_disagrees_is_quoted(config_file):
    config = read_literal_ini(config_file())
    readme = "<pre>\n[model]\nnum_classes    = 9\nnum_layers = 6\nepochs = 100\nother = 3\n</pre>"
    assert compare_readme(config, readme) == [
        "num_classes: the README says 9, the file 6",
        "num_layers: the README says 6, the file 7",
    ]


def test_known_colours_give_the_known_dataset_and_the_file_loads(root, config_file):
    said = import_config(config_file())
    experiment = load_experiment("my-tiles")
    assert experiment.dataset == "mvtec-tile"
    assert experiment.model.kernel == 9
    assert "reduer_patience: UNKNOWN" in said
    assert not list((root / "input").iterdir())
    with pytest.raises(ConfigError, match=r"my-tiles\.yml exists"):
        import_config(config_file())


def test_other_colours_become_a_dataset_of_ones_own(root, config_file):
    path = config_file(TILE.replace("(0,255,255)", "(9,8,7)"))
    assert f"{root}/input/mine/info.json names them; change that to your names" in import_config(path, "mine")
    experiment = load_experiment("mine")
    assert experiment.dataset == "mine"
    assert experiment.info.colours[-1] == (9, 8, 7)
    assert experiment.info.class_names[0] == "class 1"
    settings = yaml.safe_load((root / "notebooks" / "experiments" / "mine.yml").read_text())
    assert settings["data"]["shape"] == [384, 512]
    assert settings["training"]["schedule"] == {"name": "reduce", "factor": 0.4, "patience": 4}


def test_no_experiment_is_left_where_a_value_does_not_fit(root, config_file):
    with pytest.raises(ConfigError, match=r"model\.levels"):
        import_config(config_file(TILE.replace("num_layers     = 7", "num_layers = 70")))
    assert not list((root / "notebooks" / "experiments").iterdir())


@pytest.mark.parametrize("colour", ["(256,0,0)", "(-1,0,0)", "(1,2)", "(1,2,3,4)", "('a',2,3)", "(1,2,(3,))"])
def test_a_colour_that_is_none_is_refused_and_nothing_is_left(root, config_file, colour):
    with pytest.raises(ConfigError, match=r"\[mask\] rgb_map has .* whole numbers from 0 to 255"):
        import_config(config_file(TILE.replace("(0,255,255)", colour)), "mine")
    assert not [*root.rglob("*.yml"), *root.rglob("*.json")]


def test_a_value_of_another_kind_is_refused_and_nothing_is_left(root, config_file):
    text = TILE.replace("(0,255,255)", "(9,8,7)").replace("epochs = 100", "epochs = {'a': (1, None)}")
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        import_config(config_file(text), "mine")
    assert not [*root.rglob("*.yml"), *root.rglob("*.json")]


def test_a_description_that_is_there_is_kept(root, config_file):
    described = root / "input" / "mine" / "info.json"
    import_config(config_file(TILE.replace("(0,255,255)", "(9,8,7)")), "mine")
    own = described.read_text().replace("class 1", "dent")
    described.write_text(own)
    (root / "notebooks" / "experiments" / "mine.yml").unlink()
    import_config(config_file(TILE.replace("(0,255,255)", "(9,8,6)")), "mine")
    assert described.read_text() == own


@pytest.mark.parametrize("name", ["../out", "a/b", "a b"])
def test_a_name_that_leaves_the_folder_is_refused(root, config_file, name):
    with pytest.raises(DefectmillError, match=r"EXPERIMENT=.*: one word of letters"):
        import_config(config_file(), name)


def test_a_readme_of_empty_lines_is_read_at_once(config_file):
    started = time.perf_counter()
    assert compare_readme(read_literal_ini(config_file()), "\n" * 300_000 + " " * 300_000) == []
    assert time.perf_counter() - started < 5
