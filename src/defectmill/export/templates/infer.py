"""Find defects in pictures: `python infer.py PICTURES OUT`; without arguments, check the golden pictures.

PICTURES is a folder. OUT gets masks/ (the classes in their colours), overlays/, defects.csv (a row a defect,
pixels from 0) and pictures.csv. What is found depends on settings.json alone. On a line, load once:
`find = Finder()`, then `masks, defects, largest = find(path)` for one picture after the other.
"""

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from defects import COLUMNS, SIZES, cut_masks, is_ng, list_defects, read_region
from maps import predict, read_picture
from runtime import load_network

HERE = Path(__file__).resolve().parent
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
TOLD = ("ImageId", "verdict", "reason", "classes", "height", "width", "area", "area_percent")
TOLD += ("largest_probability", "components", "ok_ng")


class Finder:
    """The networks of an exported folder, on `threads` cores (0: all)."""

    def __init__(self, folder=HERE, threads=0):
        self.folder, self.settings = folder, json.loads((folder / "settings.json").read_text("utf-8"))
        self.networks = [(n, load_network(folder / n["file"], threads)) for n in self.settings["networks"]]

    def probabilities(self, path):
        """Give the probabilities of one picture, (H, W, C) float32: the mean of all networks'."""
        channels = {network["channels"] for network, _ in self.networks}
        pictures = {n: read_picture(path, n, self.settings["bits"]) for n in channels}
        maps = [predict(run, pictures[network["channels"]], network) for network, run in self.networks]
        probs = sum(maps[1:], maps[0]) / np.float32(len(maps))
        if self.settings["roi"]:
            probs = probs * read_region(self.folder / self.settings["roi"], probs.shape[:2])[:, :, None]
        return probs

    def __call__(self, path, name=""):
        """Give one picture's masks, (H, W, C) uint8, rows of defects.csv, and largest probability."""
        probs = self.probabilities(path)
        masks = cut_masks(probs, self.settings)
        return masks, list_defects(name, masks, probs, self.settings), float(probs.max())


def colour(masks, settings):
    """Draw masks in the colours of the classes: (H, W, 3) uint8."""
    drawn = np.zeros((*masks.shape[:2], 3), np.uint8)
    for channel, kind in enumerate(settings["classes"]):
        drawn[masks[:, :, channel] > 0] = kind["colour"]
    return drawn


def tint(picture, masks, settings):
    """Tint the defects, with an outline, in a picture (H, W, 3)."""
    drawn = np.where(masks.any(axis=2)[:, :, None], 0.65 * picture + 0.35 * colour(masks, settings), picture)
    drawn = drawn.astype(np.uint8)
    for channel, kind in enumerate(settings["classes"]):
        outlines, _ = cv2.findContours(masks[:, :, channel].copy(), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, kind["colour"], 1)
    return drawn


def write(path, picture):
    """Write (H, W, 3) uint8 red-green-blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, picture[:, :, ::-1])[1].tofile(path)


def write_table(path, columns, rows):
    """Write rows as CSV, fractions with four digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(
            {k: float(np.round(v, 4)) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def inspect(pictures, out):
    """Find the defects in all pictures of a folder; gives how many could not be read."""
    find, rows, found = Finder(), [], []
    rules, sizes = find.settings["ok_ng"], SIZES if find.settings["mm_per_pixel"] else ()
    for path in sorted(p for p in Path(pictures).iterdir() if p.suffix.lower() in SUFFIXES):
        try:
            masks, defects, largest = find(path, path.name)
            write(out / "masks" / f"{path.name}.png", colour(masks, find.settings))
            write(out / "overlays" / f"{path.name}.jpg", tint(read_picture(path, 3), masks, find.settings))
        except ValueError as error:
            rows.append({"ImageId": path.name, "verdict": "unreadable", "reason": error, "ok_ng": "NG"})
            continue
        area, (height, width) = int(masks.any(axis=2).sum()), masks.shape[:2]
        row = {"ImageId": path.name, "verdict": "defect" if area else "OK", "height": height, "width": width}
        row |= {"area": area, "area_percent": 100 * area / (height * width), "components": len(defects)}
        row |= {
            "largest_probability": largest,
            "classes": "; ".join(dict.fromkeys(d["class"] for d in defects)),
        }
        rows.append(row | {"ok_ng": "NG" if any(is_ng(defect, rules) for defect in defects) else "OK"})
        found += defects
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "defects.csv", (*COLUMNS, *sizes), found)
    write_table(out / "pictures.csv", TOLD if rules else TOLD[:-1], rows)
    return sum(row["verdict"] == "unreadable" for row in rows)


def check_golden():
    """Find the defects in the golden pictures again; gives a line for each that is not as it was."""
    find, told = Finder(), []
    for name, golden in json.loads((HERE / "golden.json").read_text("utf-8")).items():
        masks = find(HERE / "golden" / name)[0]
        stored = cv2.imread(str(HERE / "golden" / golden["mask"]), cv2.IMREAD_GRAYSCALE)
        expected = stored.reshape(masks.shape[2], *masks.shape[:2]) > 0  # one class below the other
        for channel, kind in enumerate(find.settings["classes"]):
            differ, allowed = (
                int((expected[channel] != masks[:, :, channel]).sum()),
                golden["allowed"][channel],
            )
            if differ > allowed:
                told.append(f"{name}, {kind['name']}: {differ} pixels differ, {allowed} may")
    return told


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(
            inspect(sys.argv[1], Path(sys.argv[2])) and "error: pictures.csv tells what could not be read"
        )
    elif len(sys.argv) == 1:
        drifted = check_golden()
        print("\n".join(drifted) or "the golden pictures are as they were")
        sys.exit(bool(drifted))
    sys.exit(__doc__)
