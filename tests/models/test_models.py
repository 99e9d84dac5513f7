import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.files import DefectmillError
from defectmill.models import build_model, find_broken_weight, list_layers, load_model, load_networks
from defectmill.models.encoder_unet import build_encoder_unet
from defectmill.models.flexunet import build_flexunet
from defectmill.models.layers import normalize
from defectmill.models.pretrained import encoder_weights
from defectmill.models.unet import build_unet
from defectmill.settings import EncoderUnetSettings, FlexunetSettings, UnetSettings
from fake_competition import write_fake_competition
from fake_maps import save_network

TINY = UnetSettings(widths=(4, 6), up_widths=(4,))
NARROW = {"up_widths": (8, 8, 8, 8)}


def encoder_unet(n_classes=1, channels=1, **settings):
    return build_encoder_unet(EncoderUnetSettings(**settings), n_classes, channels)


def flexunet(n_classes=1, channels=3, **settings):
    return build_flexunet(FlexunetSettings(head="multiclass", **settings), n_classes, channels)


def test_the_default_unet_is_the_capstones():
    assert build_unet(UnetSettings(), 4, 1).count_params() == 600_612


@pytest.mark.parametrize(
    ("n_classes", "kernel", "parameters"), [(5, 11, 126_809_286), (1, 9, 124_996_866), (5, 9, 124_996_934)]
)
def test_flexunet_has_the_parameters_of_its_experiments(n_classes, kernel, parameters):
    assert flexunet(n_classes, kernel=kernel, dropout=0.05).count_params() == parameters


def test_flexunet_shrinks_kernels_and_dilation_and_raises_dropout_level_by_level():
    model = flexunet(2, filters=4, kernel=7, levels=4, dilation=3, dropout=0.1)
    convolutions = [w for w in model.layers if type(w) is keras.layers.Conv2D][:-1]
    down, up = convolutions[:8], convolutions[8:]
    for level, pair in enumerate(zip(down[::2], down[1::2], strict=True)):
        for layer in pair:
            assert layer.kernel_size == (max(3, 7 - 2 * level),) * 2
            assert layer.filters == 4 * 2**level
            assert layer.dilation_rate == (max(1, 3 - level),) * 2
    assert [w.kernel_size for w in up] == [w.kernel_size for w in down[5::-1]]
    rates = [w.rate for w in model.layers if isinstance(w, keras.layers.Dropout)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.1])


def test_flexunet_without_rescaling_sees_raw_grey_levels():
    image = np.full((1, 16, 24, 3), 255, np.float32)
    outputs = []
    for rescale, shown in ((False, image / 255), (True, image)):
        keras.utils.set_random_seed(0)
        outputs.append(flexunet(filters=2, levels=2, rescale=rescale).predict_on_batch(shown))
    np.testing.assert_allclose(*outputs, atol=1e-5)


