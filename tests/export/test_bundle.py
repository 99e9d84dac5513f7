"""The exported folder: its code does what this package does, to the byte; what it holds and refuses."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import defectmill
from defectmill.config import ConfigError, load_experiment
from defectmill.export import bundle
from defectmill.files import DefectmillError
from defectmill.images import read_image, write_image
from defectmill.prediction import inspection
from defectmill.prediction.inference import predict_probs
from defectmill.prediction.line import read_region
from defectmill.prediction.postprocess import ClassThreshold, make_masks
from defectmill.prediction.thresholds import read_thresholds
from fake_competition import make_info
from fake_maps import write_dark_finder

# What runtime.py of the dark finder is without any runtime: its class 1 is dark, its class 2 nothing.
RUNTIME = """
import numpy as np

def load_network(path, threads=0):
    return lambda x: np.concatenate([x * np.float32(-1 / 255) + 1, 0 * x], axis=-1)
"""


@pytest.fixture
def maps():
    return bundle.load_module(bundle.TEMPLATES / "maps.py")


@pytest.fixture
def defects():
    return bundle.load_module(bundle.TEMPLATES / "defects.py")


def draw_maps(seed: int, shape: tuple[int, int], n_classes: int) -> np.ndarray:
    """Smooth probabilities with components of all sizes, some with holes."""
    rng = np.random.default_rng(seed)
    rough = rng.random((*(-(-side // 4) for side in shape), n_classes))
    fine = np.kron(rough, np.ones((4, 4, 1)))[: shape[0], : shape[1]] + rng.normal(
        0, 0.1, (*shape, n_classes)
    )
    return fine.clip(0, 1).astype(np.float32)


def settings_of(info, thresholds, mm=None, ok_ng=None) -> dict:
    kinds = zip(info.classes, thresholds, strict=True)
    rows = [{"name": kind.name, "colour": list(kind.colour), **asdict(one)} for kind, one in kinds]
    values = {"classes": rows, "exclusive": info.exclusive, "mm_per_pixel": mm, "ok_ng": ok_ng or {}}
    return json.loads(json.dumps(values))


CALIBRATION = tuple(float(n) for n in np.linspace(0, 0.9, 256) ** 2)
THRESHOLDS = {
    "plain": [ClassThreshold(0.5, 0.5, 0), ClassThreshold(0.6, 0.6, 0), ClassThreshold(1.0, 1.0, 0)],
    "sure and large": [
        ClassThreshold(0.5, 0.95, 9),
        ClassThreshold(0.6, 0.99, 5),
        ClassThreshold(0.3, 0.8, 40),
    ],
    "weighted": [
        ClassThreshold(0.4, 0.5, 3, False, 2.0),
        ClassThreshold(0.4, 0.4, 3),
        ClassThreshold(0.5, 0.5, 2),
    ],
    "holes": [
        ClassThreshold(0.55, 0.7, 4, True),
        ClassThreshold(0.5, 0.5, 30, True),
        ClassThreshold(0.5, 0.5, 0),
    ],
    "of their own": [ClassThreshold(0.5, 0.5, 3, False, 1.0, d, CALIBRATION) for d in (0.2, 0.4, 0.99)],
}


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("kind", THRESHOLDS)
def test_masks_and_defects_are_those_of_make_infer(defects, kind, exclusive):
    info = make_info(n_classes=3).model_copy(update={"exclusive": exclusive})
    found = 0
    for seed, shape in enumerate([(37, 53), (41, 29), (6, 90)]):
        probs, settings = draw_maps(seed, shape, 3), settings_of(info, THRESHOLDS[kind], mm=0.12)
        masks = defects.cut_masks(probs, settings)
        np.testing.assert_array_equal(masks, make_masks(probs, THRESHOLDS[kind], exclusive))
        assert masks.dtype == np.uint8
        expected = inspection.list_defects("a.png", masks, probs, info, 0.12).to_dict("records")
        assert defects.list_defects("a.png", masks, probs, settings) == expected
        found += len(expected)
    assert found > 3


def test_the_code_knows_every_field_of_a_class_threshold():
    text = (bundle.TEMPLATES / "defects.py").read_text()
    assert [f.name for f in fields(ClassThreshold) if f'kind["{f.name}"]' not in text] == []


class Finder:
    """A "network" that is told apart from its mirror image and knows its tile: a Keras model's stand-in."""

    def predict_on_batch(self, batch):
        return np.stack([self.run(one[None])[0] for one in batch])

    def run(self, x):
        edges = np.abs(np.diff(x, axis=2, prepend=x[:, :, :1])).sum(axis=3, keepdims=True) / 900
        dark = 1 - x.mean(axis=3, keepdims=True) / 255
        return np.concatenate([0 * dark, dark, edges], axis=3).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize(
    "overrides",
    [
        {"data.scale": 0.5},
        {"predict.flips": ["horizontal", "vertical", "both"], "data.channels": 3},
        {"predict.scales": [0.5, 1.0, 1.7], "model.head": "multiclass"},
        {"predict.tiles": {"shape": [24, 32], "overlap": 6}, "predict.flips": ["both"]},
        {"data.mode": "resize", "data.shape": [32, 48], "model.head": "multiclass"},
    ],
    ids=str,
)
def test_probabilities_are_those_of_predict_probs(root, maps, overrides):
    write_dark_finder(root)
    run, finder = load_experiment("fake", overrides), Finder()
    image = np.random.default_rng(0).integers(0, 256, (37, 53, run.data.channels)).astype(np.uint8)
    shown = json.loads(json.dumps(bundle.describe_network(run, "n.onnx")))
    # Edges of what is padded do not count: the stand-in looks at one column to the left.
    np.testing.assert_array_equal(maps.predict(finder.run, image, shown), predict_probs(finder, image, run))


