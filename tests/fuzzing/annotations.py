"""Readers of annotations in all formats, of pictures and zip files, with right inputs."""

import base64
import json
import shutil
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from defectmill.datasets.download import unpack
from defectmill.formats import find_sources
from defectmill.formats.masks import survey_masks
from defectmill.images import read_depth, read_image, read_orientation, read_shape
from fuzzing.strings import SHAPE
from fuzzing.target import Target, file_target

CORNERS = [[1, 1], [8.5, 1], [8, 7]]
CVAT = b"""<annotations>
<meta><job><labels><label><name>dent</name><color>#ff0000</color></label></labels></job></meta>
<image id="0" name="a.png" width="14" height="9"><polygon label="dent" points="1,1;8.5,1;8,7" z_order="0"/>
<box label="dent" xtl="1" ytl="2" xbr="5" ybr="6" rotation="30"/><tag label="dent"/>
<mask label="dent" rle="2,3,1" left="1" top="2" width="3" height="2"/>
<ellipse label="dent" cx="4" cy="4" rx="2" ry="3"/></image></annotations>"""
YOLO = b"0 0.1 0.1 0.6 0.1 0.5 0.8\n1 0.5 0.5 0.9 0.9 0.1 0.7\n"
TABLE = b"ImageId,EncodedPixels,class,height,width\na.png,1 3,dent,9,14\na.png,20 7,b,9,14\n"


def save(image: Image.Image, form: str) -> bytes:
    """Save a picture into bytes."""
    image.save(data := BytesIO(), form)
    return data.getvalue()


def draw_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:9] = 1
    return mask


def make_seeds() -> dict[str, bytes]:
    """Make a right file of each JSON format."""
    patch = base64.b64encode(save(Image.fromarray(draw_mask()[2:5, 3:9] * 255), "PNG")).decode()
    outlines = [[n for corner in CORNERS for n in corner]], {"size": SHAPE, "counts": [20, 6, 100]}
    pieces = [{"id": n, "image_id": 1, "category_id": 2, "segmentation": o} for n, o in enumerate(outlines)]
    coco = {"images": [{"id": 1, "file_name": "a.png", "width": 14, "height": 9}], "annotations": pieces}
    shapes = [{"label": "dent", "points": CORNERS, "shape_type": "polygon"}]
    shapes += [{"label": "b", "points": [[3, 2], [8, 4]], "shape_type": "mask", "mask": patch}]
    shapes += [{"label": "b", "points": CORNERS[:2], "shape_type": kind} for kind in ("rectangle", "circle")]
    labelme = {"shapes": shapes, "imagePath": "a.png", "imageHeight": 9, "imageWidth": 14, "imageData": None}
    polygon = {"points": [[10, 10], [60, 10], [50, 80]], "polygonlabels": ["dent"]}
    box = {"x": 10, "y": 10, "width": 20, "height": 30, "rectanglelabels": ["b"]}
    regions = [
        {"id": "1", "type": "polygonlabels", "value": polygon, "original_height": 9, "original_width": 14}
    ]
    regions += [{"id": "2", "type": "rectanglelabels", "value": box}]
    studio = [{"data": {"image": "/data/upload/1/a.png"}, "annotations": [{"result": regions}]}]
    rings = {"exterior": CORNERS, "interior": [[[3, 2], [4, 2], [4, 3]]]}
    bitmap = {"data": patch, "origin": [3, 2]}
    objects = [{"classTitle": "dent", "geometryType": "polygon", "points": rings}]
    objects += [{"classTitle": "dent", "geometryType": "bitmap", "bitmap": bitmap}]
    found = {
        "coco": coco | {"categories": [{"id": 2, "name": "dent"}]},
        "labelme": labelme,
        "label studio": studio,
        "supervisely": {"size": {"height": 9, "width": 14}, "objects": objects},
        "meta": {"classes": [{"title": "dent", "shape": "polygon", "color": "#ff0000"}]},
    }
    return {name: json.dumps(one).encode() for name, one in found.items()}