NETWORKS = {
    "unet": {"widths": [4, 6, 8], "up_widths": [6, 4]},
    "unet group": {"widths": [8, 16], "up_widths": [8], "normalization": "group", "dropout": 0.1},
    "encoder_unet": {"up_widths": [8, 8, 8, 8], "normalization": "batch"},
    "encoder_unet five": {"up_widths": [8, 8, 8, 8, 4]},
    "backbone_unet": {"backbone": "MobileNet", "up_widths": [8, 8, 8, 8]},
    "flexunet": {"filters": 4, "kernel": 5, "levels": 4, "dilation": 2, "dropout": 0.05},
    "flexunet batch": {"filters": 2, "levels": 3, "normalization": "batch"},
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("head", ["multilabel", "multiclass"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_output_has_the_size_of_the_input(network, head, channels):
    settings = {"name": network.split()[0], "head": head, **NETWORKS[network]}
    model = build_model(load_experiment("sample", {"model": settings, "data.channels": channels}))
    rng = np.random.default_rng(0)
    for shape in ((37, 53), (64, 96)):
        images = rng.uniform(0, 255, (1, *shape, channels)).astype(np.float32)
        probs = model.predict_on_batch(images)
        assert probs.shape == (1, *shape, 5 if head == "multiclass" else 4)
        assert 0 <= probs.min() <= probs.max() <= 1
        if head == "multiclass":
            np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-5)


def test_padding_repeats_the_edge_and_is_cut_off_again():
    model = build_unet(TINY, 1, 1)
    image = np.random.default_rng(1).uniform(0, 255, (1, 9, 14, 1)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (0, 1), (0, 0), (0, 0)), mode="edge")
    np.testing.assert_allclose(
        model.predict_on_batch(image), model.predict_on_batch(padded)[:, :9], atol=1e-6
    )


def test_frozen_parts_fold_their_batch_normalisation_and_compute_the_same():
    image = np.random.default_rng(2).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    features = []
    for frozen, last in ((0, "stage6_0_project_norm"), (8, "stage6_0_project")):
        model = encoder_unet(2, channels=3, frozen=frozen)
        model = keras.Model(model.inputs, model.get_layer(last).output)
        features.append(model.predict_on_batch(image))
    np.testing.assert_allclose(*features, rtol=1e-3, atol=1e-3 * np.abs(features[0]).max())


def test_frozen_parts_of_the_encoder_do_not_train():
    model = encoder_unet(**NARROW, frozen=3)
    frozen = {v.path.split("_")[0] for v in model.non_trainable_variables if "kernel" in v.path}
    assert {name.split("/")[0] for name in frozen} == {"stem", "stage0", "stage1"}
    trained = {v.path.split("_")[0] for v in model.trainable_variables if v.path.startswith("st")}
    assert trained == {f"stage{n}" for n in range(2, 7)}


def test_a_grey_image_gives_the_stem_what_three_equal_channels_would():
    stems = []
    for channels in (1, 3):
        model = encoder_unet(channels=channels, frozen=1)
        stem = keras.Model(model.inputs, model.get_layer("stem").output)
        grey = np.linspace(0, 255, 32 * 64, dtype=np.float32).reshape(1, 32, 64, 1)
        stems.append(stem.predict_on_batch(np.repeat(grey, channels, axis=-1)))
    np.testing.assert_allclose(stems[0], stems[1], atol=1e-4)


def test_pretrained_weights_are_in_place_and_can_be_left_out():
    wanted = encoder_weights("lite0")["_blocks.1._expand_conv.weight"].transpose(2, 3, 1, 0)
    with_weights, without = (
        encoder_unet(**NARROW, pretrained=pretrained).get_layer("stage1_0_expand").get_weights()[0]
        for pretrained in (True, False)
    )
    np.testing.assert_array_equal(with_weights, wanted)
    assert not np.array_equal(without, wanted)


def test_layers_are_listed_with_the_size_of_their_output():
    layers = list_layers(build_unet(TINY, 2, 1), (16, 26)).set_index("layer")
    assert list(layers["height"]) == [16, 16, 8, 8, 16, 16, 16, 16]
    assert list(layers["width"]) == [26, 26, 13, 13, 26, 26, 26, 26]
    assert list(layers["channels"]) == [4, 4, 6, 6, 4, 4, 4, 2]
    assert layers.loc["logits", "parameters"] == 4 * 2 + 2


def test_classes_come_from_the_dataset_and_weights_from_the_seed():
    settings = {"model.name": "unet", "model.widths": [4, 6], "model.up_widths": [4], "seed": 5}
    one, two = (build_model(load_experiment("sample", settings)) for _ in range(2))
    assert one.output_shape == (None, None, None, 4)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_saved_model_loads_in_a_process_that_built_none_and_predicts_the_same(tmp_path):
    model = build_unet(TINY.model_copy(update={"head": "multiclass"}), 2, 1)
    model.save(tmp_path / "model.keras")
    image = np.full((1, 11, 17, 1), 99, np.float32)
    np.save(tmp_path / "probs.npy", model.predict_on_batch(image))
    code = (
        "import sys, numpy as np; from defectmill.models import load_model; "
        "probs = load_model(sys.argv[1], None).predict_on_batch(np.full((1, 11, 17, 1), 99, np.float32)); "
        "np.testing.assert_array_equal(probs, np.load(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, tmp_path / "model.keras", tmp_path / "probs.npy"]
    subprocess.run(command, check=True)


def test_a_missing_or_broken_model_is_named(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    for name in ("missing.keras", "broken.keras"):
        with pytest.raises(ConfigError, match=name):
            load_model(tmp_path / name, load_experiment("sample"))


@pytest.fixture
def foreign(tmp_path):
    """A network with input and probabilities, and its file as a Keras writes it that knows more."""
    run = load_experiment("sample", {"model.name": "unet", "model.widths": [4, 6], "model.up_widths": [4]})
    model, image = build_model(run.model_copy(update={"seed": 7})), np.full((1, 11, 17, 1), 99, np.float32)
    model.save(tmp_path / "own.keras")
    with (
        zipfile.ZipFile(tmp_path / "own.keras") as own,
        zipfile.ZipFile(tmp_path / "foreign.keras", "w") as other,
    ):
        for name in own.namelist():
            text = own.read(name)
            if name == "config.json":
                text = text.replace(b'"seed": null', b'"seed": null, "of_later": [1]')
                assert b"of_later" in text
            other.writestr(name, text)
    return run, tmp_path / "foreign.keras", image, model.predict_on_batch(image)


def test_a_network_that_another_keras_wrote_is_built_by_the_settings_and_gets_its_weights(foreign):
    run, path, image, probs = foreign
    with pytest.raises(TypeError):
        keras.models.load_model(path, compile=False)
    np.testing.assert_array_equal(load_model(path, run).predict_on_batch(image), probs)


def test_a_network_that_another_keras_wrote_and_that_is_of_other_settings_is_refused(foreign):
    wider = load_experiment("sample", {"model.name": "unet", "model.widths": [4, 8], "model.up_widths": [4]})
    with pytest.raises(
        ConfigError, match=r"foreign\.keras: not a model: .*nor weights of the network that sample has"
    ):
        load_model(foreign[1], wider)


def test_a_network_whose_weights_are_read_next_asks_for_no_others(root):
    (root / "notebooks" / "experiments" / "e.yml").write_text(
        "dataset: sample\nmodel: {name: backbone_unet, backbone: MobileNetV2, weights: gone.h5}\n"
    )
    run = load_experiment("e")
    with pytest.raises(ConfigError, match=r"gone\.h5"):
        build_model(run)
    assert build_model(run, pretrained=False).name == "backbone_unet"


def test_a_model_that_brings_code_along_is_refused_and_none_is_run(tmp_path):
    made = tmp_path / "made"
    inputs = keras.Input((4, 6, 1))
    run_code = eval(f"lambda x, path={str(made)!r}: (open(path, 'w').close(), x)[1]")
    model = keras.Model(inputs, keras.layers.Lambda(run_code, output_shape=(4, 6, 1))(inputs))
    made.unlink(missing_ok=True)
    model.save(tmp_path / "code.keras")
    made.unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"code\.keras: not a model: .*[Ll]ambda") as error:
        load_model(tmp_path / "code.keras", load_experiment("sample"))
    assert not made.exists()
    assert "\n" not in str(error.value)


def test_a_damaged_model_is_refused_wherever_it_is_damaged(tmp_path):
    build_unet(TINY, 2, 1).save(tmp_path / "whole.keras")
    data = (tmp_path / "whole.keras").read_bytes()
    for kept in (0, 10, len(data) // 2, len(data) - 30):
        (tmp_path / "torn.keras").write_bytes(data[:kept])
        with pytest.raises(ConfigError, match=r"torn\.keras: not a model: .*; make train writes it"):
            load_model(tmp_path / "torn.keras", load_experiment("sample"))
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    config = members["config.json"]
    odd = [
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        config.replace(b'"Conv2D"', b'"Conf2D"'),
        config.replace(b"[", b"{"),
    ]
    for changed in odd:
        with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
            for name, content in (members | {"config.json": changed}).items():
                archive.writestr(name, content)
        with pytest.raises(ConfigError, match=r"odd\.keras: not a model"):
            load_model(tmp_path / "odd.keras", load_experiment("sample"))
    os.mkfifo(tmp_path / "pipe.keras")
    with pytest.raises(DefectmillError, match=r"pipe\.keras: cannot be read \(it is a pipe"):
        load_model(tmp_path / "pipe.keras", load_experiment("sample"))


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_model_whose_weights_are_not_finite_is_refused(tmp_path, bad):
    model = build_unet(TINY, 2, 1)
    kernel = model.get_layer("logits").kernel
    kernel.assign(np.where(np.arange(8).reshape(kernel.shape) < 3, bad, 0))
    model.save(tmp_path / "broken.keras")
    with pytest.raises(
        ConfigError, match=r"broken\.keras: .*nan or inf, first logits/kernel \(3 of 8 values\)"
    ):
        load_model(tmp_path / "broken.keras", load_experiment("sample"))
    kernel.assign(np.zeros(kernel.shape))
    model.save(tmp_path / "mended.keras")
    assert find_broken_weight(load_model(tmp_path / "mended.keras", load_experiment("sample"))) == ""


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (12, 1), (16, 2), (28, 2), (44, 4), (13, 1)])
def test_groups_of_eight_channels_or_the_next_number_that_divides(channels, groups):
    inputs = keras.Input((4, 6, channels))
    model = keras.Model(inputs, normalize(inputs, "group"))
    assert model.layers[-1].groups == groups


@pytest.fixture
def networks(root):
    """Experiment `e` with two networks of folds and one of a last fit, which give one probability each."""
    write_fake_competition(root / "input" / "fake")
    (root / "notebooks" / "experiments" / "e.yml").write_text(
        "dataset: fake\nlabels: {n_folds: 2, validation_fold: every}\n"
        "training: {last_fit: 1, keep: last, schedule: {name: cosine}}\n"
    )
    inputs = keras.Input((None, None, 1))
    for n, name in enumerate(("fold_0", "fold_1", "last"), 1):
        level = keras.layers.Rescaling(0.0, offset=n / 10)(inputs)
        save_network("e", keras.Model(inputs, keras.layers.Concatenate()([level, level])), name)
    return load_experiment("e")


def levels(run, task) -> list[float]:
    image = np.zeros((1, 4, 6, 1), np.float32)
    return [
        round(float(model.predict_on_batch(image)[0, 0, 0, 0]), 2) for _, model in load_networks(run, task)
    ]


def test_folds_predict_the_test_part_whose_labels_are_known_and_the_last_fit_all_else(networks):
    assert levels(networks, "fold_1") == [0.2]
    assert [run.network for run, _ in load_networks(networks, "test")] == ["fold_0", "fold_1"]
    assert levels(networks, "test") == [0.1, 0.2]
    assert levels(networks, "infer") == [0.3]
    (networks.input / "solution.csv").unlink()
    assert levels(networks, "test") == [0.1, 0.2, 0.3]


def test_a_network_that_was_trained_otherwise_is_refused(networks):
    other = load_experiment("e", {"data.scale": 0.5})
    with pytest.raises(
        ConfigError, match=r"fold_0/model\.keras: is .*'scale': 1\.0.* wanted .*'scale': 0\.5"
    ):
        load_networks(other, "fold_0")
    # output/e/model.keras is that of the last fit; one fold alone would take it for its own.
    with pytest.raises(ConfigError, match=r"e/model\.keras: is .*'network': 'last'.* wanted .*'fold_0'"):
        load_networks(load_experiment("e", {"labels.validation_fold": 0, "training.last_fit": 0}), "fold_0")
    stamp = networks.output / "trained.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "sha256": "of another file"}))
    with pytest.raises(ConfigError, match=r"e/model\.keras: not the network that trained\.json beside it"):
        load_networks(networks, "infer")
    stamp.unlink()
    with pytest.raises(ConfigError, match=r"trained\.json is missing: `make train EXPERIMENT=e`"):
        load_networks(networks, "infer")