class Below(Finder):
    """Gives the grey of three rows below and columns right, which in a tile may be beyond the picture."""

    def run(self, x):
        return np.repeat(np.roll(x, (-3, -3), axis=(1, 2)) / np.float32(255), 2, axis=3)


def test_a_tile_that_is_larger_than_the_picture_is_extended_as_in_predict_probs(root, maps):
    write_dark_finder(root)
    run, below = load_experiment("fake", {"predict.tiles": {"shape": [64, 64], "overlap": 6}}), Below()
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 1)).astype(np.uint8)
    shown = bundle.describe_network(run, "n.onnx")
    np.testing.assert_array_equal(maps.predict(below.run, image, shown), predict_probs(below, image, run))


def test_a_network_gets_sides_that_it_takes_with_the_edge_repeated(maps):
    taken = []

    def run(x):
        taken.append(x)
        return np.repeat(x, 2, axis=3)

    shown = np.arange(15, dtype=np.float32).reshape(3, 5, 1)
    probs = maps.predict_padded(run, shown, {"stride": 4, "background": True})
    np.testing.assert_array_equal(probs, shown)
    assert taken[0].shape == (1, 4, 8, 1)
    assert taken[0][0, :, :, 0].tolist()[2:] == [[10, 11, 12, 13, 14, 14, 14, 14]] * 2
    with pytest.raises(ValueError, match="nan or inf"):
        maps.predict_padded(
            lambda x: x * np.nan, np.zeros((4, 4, 1), np.float32), {"stride": 4, "background": 0}
        )


