"""Readers of strings and of tables, settings and descriptions, with right inputs."""

import json
import re
from pathlib import Path

from defectmill import files
from defectmill.config import load_experiment
from defectmill.dataset_info import read_dataset_info, read_yaml
from defectmill.files import match_names, read_table
from defectmill.labels import draw_masks, read_labels, split_image_class
from defectmill.prediction.thresholds import read_thresholds
from defectmill.rle import (
    clean_rle,
    intersect_rles,
    mask_to_rle,
    parse_coco_runs,
    parse_runs,
    rle_to_mask,
    unite_rles,
)
from defectmill.running.flexunet_import import import_config, read_literal
from defectmill.running.stages import parse_overrides
from fuzzing.target import Target, file_target, text_target

SHAPE = (9, 14)
IDS = ["a.png", "b.png"]
CONFIG = b"""[model]
image_width = 64
image_height = 32
num_layers = 4
base_kernels = (9,9)
loss = "bce_dice_loss"
metrics = ["dice_coef"]
[train]
epochs = 2
learning_rate_reducer = True
reducer_factor = 0.5
[mask]
rgb_map = {(0,0,0):0,
  (1,2,3):1, (4,5,6):2}
"""
EXPERIMENT = b"""# a comment
dataset: sample
seed: 3
data: {mode: resize, shape: [32, 64]}
model: {name: flexunet, levels: 4}
training: {epochs: 2, loss: {dice: 1.0}, schedule: {name: reduce}}
predict:
  scales: [1, 0.5]
  flips: [horizontal]
"""
INFO = {
    "name": "own",
    "title": "Own",
    "classes": [{"id": 1, "name": "dent", "colour": [255, 80, 80], "value": 7}],
    "group_pattern": r"([a-z]+)_\d+",
    "bits": 12,
    "masks": "binary",
    "shape": [9, 14],
    "notes": ["a"],
}
THRESHOLD = {
    "name": "a",
    "threshold": 0.5,
    "high_threshold": 0.6,
    "minimum_area": 3,
    "fill_holes": False,
    "weight": 1.0,
    "expected_dice": 0.3,
    "calibration": [level / 255 for level in range(256)],
}


def use_rle(text: str) -> bool:
    """Read two run-length strings in every way, and check that the ways agree."""
    one, _, other = text.partition("|")
    one, other = clean_rle(one), clean_rle(other)
    lengths, others = parse_runs(one)[1], parse_runs(other)[1]
    shared = intersect_rles(one, other)
    assert shared == intersect_rles(other, one)
    total = sum(lengths.tolist()) + sum(others.tolist())
    if total < 1 << 62:
        assert sum(parse_runs(unite_rles([one, other]))[1].tolist()) == total - shared
    mask = rle_to_mask(one, SHAPE)
    assert mask.sum() == lengths.sum()
    assert mask_to_rle(mask) == unite_rles([one])
    return True


def use_coco_runs(text: str) -> bool:
    """Read COCO's runs, compressed or as numbers."""
    is_plain = re.fullmatch("[-0-9 ]+", text) and len(text) < 200
    runs = parse_coco_runs([*map(int, re.findall("-?[0-9]+", text))] if is_plain else text, SHAPE)
    assert sum(runs) == SHAPE[0] * SHAPE[1]
    assert min(runs) >= 0
    return True


def use_labels(csv: Path) -> bool:
    """Read a label table, and draw it."""
    labels = read_labels(csv, IDS, 3)
    assert len(labels) == 3 * len(IDS)
    for image_id in IDS:
        draw_masks(labels, image_id, SHAPE, 3)
    return True


def make_targets(home: Path) -> dict[str, Target]:
    """Make the targets below a folder, which becomes the project's."""
    files.ROOT = home
    experiments = home / "notebooks" / "experiments"

    def import_anew(path: Path) -> None:
        for written in (experiments / "new.yml", home / "input" / "new" / "info.json"):
            written.unlink(missing_ok=True)
        import_config(path, "new")

    combined = b"ImageId_ClassId,EncodedPixels\na.png_1,1 3\na.png_2,\nb.png_3,5 9 20 7\n"
    separate = b"ImageId,ClassId,EncodedPixels\na,1,1 3\na,1,9 9\nb.png,2,-1\n"
    return {
        "one run": text_target(
            lambda text: parse_runs(text, SHAPE), "1 3 10 5", "126 1", "1 126", letters="013 9-"
        ),
        "runs": text_target(use_rle, "1 3", "1 3 10 5|4 9", "126 1", "1 126|2 2 7 7", "-1", letters="12 |"),
        "coco runs": text_target(use_coco_runs, "m036000000000[1", "0 126", "20 6 100", letters="01OPno "),
        "image_class": text_target(split_image_class, "a.jpg_1", "a_b.png_12", letters="a_1. "),
        "names": text_target(
            lambda text: match_names([text], IDS), "a", "folder/b.png", " A.PNG", letters="ab/\\. "
        ),
        "literal": text_target(read_literal, "(9, 9)", "{(0,0,0):0,(1,2,3):1}", "['a', 1.5, None, True]"),
        "overrides": text_target(
            parse_overrides, "training.epochs=3 data.shape=[64,96]", "seed=1 model.name=unet"
        ),
        "yaml": text_target(read_yaml, "a: [1, 2.5, no]\nb: {c: 2020-01-02}\n", "- a\n- 'b'\n- |\n  text\n"),
        "experiment": file_target(experiments / "own.yml", lambda _: load_experiment("own"), EXPERIMENT),
        "info.json": file_target(home / "own" / "info.json", read_dataset_info, json.dumps(INFO).encode()),
        "thresholds": file_target(
            home / "own" / "t.json", read_thresholds, json.dumps({"1": THRESHOLD}).encode()
        ),
        "flexunet": file_target(home / "own" / "a.config", import_anew, CONFIG),
        "table": file_target(
            home / "own" / "t.csv", read_table, b"a,b\n1,2\n\n3,4\n", b'"a ",b\r\n"1\n2",""\r\n'
        ),
        "labels": file_target(home / "own" / "l.csv", use_labels, combined, separate),
    }
