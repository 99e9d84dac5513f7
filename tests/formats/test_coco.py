"""COCO files, small and drawn by hand; pycocotools is asked for a second opinion."""

import json
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from defectmill.dataset_info import DatasetInfo
from defectmill.formats.coco import CROWD, MOST, STORED, UNLISTED, UPRIGHT, find, write
from defectmill.formats.shapes import FAINT, NO_CLASS, OUTSIDE, SHORT, FormatError
from defectmill.images import write_image

SHAPE = (4, 6)
BOX = [1, 1, 4, 1, 4, 3, 1, 3]  # three pixels wide, two high
CRACK = {"id": 7, "name": "crack", "supercategory": "defect"}
PIT = {"id": 3, "name": "pit"}
KINDS = [{"id": 1, "name": "crack", "colour": (255, 0, 0)}, {"id": 2, "name": "pit", "colour": (0, 255, 0)}]
INFO = DatasetInfo.model_validate({"name": "plate", "title": "Plate", "classes": KINDS})


def draw(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows], np.uint8)


def polygon(image_id, *outlines, category=7, **more):
    return {"image_id": image_id, "category_id": category, "segmentation": list(outlines), **more}


def entry(number, name, shape=SHAPE):
    return {"id": number, "file_name": name, "height": shape[0], "width": shape[1]}