def use_source(raw: Path) -> bool:
    """Read all annotations of a folder, in whatever format; whether there are some."""
    found = [one for source in find_sources(raw).values() for one in source.read()]
    for one in found:
        assert one.masks is None or all(mask.shape == one.shape for mask in one.masks.values())
    return any(one.masks for one in found)


def use_picture(path: Path) -> bool:
    """Read a file as an image, in every way."""
    image = read_image(path, 3)
    assert read_image(path).shape[:2] == image.shape[:2]
    read_depth(np.fromfile(path, np.uint8), path)
    assert 1 <= read_orientation(path) <= 8
    assert read_shape(path) == image.shape[:2]
    return True


def use_zip(path: Path) -> bool:
    """Unpack a zip, and look whether it wrote beside its folder."""
    target = path.with_name("unpacked")
    shutil.rmtree(target, ignore_errors=True)
    unpack(path, target)
    assert {p.name for p in path.parent.iterdir()} <= {path.name, target.name}
    return True


def make_zip() -> bytes:
    with zipfile.ZipFile(data := BytesIO(), "w") as archive:
        archive.writestr("train.csv", "a,b\n", zipfile.ZIP_DEFLATED)
        archive.writestr("train_images/a.png", bytes(99), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def make_targets(home: Path) -> dict[str, Target]:
    """Make the targets, each in a folder of its own."""
    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    picture = Image.fromarray(pixels)
    png, seeds, mask = save(picture, "PNG"), make_seeds(), draw_mask()

    def place(name: str, path: str, seed: bytes, beside: Mapping[str, bytes]) -> Target:
        for other, data in beside.items():
            (home / name / other).parent.mkdir(parents=True, exist_ok=True)
            (home / name / other).write_bytes(data)
        return file_target(home / name / path, lambda _: use_source(home / name), seed)

    images, voc = {"images/a.png": png}, {"JPEGImages/a.png": png}
    coloured = save(Image.fromarray(np.dstack([mask * 128, mask * 0, mask * 0])), "PNG")
    project = {"d/img/a.png": png, "meta.json": seeds["meta"], "d/ann/a.png.json": seeds["supervisely"]}
    forms = {form: save(picture, form) for form in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")}
    forms["deep"] = save(Image.fromarray(pixels[..., 0].astype(np.uint16) << 4), "TIFF")
    masks = [save(Image.fromarray(mask * 255), "PNG"), save(picture.convert("P"), "PNG"), forms["GIF"]]
    masks += [save(picture.convert("LA"), "PNG"), coloured, forms["deep"]]
    return {
        "coco": place("coco", "annotations.json", seeds["coco"], images),
        "labelme": place("labelme", "images/a.json", seeds["labelme"], images),
        "label studio": place("label studio", "a.json", seeds["label studio"], images),
        "supervisely": place("supervisely", "d/ann/a.png.json", seeds["supervisely"], project),
        "meta.json": place("meta.json", "meta.json", seeds["meta"], project),
        "cvat": place("cvat", "annotations.xml", CVAT, images),
        "labelmap": place(
            "labelmap",
            "labelmap.txt",
            b"# label\nbackground:0,0,0::\ndent:128,0,0::\n",
            {**voc, "SegmentationClass/a.png": coloured},
        ),
        "voc mask": place("voc mask", "SegmentationClass/a.png", save(Image.fromarray(mask), "PNG"), voc),
        "yolo": place("yolo", "labels/a.txt", YOLO, images),
        "data.yaml": place(
            "data.yaml", "data.yaml", b"names: {0: dent, 1: no}\nnc: 2\n", images | {"labels/a.txt": YOLO}
        ),
        "csv": place("csv", "train.csv", TABLE, images),
        "picture": file_target(home / "picture" / "a.png", use_picture, *forms.values()),
        "mask": file_target(home / "mask" / "a.png", lambda path: survey_masks([path]), *masks),
        "zip": file_target(home / "zip" / "a.zip", use_zip, make_zip()),
    }