@pytest.mark.parametrize(("channels", "bits"), [(1, 0), (3, 0), (1, 12), (3, 12)])
def test_pictures_are_read_as_read_image_does(maps, tmp_path, channels, bits):
    rng = np.random.default_rng(1)
    deep = rng.integers(0, 4096, (7, 11), np.uint16)
    import cv2

    for name, picture in (
        ("grey.png", rng.integers(0, 256, (7, 11), np.uint8)),
        ("colour.jpg", rng.integers(0, 256, (7, 11, 3), np.uint8)),
        ("clear.png", rng.integers(0, 256, (7, 11, 4), np.uint8)),
        ("deep.tif", deep),
    ):
        cv2.imwrite(str(tmp_path / name), picture)
        found = maps.read_picture(tmp_path / name, channels, bits)
        np.testing.assert_array_equal(found, read_image(tmp_path / name, channels, bits))
    (tmp_path / "no.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"no\.png: not a readable picture"):
        maps.read_picture(tmp_path / "no.png", channels, bits)
    with pytest.raises(ValueError, match="which 10 bits cannot"):
        maps.read_picture(tmp_path / "deep.tif", channels, 10)


LINES = {
    "nothing asked": {},
    "sizes": {"line.mm_per_pixel": 0.12},
    "polygons, rules": {
        "line.roi": "region.json",
        "line.mm_per_pixel": 0.5,
        "line.ok_ng": {"bar 1": {"area_mm2": 3.0, "length_mm": 9}},
    },
    "a picture, another rule": {"line.roi": "region.png", "line.ok_ng": {"bar 2": {"area": 2}}},
}


@pytest.mark.parametrize("asked", LINES)
def test_infer_py_writes_what_make_infer_writes_to_the_byte(root, monkeypatch, asked):
    write_dark_finder(root)
    monkeypatch.chdir(root)
    region = np.zeros((20, 33), np.uint8)
    region[2:18, 3:30] = 255
    write_image(root / "region.png", region[:, :, None])
    (root / "region.json").write_text("[[[3, 2], [29, 2], [29, 17], [3, 17]], [[0, 0], [2, 0], [0, 2]]]")
    draw = np.full((4, 20, 33), 255, np.uint8)
    draw[0, 4:9, 0:14] = draw[0, 12:14, 20:31] = 10  # one crosses the region's border
    draw[1, 19, 5:30] = 30  # outside
    draw[2, [5, 6, 7, 8, 8, 8], [6, 7, 8, 9, 10, 11]] = 0
    (root / "parts").mkdir()
    for number, picture in enumerate(draw):
        write_image(root / "parts" / f"part {number}.png", picture[:, :, None])
    (root / "parts" / "broken.png").write_bytes(b"no image")
    yml = root / "notebooks" / "experiments" / "fake.yml"
    line = {name.partition(".")[2]: value for name, value in LINES[asked].items()}
    yml.write_text(f"{yml.read_text()}line: {json.dumps(line)}\n")
    run = load_experiment("fake")
    defectmill.inspect("parts", "fake").save(root / "ours")
    folder = make_bundle(root, run)
    assert bundle.load_code(folder).inspect("parts", root / "theirs") == 1
    ours, theirs = root / "ours", root / "theirs"
    assert (theirs / "defects.csv").read_bytes() == (ours / "defects.csv").read_bytes()
    assert len(pd.read_csv(theirs / "defects.csv")) == (4 if "line.roi" not in LINES[asked] else 3)
    expected = pd.read_csv(ours / "pictures.csv", dtype=str, keep_default_na=False)
    found = pd.read_csv(theirs / "pictures.csv", dtype=str, keep_default_na=False)
    unread = expected["verdict"] == "unreadable"
    assert unread.tolist() == (found["verdict"] == "unreadable").tolist() == [True] + [False] * 4
    for table in (expected, found):  # each says in its own words why
        table.loc[unread, "reason"] = "?"
    pd.testing.assert_frame_equal(found, expected.drop(columns="unlike_training"))
    for number in range(4):
        mask = read_image(ours / "masks" / f"part {number}.png", 3)
        np.testing.assert_array_equal(read_image(theirs / "masks" / f"part {number}.png.png", 3), mask)
    tinted = read_image(theirs / "overlays" / "part 0.png.jpg", 3)
    assert tinted[6, 8, 0] > tinted[6, 8, 2] + 30  # yellowish


def make_bundle(root: Path, run) -> Path:
    """An export of the dark finder, of which NumPy is the runtime."""
    folder = root / "line"
    folder.mkdir()
    rows = [bundle.describe_network(run, "network_0.npy")]
    chosen = read_thresholds(run.output / "thresholds.json")
    bundle.write_code(folder, "onnx", bundle.describe_settings(run, chosen, rows), run)
    (folder / "runtime.py").write_text(RUNTIME)
    return folder


def test_settings_come_back_from_settings_json_as_they_were(root):
    write_dark_finder(root)
    run = load_experiment(
        "fake", {"predict.scales": [0.5, 1.0], "predict.tiles": {"shape": [32, 48], "overlap": 8}}
    )
    folder = make_bundle(root, run)
    found = json.loads((folder / "settings.json").read_text())
    assert found == bundle.describe_settings(
        run,
        [ClassThreshold(0.5, 0.5, 2), ClassThreshold(0.5, 0.5, 0)],
        [bundle.describe_network(run, "network_0.npy")],
    ) | {"classes": found["classes"]}
    assert [row["minimum_area"] for row in found["classes"]] == [2, 0]
    assert found["networks"][0] == {
        "file": "network_0.npy",
        "channels": 1,
        "shape": None,
        "scale": 1.0,
        "scales": [0.5, 1.0],
        "flips": [],
        "tiles": {"shape": [32, 48], "overlap": 8},
        "stride": 32,
        "background": False,
    }


def write_drawn_golden(folder: Path, run) -> None:
    picture = np.full((20, 33, 1), 255, np.uint8)
    picture[4:9, 3:14] = 10
    (run.input / "train_images").mkdir()
    write_image(run.input / "train_images" / "a.png", picture)
    masks = np.zeros((20, 33, 2), np.uint8)
    masks[4:9, 3:14, 0] = 1
    bundle.write_golden(folder, run.input / "train_images", {"a.png": masks}, {"a.png": masks})


def test_golden_pictures_are_checked_and_drift_is_told(root, capsys):
    write_dark_finder(root)
    run = load_experiment("fake")
    folder = make_bundle(root, run)
    write_drawn_golden(folder, run)
    bundle.check_golden([folder])
    assert capsys.readouterr().out == f"{folder}: the golden pictures are as they were\n"
    settings = json.loads((folder / "settings.json").read_text())
    settings["classes"][0]["minimum_area"] = 56
    (folder / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(DefectmillError) as raised:
        bundle.check_golden([folder])
    assert str(raised.value) == f"{folder}: a.png, bar 1: 55 pixels differ, 3 may"


def test_a_runtime_that_is_not_there_is_one_line_that_says_what_to_do(root):
    write_dark_finder(root)
    run = load_experiment("fake")
    folder = make_bundle(root, run)
    write_drawn_golden(folder, run)
    (folder / "runtime.py").write_text("import no_such_runtime\n")
    with pytest.raises(DefectmillError, match=r"No module named 'no_such_runtime'.*pip install -r") as raised:
        bundle.check_golden([folder])
    assert "\n" not in str(raised.value)


def test_what_differed_when_it_was_exported_is_no_drift(root):
    write_dark_finder(root)
    run = load_experiment("fake")
    folder = make_bundle(root, run)
    (run.input / "train_images").mkdir()
    write_image(run.input / "train_images" / "a.png", np.zeros((20, 300, 1), np.uint8))
    expected = np.ones((20, 300, 2), np.uint8)
    own = expected.copy()
    own[:5, :2, 1] = 0
    bundle.write_golden(folder, run.input / "train_images", {"a.png": expected}, {"a.png": own})
    notes = json.loads((folder / "golden.json").read_text())
    assert notes == {"a.png": {"mask": "masks/a.png.png", "allowed": [6, 16]}}


def test_a_folder_without_an_export_and_no_folder_are_refused(root):
    with pytest.raises(ConfigError, match="no export there: `make export"):
        bundle.check_golden([])
    (root / "x").mkdir()
    with pytest.raises(ConfigError, match="x: holds no export, which has settings"):
        bundle.check_golden([root / "x"])


def test_only_an_export_is_replaced(root):
    write_dark_finder(root)
    run = load_experiment("fake")
    folder = make_bundle(root, run)
    with pytest.raises(ConfigError, match="line: it holds what no export wrote; choose another folder"):
        bundle.check_target(folder)
    write_drawn_golden(folder, run)
    assert bundle.check_target(folder) == folder
    assert bundle.check_target(root / "new") == root / "new"
    with pytest.raises(ConfigError, match="input/ is read-only"):
        bundle.check_target(root / "input" / "fake" / "x")
    with pytest.raises(ConfigError, match="it is a file"):
        bundle.check_target(folder / "infer.py")


def test_a_region_of_another_size_is_refused_by_both(root, defects):
    write_image(root / "region.png", np.ones((5, 9, 1), np.uint8))
    with pytest.raises(ValueError, match=r"has \(5, 9\) pixels, the picture \(9, 5\)"):
        defects.read_region(root / "region.png", (9, 5))
    with pytest.raises(ConfigError, match="has 5 x 9 pixels, the pictures 9 x 5: draw it on one of them"):
        read_region(root / "region.png", (9, 5))