def make(path: Path, annotations=(), images=(), categories=(CRACK, PIT), pictures=None) -> Path:
    """Write a COCO file and the images that it lists, or `pictures`, in its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = images or [entry(1, "a.png")]
    for name in [one["file_name"] for one in images] if pictures is None else pictures:
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(path.parent / name, np.zeros(SHAPE, np.uint8))
    file = {"images": images, "annotations": list(annotations), "categories": list(categories)}
    path.write_text(json.dumps(file))
    return path.parent


def read(raw: Path):
    source = find(raw)
    assert source is not None
    return list(source.read())


def refuse(raw: Path, message: str):
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        read(raw)
    assert "\n" not in str(caught.value)


def test_several_polygons_of_an_instance_are_one_mask(tmp_path):
    raw = make(tmp_path / "a.json", [polygon(1, BOX, [5, 0, 6, 0, 6, 2, 5, 2])])
    (one,) = read(raw)
    assert (one.image, one.shape, one.part) == (tmp_path / "a.png", SHAPE, "")
    assert list(one.masks) == ["crack"]
    np.testing.assert_array_equal(one.masks["crack"], draw(".....#", ".###.#", ".###..", "......"))


def test_instances_of_a_class_are_one_mask_and_classes_are_apart(tmp_path):
    found = [polygon(1, BOX), polygon(1, [0, 0, 2, 0, 2, 2, 0, 2]), polygon(1, BOX, category=3)]
    (one,) = read(make(tmp_path / "a.json", found))
    np.testing.assert_array_equal(one.masks["crack"], draw("##....", "####..", ".###..", "......"))
    np.testing.assert_array_equal(one.masks["pit"], draw("......", ".###..", ".###..", "......"))


def test_uncompressed_runs_count_down_columns_background_first(tmp_path):
    runs = {"size": [4, 6], "counts": [1, 2, 3, 1, 17]}
    (one,) = read(make(tmp_path / "a.json", [{**polygon(1), "segmentation": runs, "iscrowd": 1}]))
    np.testing.assert_array_equal(one.masks["crack"], draw("......", "#.....", "##....", "......"))
    assert one.issues[CROWD] == 1


def test_compressed_runs_are_read_as_pycocotools_reads_them(tmp_path):
    rng = np.random.default_rng(2)
    masks = (rng.random((30, *SHAPE)) < rng.random((30, 1, 1))).astype(np.uint8)
    for number, mask in enumerate(masks):
        runs = coco_masks.encode(np.asfortranarray(mask))
        found = {**polygon(1), "segmentation": {"size": [4, 6], "counts": runs["counts"].decode()}}
        (one,) = read(make(tmp_path / f"{number}" / "a.json", [found]))
        np.testing.assert_array_equal(one.masks["crack"], mask)


def test_long_runs_and_many_of_them_survive_compression(tmp_path):
    mask = np.zeros((700, 900), np.uint8)
    mask[3, 2], mask[650:, 899], mask[10:500, 300:800] = 1, 1, 1
    mask[::7, 350:700:3] ^= 1
    runs = coco_masks.encode(np.asfortranarray(mask))
    found = {**polygon(1), "segmentation": {"size": [700, 900], "counts": runs["counts"].decode()}}
    make(tmp_path / "a.json", [found], [entry(1, "a.png", mask.shape)], pictures=[])
    write_image(tmp_path / "a.png", mask)
    np.testing.assert_array_equal(read(tmp_path)[0].masks["crack"], mask)


def test_masks_are_those_of_pycocotools(tmp_path, capsys):
    rng = np.random.default_rng(4)
    shape = (40, 60)
    found = []
    for number in range(1, 61):
        corners = rng.uniform(-2, 1, 2) + rng.uniform(0, 1, (rng.integers(3, 9), 2)) * (62, 42)
        found.append({**polygon(1, corners.ravel().round(2).tolist()), "id": number})
    make(tmp_path / "a.json", found, [entry(1, "a.png", shape)], pictures=[])
    write_image(tmp_path / "a.png", np.zeros(shape, np.uint8))
    coco = COCO(tmp_path / "a.json")
    capsys.readouterr()
    theirs = np.max([coco.annToMask(one) for one in coco.anns.values()], axis=0)
    np.testing.assert_array_equal(read(tmp_path)[0].masks["crack"], theirs)


def test_classes_are_named_by_id_in_the_file_s_order_and_kept_when_they_never_occur(tmp_path):
    source = find(make(tmp_path / "a.json", [polygon(1, BOX, category=3)]))
    assert (source.format, source.classes, source.notes) == ("coco", ("crack", "pit"), ())
    assert list(next(source.read()).masks) == ["pit"]


def test_image_without_annotation_is_clean_and_file_without_entry_is_nobody_s(tmp_path):
    images = [entry(5, "b.png"), entry("x", "a.png")]
    make(tmp_path / "a.json", [polygon("x", BOX)], images, pictures=["a.png", "b.png", "c.png"])
    a, b, c = read(tmp_path)
    assert a.masks["crack"].sum() == 6
    assert (b.image.name, b.masks, b.issues[UNLISTED]) == ("b.png", {}, 0)
    assert (c.image.name, c.masks, c.issues) == ("c.png", None, {UNLISTED: 1})


def test_images_in_other_folders_are_named_in_a_note(tmp_path):
    raw = make(tmp_path / "a.json", images=[entry(1, "images/a.png")])
    for name in ("masks/a2.png", "old/more/b.png"):
        (raw / name).parent.mkdir(parents=True)
        write_image(raw / name, np.zeros(SHAPE, np.uint8))
    source = find(raw)
    assert len(list(source.read())) == 1
    assert source.notes == ("images in folders without an annotated one are not read: masks, old/more",)


def test_oddities_are_counted(tmp_path):
    found = [
        polygon(1, BOX, [1, 1, 2, 2]),
        polygon(1, [-1, 0, 2, 0, 2, 1]),
        polygon(1, [1.1, 1.1, 1.3, 1.1, 1.3, 1.3]),
        polygon(1, BOX, category=3),
    ]
    (one,) = read(make(tmp_path / "a.json", found, categories=[CRACK, {"id": 3, "name": "Background"}]))
    counts = {SHORT: 1, OUTSIDE: 1, FAINT: 1, NO_CLASS: 1}
    assert one.issues == counts | {CROWD: 0, UNLISTED: 0, STORED: 0, UPRIGHT: 0}
    assert list(one.masks) == ["crack"]
    assert find(tmp_path).classes == ("crack",)


def test_splits_of_roboflow_are_parts_and_its_super_category_is_no_class(tmp_path):
    group = {"id": 0, "name": "steel", "supercategory": "none"}
    kinds = [group, {"id": 1, "name": "crack", "supercategory": "steel"}]
    for split in ("train", "valid", "test"):
        make(tmp_path / split / "_annotations.coco.json", [polygon(1, BOX, category=1)], categories=kinds)
    source = find(tmp_path)
    assert source.classes == ("crack",)
    note = "_annotations.coco.json: category 0 'steel' only groups the others (Roboflow), it is no class"
    assert source.notes == (note,)
    found = [(str(one.image.relative_to(tmp_path)), one.part) for one in source.read()]
    assert found == [("test/a.png", "test"), ("train/a.png", "train"), ("valid/a.png", "train")]


@pytest.mark.parametrize(
    ("own", "parent", "used"),
    [("none", "none", 1), ("none", "steel", 0), ("metal", "steel", 1)],
    ids=["groups no other", "has annotations", "has a group"],
)
def test_category_that_may_be_a_class_stays_one(tmp_path, own, parent, used):
    kinds = [{"id": 0, "name": "steel", "supercategory": own}]
    kinds += [{"id": 1, "name": "crack", "supercategory": parent}]
    source = find(make(tmp_path / "a.json", [polygon(1, BOX, category=used)], categories=kinds))
    assert (source.classes, source.notes) == (("steel", "crack"), ())


def test_two_categories_of_one_name_are_one_class_with_a_note(tmp_path):
    kinds = [CRACK, PIT, {"id": 9, "name": "crack"}]
    found = [polygon(1, BOX), polygon(1, [5, 0, 6, 0, 6, 1, 5, 1], category=9)]
    source = find(make(tmp_path / "a.json", found, categories=kinds))
    assert source.classes == ("crack", "pit")
    assert source.notes == ("a.json: category 9 'crack' and another of this name are read as one class",)
    assert next(source.read()).masks["crack"].sum() == 7


def test_layout_of_coco_itself_is_read_and_its_other_files_are_noted(tmp_path):
    for split, name in (("train2017", "1.png"), ("val2017", "2.png")):
        folder = tmp_path / "annotations"
        for kind in ("instances", "person_keypoints"):
            make(folder / f"{kind}_{split}.json", [polygon(1, BOX)], [entry(1, name)], pictures=[])
        (tmp_path / "images" / split).mkdir(parents=True)
        write_image(tmp_path / "images" / split / name, np.zeros(SHAPE, np.uint8))
    (folder / "captions_val2017.json").write_text('{"images": [], "annotations": [{"caption": ""}]}')
    source = find(tmp_path)
    left = "person_keypoints_train2017.json, person_keypoints_val2017.json"
    assert source.notes == (f"beside instances*.json, these are not read: {left}",)
    assert [(one.image.name, one.part) for one in source.read()] == [("1.png", "train"), ("2.png", "train")]


def test_one_file_alone_is_read_with_the_images_beside_its_folder(tmp_path):
    make(tmp_path / "annotations" / "instances_test.json", [polygon(1, BOX)], pictures=[])
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", np.zeros(SHAPE, np.uint8))
    (one,) = read(tmp_path / "annotations" / "instances_test.json")
    assert (one.image, one.part) == (tmp_path / "images" / "a.png", "")


def test_split_of_images_counts_where_the_file_tells_none(tmp_path):
    images = [entry(1, "train/a.png"), entry(2, "test/a.png")]
    make(tmp_path / "all.json", [], images, pictures=["train/a.png", "test/a.png", "test/b.png"])
    found = [(str(one.image.relative_to(tmp_path)), one.part) for one in read(tmp_path)]
    assert found == [("test/a.png", "test"), ("test/b.png", "test"), ("train/a.png", "train")]


def test_byte_order_mark_folders_and_the_suffix_s_case_are_no_obstacle(tmp_path):
    make(
        tmp_path / "a.json", [polygon(1, BOX)], [entry(1, "D:\\photos\\e\u0301.PNG")], pictures=["\u00e9.png"]
    )
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.json").read_bytes())
    assert read(tmp_path)[0].image.name == "\u00e9.png"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"annotations": [], "categories": []}',
        '{"images": [], "shapes": []}',
        '{"images": 1, "annotations": 2}',
        "no JSON",
        "",
    ],
)
def test_other_files_are_another_format(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert find(tmp_path) is None
    assert find(tmp_path / "a.json") is None


def test_folder_without_json_hidden_ones_and_one_json_an_image_are_another_format(tmp_path):
    write_image(tmp_path / "a.png", np.zeros(SHAPE, np.uint8))
    make(tmp_path / ".cache" / "a.json")
    assert find(tmp_path) is None
    assert find(tmp_path / "a.png") is None
    for number in range(MOST + 1):
        make(tmp_path / "ann" / f"{number}.json", pictures=[])
    assert find(tmp_path) is None


def test_folder_with_a_dot_before_its_name_can_be_read_itself(tmp_path):
    assert len(read(make(tmp_path / ".data" / "a.json"))) == 1


def test_boxes_without_outlines_are_refused(tmp_path):
    box = {"image_id": 1, "category_id": 7, "bbox": [1, 1, 3, 2]}
    refuse(
        make(tmp_path / "a.json", [box, {**box, "segmentation": []}]), "a.json: holds boxes only; masks need"
    )
    found = [polygon(1, BOX), box, {**box, "segmentation": None}, polygon(1, [])]
    message = "a.json: 3 of 4 annotations are boxes, first annotations[1]; masks need outlines (segmentation)"
    refuse(make(tmp_path / "a.json", found), message)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path):
    images = [entry(n, f"{n}.png") for n in (1, 2, 3, 4)]
    make(tmp_path / "a.json", [], images, pictures=["2.png"])
    refuse(tmp_path, f"a.json: image '1.png' is not in {tmp_path}; nor are 2 others")
    make(tmp_path / "a.json", [], images[:2], pictures=["2.png"])
    refuse(tmp_path, f"a.json: image '1.png' is not in {tmp_path}; did you mean '2.png'?")


def test_image_listed_twice_is_refused(tmp_path):
    make(tmp_path / "a.json", [], [entry(1, "a.png"), entry(2, "x/a.png")], pictures=["a.png"])
    refuse(tmp_path, f"a.json: images 1 and 2 are one, {tmp_path}/a.png")
    make(tmp_path / "a.json")
    make(tmp_path / "b.json")
    refuse(tmp_path, f"b.json: lists {tmp_path}/a.png, which {tmp_path}/a.json lists too")


def test_another_size_than_the_file_s_is_refused(tmp_path):
    make(tmp_path / "a.json", [], [entry(1, "a.png", (6, 4))])
    refuse(tmp_path, "a.json: 'a.png' has (height, width) (6, 4) there, and (4, 6) as a file")


def test_size_that_the_file_does_not_tell_is_the_image_s(tmp_path):
    make(tmp_path / "a.json", [polygon(1, BOX)], [{"id": 1, "file_name": "a.png"}])
    assert read(tmp_path)[0].masks["crack"].shape == SHAPE


def save_turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(path, exif=exif)


def test_outlines_on_an_upright_image_are_turned_to_its_stored_pixels(tmp_path):
    make(
        tmp_path / "a.json", [polygon(1, [0, 0, 3, 0, 3, 1, 0, 1])], [entry(1, "a.png", (6, 4))], pictures=[]
    )
    save_turned(tmp_path / "a.png", 6)  # upright when turned to the right
    (one,) = read(tmp_path)
    np.testing.assert_array_equal(one.masks["crack"], draw("......", "#.....", "#.....", "#....."))
    assert (one.shape, one.issues[UPRIGHT], one.issues[STORED]) == (SHAPE, 1, 0)


def test_outlines_on_stored_pixels_stay_and_the_tag_is_counted(tmp_path):
    make(tmp_path / "a.json", [polygon(1, BOX)], pictures=[])
    save_turned(tmp_path / "a.png", 6)
    (one,) = read(tmp_path)
    np.testing.assert_array_equal(one.masks["crack"], draw("......", ".###..", ".###..", "......"))
    assert (one.issues[UPRIGHT], one.issues[STORED]) == (0, 1)


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ([4, 6], [1, 2, 3], "annotations[0]: runs over 6 pixels, for an image of 4 x 6"),
        ([4, 6], [1, 24], "annotations[0]: runs over 25 pixels"),
        ([4, 6], [-1, 25], "annotations[0]: a run of -1 pixels"),
        ([4, 6], [], "annotations[0]: runs over 0 pixels"),
        ([4, 6], "", "annotations[0]: not COCO's compressed runs: ''"),
        ([4, 6], "12 3", "annotations[0]: not COCO's compressed runs: '12 3'"),
        ([4, 6], "12P", "annotations[0]: not COCO's compressed runs: '12P'"),
        ([4, 6], "oooooooo0", "annotations[0]: not COCO's compressed runs"),
        ([4, 6], "\u0661", "annotations[0]: not COCO's compressed runs"),
        ([4, 6], "53", "annotations[0]: runs over 8 pixels"),
        ([4, 6], "O", "annotations[0]: a run of -1 pixels"),
        ([6, 4], [1, 23], "annotations[0]: runs of (6, 4) for an image of (4, 6)"),
    ],
)
def test_runs_that_do_not_fill_the_image_are_refused(tmp_path, size, counts, message):
    found = {**polygon(1), "segmentation": {"size": size, "counts": counts}}
    refuse(make(tmp_path / "a.json", [found]), f"a.json: a.png: {message}")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (polygon(2, BOX), "annotations[1]: no image has the id 2"),
        (polygon("1", BOX), "annotations[1]: no image has the id '1'"),
        (polygon(1, BOX, category=1), "annotations[1]: no category has the id 1"),
        (polygon(1, [1, 1, 2, 2, 3]), "a.png: annotations[1]: a polygon of 5 numbers"),
        (polygon(1, [1, 1, 2, "x"]), "annotations[1].segmentation: Input should be a valid number"),
        (polygon(1, [1, 1, 2, float("nan")]), "annotations[1].segmentation: Input should be a finite number"),
        (polygon(1, [1, 1, 2, 1, 2, 900]), "a.png: a polygon reaches 900; pixels of an image of (4, 6)"),
        ({"category_id": 7, "segmentation": [BOX]}, "annotations[1].image_id: Field required"),
        (
            {**polygon(1), "segmentation": {"size": [4, 6]}},
            "annotations[1].segmentation: Field required, not {'size': [4, 6]}",
        ),
    ],
)
def test_broken_annotation_is_named_by_its_place(tmp_path, annotation, message):
    refuse(make(tmp_path / "a.json", [polygon(1, BOX), annotation]), f"{tmp_path}/a.json: {message}")


def test_broken_file_is_refused(tmp_path):
    raw = make(tmp_path / "a.json", [polygon(1, BOX)])
    text = (raw / "a.json").read_text()
    (raw / "a.json").write_text(text[:-3])
    refuse(raw, "a.json: not JSON: Invalid JSON: EOF while parsing")
    (raw / "a.json").write_text(text.replace('"categories"', '"kinds"'))
    refuse(raw, "a.json: categories: Field required")


@pytest.mark.parametrize(
    ("images", "categories", "message"),
    [
        ([entry(1, "a.png"), entry(1, "b.png")], [CRACK], "a.json: 2 images have the id 1"),
        ([entry(1, "a.png")], [CRACK, CRACK], "a.json: 2 categories have the id 7"),
        ([entry(1, "a.png")], [], "a.json: no categories"),
    ],
)
def test_ids_must_differ_and_there_must_be_some(tmp_path, images, categories, message):
    refuse(make(tmp_path / "a.json", [], images, categories), message)


def test_no_images_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    refuse(tmp_path, "a.json: no images")


def random_masks(rng, shape):
    return (rng.random((*shape, 2)) < rng.uniform(0.05, 0.6)).astype(np.uint8)


def test_written_masks_are_read_back_exactly(tmp_path, capsys):
    rng = np.random.default_rng(8)
    masks = {f"{n}.png": random_masks(rng, (9 + n, 14)) for n in range(5)}
    masks["clean.png"] = np.zeros((3, 7, 2), np.uint8)
    for name, mask in masks.items():
        write_image(tmp_path / name, mask[:, :, 0])
    table = write(iter(masks.items()), INFO, tmp_path)
    source = find(tmp_path)
    assert source.classes == ("crack", "pit")
    for one in source.read():
        for channel, name in enumerate(source.classes):
            drawn = one.masks.get(name, np.zeros(one.shape, np.uint8))
            np.testing.assert_array_equal(drawn, masks[one.image.name][:, :, channel])
    assert table["ImageId"].tolist() == [f"{n}.png" for n in range(5) for _ in range(2)]
    assert table["ClassId"].tolist() == [1, 2] * 5
    assert table["pixels"].tolist() == [
        int(masks[f"{n}.png"][:, :, c].sum()) for n in range(5) for c in (0, 1)
    ]
    assert not table[["lost", "gained"]].to_numpy().any()


def test_written_annotation_is_a_component_with_its_box_and_area_as_pycocotools_reads_it(tmp_path, capsys):
    masks = np.zeros((*SHAPE, 2), np.uint8)
    masks[:, :, 1] = draw("##....", "..#...", "......", ".....#")
    write([("a.png", masks)], INFO, tmp_path)
    coco = COCO(tmp_path / "annotations.json")
    capsys.readouterr()
    found = [(one["bbox"], one["area"], one["iscrowd"], one["category_id"]) for one in coco.anns.values()]
    assert found == [([0, 0, 3, 2], 3, 0, 2), ([5, 3, 1, 1], 1, 0, 2)]
    np.testing.assert_array_equal(coco.annToMask(coco.anns[1]), draw("##....", "..#...", "......", "......"))
    for one in coco.anns.values():
        assert coco_masks.toBbox(one["segmentation"]).tolist() == one["bbox"]
        assert coco_masks.area(one["segmentation"]) == one["area"]
    assert [kind["name"] for kind in coco.cats.values()] == ["crack", "pit"]
    assert coco.imgs[1] == {"id": 1, "file_name": "a.png", "width": 6, "height": 4}


def test_masks_that_do_not_fit_the_classes_are_not_written(tmp_path):
    with pytest.raises(FormatError, match=r"a\.png: masks of 1 classes; plate has 2"):
        write([("a.png", np.zeros((*SHAPE, 1), np.uint8))], INFO, tmp_path)
    assert not list(tmp_path.iterdir())


def test_five_thousand_annotations_are_read_in_seconds(tmp_path):
    rng = np.random.default_rng(1)
    shape, images, found = (256, 1600), [], []
    for number in range(50):
        images.append(entry(number, f"{number}.png", shape))
        for n in range(100):
            turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            centre, radius = rng.uniform((20, 20), (1580, 236)), rng.uniform(3, 19)
            corners = centre + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
            outline = {**polygon(number, corners.ravel().round(2).tolist())}
            if n % 2:
                mask = cv2.circle(np.zeros(shape, np.uint8), centre.astype(int).tolist(), 9, 1, -1)
                runs = coco_masks.encode(np.asfortranarray(mask))
                outline["segmentation"] = {"size": list(shape), "counts": runs["counts"].decode()}
            found.append(outline)
    make(tmp_path / "a.json", found, images, pictures=[])
    write_image(tmp_path / "0.png", np.zeros(shape, np.uint8))
    for number in range(1, 50):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    start = time.perf_counter()
    assert len(read(tmp_path)) == 50
    assert time.perf_counter() - start < 10
