"""Exports of a tiny untrained network: refusals without the extra; with it, one whole export a format."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from defectmill.config import ConfigError
from defectmill.export import bundle, folder, graphs, parity
from defectmill.files import DefectmillError
from defectmill.split import load_split


def needs(kind: str):
    """Skip where a package of the extra is missing."""
    lacking = [package for package in graphs.NEEDS[kind] if find_spec(package) is None]
    return pytest.mark.skipif(bool(lacking), reason=f"needs {', '.join(lacking)}: {graphs.INSTALL}")


KINDS = [pytest.param(kind, marks=[needs(kind), pytest.mark.slow]) for kind in graphs.RUNTIMES]


@pytest.mark.parametrize(
    ("formats", "precisions", "why"),
    [
        ("", "", "FORMAT=: say one or more of onnx, openvino, litert"),
        ("onxx", "", "FORMAT=onxx: say one or more"),
        ("onnx", "int4", "PRECISION=int4: say one or more of float, int8"),
    ],
)
def test_what_is_no_format_is_refused(make_run, formats, precisions, why):
    with pytest.raises(ConfigError, match=why):
        folder.export(make_run({}), formats, precisions)


def test_a_missing_package_is_one_line_that_says_how_to_install_it(make_run, monkeypatch):
    monkeypatch.setattr(graphs, "find_spec", lambda name: None if name == "ai_edge_litert" else name)
    run = make_run({})
    with pytest.raises(
        ConfigError, match="FORMAT=litert needs the package ai-edge-litert: pip install"
    ) as told:
        folder.export(run, "litert")
    assert "'defectmill[export]'" in str(told.value)
    assert "\n" not in str(told.value)
    assert not (run.output / "export").exists()


def test_several_words_may_be_said_and_the_same_counts_once():
    known = ["onnx", "litert"]
    assert folder.parse_choice("litert,onnx litert", known, "FORMAT") == ["litert", "onnx"]


def test_the_golden_pictures_have_the_largest_defect_of_each_class_and_one_has_none(make_run):
    split = load_split(make_run({}))
    held = split.labels_of(split.validation)
    chosen = folder.pick_golden(split)
    classes = [sorted(held[(held["ImageId"] == image) & held["hasMask"]]["ClassId"]) for image in chosen]
    assert len(chosen) == len(set(chosen)) == 3
    assert classes[-1] == []
    assert {1, 2} == {found for some in classes for found in some}


def test_int8_is_calibrated_on_training_pictures_as_the_network_is_shown_them(make_run):
    run = make_run({"data.scale": 0.5, "predict.tiles": {"shape": [16, 24], "overlap": 4}})
    work = folder.Work(run, [], [None, None], load_split(run))
    part = run.model_copy(update={"network": "fold_0"})
    shown = bundle.describe_network(part, "network_0.onnx")
    samples = list(folder.sample_inputs(work, part, shown))
    assert len(samples) == 6  # the other fold
    assert {sample.shape for sample in samples} == {(1, 16, 24, 1)}
    assert {sample.dtype for sample in samples} == {np.dtype(np.float32)}


def compare_masks(expected: np.ndarray, found: np.ndarray, truth=None) -> parity.Comparison:
    one = parity.Comparison()
    one.add((expected * 0.9, found * 0.8), (expected, found), truth)
    return one


def test_a_comparison_counts_pixels_and_lost_dice():
    expected, found, truth = (np.zeros((4, 6, 2), np.uint8) for _ in range(3))
    expected[:2, :, 0] = truth[:2, :, 0] = found[:2, :3, 0] = 1
    one = compare_masks(expected, found, truth)
    assert (one.differing, one.mask_pixels, one.equal_masks, one.share) == (6, 12, 0, 0.5)
    assert one.largest_difference == pytest.approx(0.9)
    assert one.dice_loss == pytest.approx(1 - 12 / 18)
    one.add((expected, expected), (expected, expected), truth)
    assert (one.pictures, one.equal_masks, one.share) == (2, 1, 0.25)
    assert compare_masks(expected, found).dice_loss is None


def test_the_best_is_the_fastest_whose_masks_are_near_enough():
    alike, unlike, lossy = parity.Comparison(), parity.Comparison(), parity.Comparison()
    alike.mask_pixels = unlike.mask_pixels = lossy.mask_pixels = 1000
    unlike.differing = 21
    truth, bad = np.ones((10, 20, 1), np.uint8), np.ones((10, 20, 1), np.uint8)
    bad[0, :2] = 0
    lossy.counts = [(parity._count(truth, truth), parity._count(bad, truth))]
    assert lossy.dice_loss == pytest.approx(1 - 2 * 198 / 398)
    assert lossy.dice_loss > parity.LOST
    found = {"a": alike, "b": unlike, "c": lossy}
    latency = {"keras": 9.0, "a": 8.0, "b": 2.0, "c": 3.0}
    assert parity.choose_best(latency, found) == "a"
    unlike.differing = 20
    assert parity.choose_best(latency, found) == "b"
    assert parity.choose_best({**latency, "keras": 1.0}, found) == "keras"


def test_an_export_with_other_masks_is_refused_in_float32_alone():
    wrong = parity.Comparison(pictures=3, differing=2, mask_pixels=1000)
    folder.refuse_wrong({"onnx-int8": wrong})
    with pytest.raises(
        DefectmillError, match=r"onnx: 0\.20 % of the mask pixels differ from Keras's on 3 pictures"
    ):
        folder.refuse_wrong({"onnx": wrong})


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_finds_the_same_without_tensorflow_keras_and_this_package(make_run, tmp_path, kind):
    run = make_run({"model.head": "multiclass", "data.scale": 0.7, "predict.flips": ["horizontal"]})
    made = folder.export(run, kind, "float,int8")
    assert [path.name for path in made] == [kind, f"{kind}-int8"]
    report = json.loads((made[0] / "parity.json").read_text())
    assert report["pictures"] == 6
    assert report["largest_difference"] < 1e-4
    assert set(report["milliseconds"]["all"]) == {"keras", kind, f"{kind}-int8"}
    text = (made[0] / "README.md").read_text()
    assert "| keras |" in text or "| keras (best) |" in text
    pins = (made[0] / "requirements.txt").read_text().splitlines()
    assert [pin.partition("==")[0] for pin in pins] == [
        "numpy",
        "opencv-python-headless",
        graphs.RUNTIMES[kind],
    ]
    bundle.check_golden(made)
    forbidden = "import sys; sys.modules |= dict.fromkeys(['tensorflow', 'keras', 'defectmill', 'pandas']); "
    code = forbidden + "sys.argv = ['infer.py', sys.argv[1], sys.argv[2]]; exec(open('infer.py').read())"
    code = code.replace("exec(", "__file__ = 'infer.py'; exec(")
    pictures = run.input / "train_images"
    command = [sys.executable, "-c", code, str(pictures), str(tmp_path / "found")]
    done = subprocess.run(command, cwd=made[0], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "found" / "masks").iterdir())) == 12
