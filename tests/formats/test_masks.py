"""Mask files of every encoding, and those that fit none, drawn by hand on 12 x 20 pixels."""

import re

import numpy as np
import pytest
from PIL import Image

from defectmill.dataset_info import DatasetInfo
from defectmill.formats.masks import (
    GREY,
    JPEG,
    OFF,
    RIMS,
    VOIDS,
    choose_encoding,
    find_classes,
    read_masks,
    survey_masks,
)
from defectmill.formats.masks.pixels import masks_from_colours
from defectmill.formats.shapes import FormatError
from defectmill.images import ImageError, colours_from_masks

SHAPE = (12, 20)
COLOURS = [(255, 0, 0), (0, 255, 0), (255, 255, 0)]


def make_info(n_classes: int = 2, **more) -> DatasetInfo:
    classes = [{"id": i + 1, "name": f"c{i + 1}", "colour": COLOURS[i]} for i in range(n_classes)]
    return DatasetInfo.model_validate({"name": "own", "title": "Own", "classes": classes, **more})


def draw(first: int | tuple, second: int | tuple = 0, back: int | tuple = 0) -> np.ndarray:
    """A block of 3 x 4 pixels of the first value and one of 6 x 5 of the second, on `back`."""
    width = max(np.size(value) for value in (first, second, back))
    values = np.array([np.broadcast_to(value, width) for value in (back, first, second)])
    numbers = np.zeros(SHAPE, int)
    numbers[1:4, 2:6] = 1
    numbers[5:11, 10:15] = 2
    return values[numbers].astype(np.uint8).squeeze()


def save(folder, array: np.ndarray, name: str = "m.png", mode: str | None = None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return folder / name


def read(info: DatasetInfo, *paths) -> list[tuple[str, list[int], dict[str, int]]]:
    encoding = choose_encoding(survey_masks(paths), info)
    read = [read_masks(path, encoding, info) for path in paths]
    return [(encoding.name, masks.sum(axis=(0, 1)).tolist(), issues) for masks, issues in read]


def palette(array: np.ndarray, colours: list[tuple]) -> Image.Image:
    image = Image.fromarray(array).convert("P")
    image.putpalette([part for colour in colours for part in colour])
    image.putdata(array.ravel().tolist())
    return image


def test_class_numbers_are_read_as_they_are(tmp_path):
    path = save(tmp_path, draw(1, 2))
    assert read(make_info(), path) == [("index", [12, 30], {VOIDS: 0, RIMS: 0})]


def test_class_numbers_of_16_bits_too(tmp_path):
    path = save(tmp_path, draw(1, 2).astype(np.uint16))
    assert read(make_info(), path)[0][:2] == ("index", [12, 30])


def test_a_class_may_have_a_number_of_its_own(tmp_path):
    info = make_info()
    kinds = [kind.model_copy(update={"value": v}) for kind, v in zip(info.classes, (170, 85), strict=True)]
    path = save(tmp_path, draw(85, 170))
    own = info.model_copy(update={"classes": tuple(kinds)})
    assert read(own, path)[0][:2] == ("index", [30, 12])


def test_255_among_class_numbers_is_no_class(tmp_path):
    mask = draw(1, 2)
    mask[0, :7] = 255
    path = save(tmp_path, mask)
    assert read(make_info(), path) == [("index", [12, 30], {VOIDS: 7, RIMS: 0})]
    assert read(make_info(1), save(tmp_path, np.where(mask == 2, 0, mask).astype(np.uint8)))[0][1] == [12]


def test_a_number_of_no_class_is_refused_in_a_file_that_the_survey_did_not_see(tmp_path):
    good, bad = save(tmp_path, draw(1, 2)), save(tmp_path, draw(1, 7), "bad.png")
    encoding = choose_encoding(survey_masks([good]), make_info())
    with pytest.raises(FormatError, match=r"bad\.png: holds 7, which is no class's number: \[1, 2\]"):
        read_masks(bad, encoding, make_info())


def test_palette_files_go_by_their_colours_where_those_are_the_classes(tmp_path):
    # Index 1 has the colour of class 2, and the reverse.
    palette(draw(1, 2), [(0, 0, 0), COLOURS[1], COLOURS[0]]).save(tmp_path / "m.png")
    assert read(make_info(), tmp_path / "m.png")[0][:2] == ("colours", [30, 12])


def test_palette_files_go_by_their_indices_where_their_colours_are_others(tmp_path):
    palette(draw(1, 2), [(0, 0, 0), (128, 0, 128), (0, 128, 128)]).save(tmp_path / "m.png")
    assert read(make_info(), tmp_path / "m.png")[0][:2] == ("index", [12, 30])


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.uint8, 1), (np.uint8, 255), (np.uint8, 77), (np.uint16, 65535)]
)
def test_two_values_are_background_and_the_only_class(tmp_path, dtype, value):
    mask = (
        (draw(1, 1) * value).astype(dtype) if dtype == np.uint8 else draw(1, 1).astype(dtype) * dtype(value)
    )
    assert read(make_info(1), save(tmp_path, mask)) == [("binary", [42], {GREY: 0})]


def test_one_bit_files_are_background_and_the_only_class(tmp_path):
    assert read(make_info(1), save(tmp_path, draw(255, 255), mode="1"))[0][1] == [42]


def test_grey_edges_are_split_at_half_of_the_brightest(tmp_path):
    mask = draw(255)
    mask[4, 2:6], mask[0, 2:6] = 127, 128
    assert read(make_info(1), save(tmp_path, mask)) == [("binary", [16], {GREY: 8})]


def test_numbers_from_1_on_are_instances_of_the_only_class(tmp_path):
    mask = draw(1, 2)
    mask[0, 19] = 3
    assert read(make_info(1), save(tmp_path, mask))[0][:2] == ("binary", [43])
    deep = mask.astype(np.uint16)
    assert read(make_info(1), save(tmp_path, deep))[0][:2] == ("binary", [43])


def test_a_mask_in_the_alpha_channel(tmp_path):
    white = np.full((*SHAPE, 4), 255, np.uint8)
    white[..., 3] = draw(255, 200)
    black = np.zeros((*SHAPE, 4), np.uint8)
    black[..., 3] = draw(255, 200)
    clean = np.zeros((*SHAPE, 4), np.uint8)
    assert read(make_info(1), save(tmp_path, white))[0][1] == [42]
    paths = save(tmp_path, black, "b.png"), save(tmp_path, clean, "c.png")
    assert [areas for _, areas, _ in read(make_info(1), *paths)] == [[42], [0]]


def test_strokes_in_colour_on_transparent_are_read_by_their_colour(tmp_path):
    strokes = np.zeros((*SHAPE, 4), np.uint8)
    strokes[..., :3] = draw(COLOURS[0], COLOURS[1], (0, 255, 0))
    strokes[..., 3] = draw(255, 255)
    assert read(make_info(), save(tmp_path, strokes))[0][:2] == ("colours", [12, 30])


def test_opacity_cannot_tell_two_classes_apart(tmp_path):
    drawn = np.zeros((*SHAPE, 4), np.uint8)
    drawn[..., 3] = draw(255)
    with pytest.raises(FormatError, match=r"own: 1 masks \(1 grey, 1 partly transparent\)"):
        read(make_info(), save(tmp_path, drawn))


def test_colours_saved_as_jpeg_are_read_by_the_nearest_and_told(tmp_path):
    big = np.kron(draw(COLOURS[0], COLOURS[1]), np.ones((8, 8, 1), np.uint8))
    path = save(tmp_path, big, "m.jpg", quality=90)
    ((name, areas, issues),) = read(make_info(), path)
    assert name == "colours"
    assert areas == pytest.approx([12 * 64, 30 * 64], rel=0.05)
    assert issues[JPEG] == 1
    assert issues[OFF] > 0


def test_class_numbers_saved_as_jpeg_are_refused(tmp_path):
    path = save(tmp_path, draw(1, 2), "m.jpg")
    with pytest.raises(FormatError, match=r"1 JPEG.*numbers.*save masks as PNG"):
        read(make_info(), path)
    with pytest.raises(FormatError, match="JPEG keeps no such numbers"):
        read(make_info(1), path)


def test_off_palette_pixels_count_among_those_beside_the_background(tmp_path):
    # 20 of 600 coloured pixels of a large mask are of no class's colour: few of all, too many of these.
    mask = np.zeros((300, 400, 3), np.uint8)
    mask[10:30, 10:40] = COLOURS[0]
    mask[10:11, 10:30] = (0, 0, 255)
    read(make_info(), save(tmp_path, mask))
    mask[10:13, 10:30] = (0, 0, 255)
    with pytest.raises(FormatError, match=r"m\.png: 10\.0% of its pixels beside .* as \(0, 0, 255\)"):
        read(make_info(), save(tmp_path, mask))


def test_rims_of_a_mask_that_was_once_resized_are_given_back(tmp_path):
    info = make_info()
    colours = ((128, 0, 0), (192, 0, 0))
    kinds = [kind.model_copy(update={"colour": c}) for kind, c in zip(info.classes, colours, strict=True)]
    mask = np.zeros((40, 60, 3), np.uint8)
    mask[8:32, 10:50] = (192, 0, 0)
    mask[8:32, 10] = (110, 0, 0)
    ((_, areas, issues),) = read(info.model_copy(update={"classes": tuple(kinds)}), save(tmp_path, mask))
    assert areas[0] == 0
    assert issues[OFF] == issues[RIMS] == 24
    told = info.model_copy(update={"classes": tuple(kinds), "masks": "colours"})
    assert read(told, tmp_path / "m.png")[0][2][RIMS] == 0


def test_masks_without_a_defect_are_refused(tmp_path):
    for n_classes in (1, 2):
        with pytest.raises(FormatError, match=r"own: 1 masks \(1 grey\), numbers 0: no mask has a defect"):
            read(make_info(n_classes), save(tmp_path, draw(0)))


def test_inverted_masks_are_refused_and_read_where_the_info_says_so(tmp_path):
    path = save(tmp_path, draw(0, 0, 255))
    with pytest.raises(FormatError, match=r'82% of all pixels are bright.*Set "masks" to "inverted"'):
        read(make_info(1), path)
    assert read(make_info(1, masks="inverted"), path)[0][:2] == ("inverted", [42])
    assert read(make_info(1, masks="binary"), path)[0][1] == [198]


def test_numbers_that_fit_no_class_are_shown(tmp_path):
    with pytest.raises(
        FormatError, match=r"numbers 0, 85, 170: the classes are of the colours .*numbers \[1, 2\]"
    ):
        read(make_info(), save(tmp_path, draw(85, 170)))
    with pytest.raises(FormatError, match="neither one class nor instances from 1 on"):
        read(make_info(1), save(tmp_path, draw(85, 170)))


def test_one_file_in_colours_among_grey_ones_is_named(tmp_path):
    grey, coloured = save(tmp_path, draw(1, 2)), save(tmp_path, draw((9, 9, 200)), "c.png")
    encoding = choose_encoding(survey_masks([grey]), make_info())
    with pytest.raises(FormatError, match=r"c\.png: is in colours, the other masks are not"):
        read_masks(coloured, encoding, make_info())


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no picture")
    with pytest.raises(FormatError, match=re.escape(f"{tmp_path / 'm.png'}: not a readable image")):
        survey_masks([tmp_path / "m.png"])


def test_fractions_are_no_mask(tmp_path):
    Image.fromarray(np.full(SHAPE, 0.5, np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(FormatError, match=r"whole numbers from 0 on, not 0\.5 to 0\.5"):
        survey_masks([tmp_path / "m.tif"])


def test_classes_of_unknown_masks_are_their_colours_or_numbers(tmp_path):
    blurred = draw(COLOURS[0], COLOURS[1]).astype(int)
    blurred[0, 2:6] = (130, 60, 0)  # an edge, which is no class
    blurred[11] = np.arange(60).reshape(20, 3)
    path = save(tmp_path, blurred.astype(np.uint8))
    assert find_classes(survey_masks([path])) == [((0, 255, 0), None), ((255, 0, 0), None)]
    assert find_classes(survey_masks([save(tmp_path, draw(3, 7))])) == [((0, 0, 0), 3), ((0, 0, 0), 7)]
    assert find_classes(survey_masks([save(tmp_path, draw(255))])) == [((0, 0, 0), None)]


def test_a_grey_palette_is_read_as_it_looks(tmp_path):
    palette(draw(1, 1), [(0, 0, 0), (255, 255, 255)]).save(tmp_path / "m.png")
    assert read(make_info(1), tmp_path / "m.png") == [("binary", [42], {GREY: 0})]
    palette(draw(0, 0, 1), [(255, 255, 255), (0, 0, 0)]).save(tmp_path / "m.png")
    assert read(make_info(1), tmp_path / "m.png") == [("binary", [42], {GREY: 0})]
    assert find_classes(survey_masks([tmp_path / "m.png"])) == [((0, 0, 0), None)]


def test_a_coloured_palette_of_the_only_class_goes_by_its_index(tmp_path):
    palette(draw(1, 1), [(0, 0, 0), (128, 0, 128)]).save(tmp_path / "m.png")
    assert read(make_info(1), tmp_path / "m.png") == [("index", [42], {VOIDS: 0})]


def test_numbers_in_one_channel_are_numbers(tmp_path):
    path = save(tmp_path, draw((1, 0, 0), (2, 0, 0)))
    assert read(make_info(), path)[0][:2] == ("index", [12, 30])
    assert find_classes(survey_masks([path])) == [((0, 0, 0), 1), ((0, 0, 0), 2)]
    with pytest.raises(FormatError, match="no colour but the background's fills an area"):
        find_classes(survey_masks([save(tmp_path, draw((1, 0, 0), (0, 2, 0)))]))


@pytest.mark.parametrize("opacity", [255, 100])
def test_strokes_of_several_colours_on_transparent_are_several_classes(tmp_path, opacity):
    strokes = np.zeros((*SHAPE, 4), np.uint8)
    strokes[..., :3] = draw(COLOURS[0], COLOURS[1], (255, 255, 255))
    strokes[..., 3] = draw(opacity, opacity)
    path = save(tmp_path, strokes)
    assert find_classes(survey_masks([path])) == [((0, 255, 0), None), ((255, 0, 0), None)]
    assert read(make_info(), path)[0][:2] == ("colours", [12, 30])


def test_coloured_masks_may_have_a_white_background(tmp_path):
    white = (255, 255, 255)
    path, clean = (
        save(tmp_path, draw(COLOURS[0], COLOURS[1], white)),
        save(tmp_path, draw(255, 255, 255), "c.png"),
    )
    assert find_classes(survey_masks([path, clean])) == [((0, 255, 0), None), ((255, 0, 0), None)]
    assert [areas for _, areas, _ in read(make_info(), path, clean)] == [[12, 30], [0, 0]]
    edge = draw(COLOURS[0], COLOURS[1], white)
    edge[4, 2:6] = (255, 100, 100)  # nearer to the class than to white
    assert read(make_info(), save(tmp_path, edge))[0][:2] == ("colours", [16, 30])
    odd = draw(COLOURS[0], (0, 0, 255), white)
    with pytest.raises(FormatError, match=r"o\.png: 71\.4% .* as \(0, 0, 255\).*add a class or mend"):
        read_masks(
            save(tmp_path, odd, "o.png"), choose_encoding(survey_masks([path]), make_info()), make_info()
        )


def test_a_white_class_is_no_background(tmp_path):
    kinds = [make_info().classes[0], make_info().classes[1].model_copy(update={"colour": (255, 255, 255)})]
    info = make_info().model_copy(update={"classes": tuple(kinds)})
    path = save(tmp_path, draw(COLOURS[0], (0, 0, 0), (255, 255, 255)))
    assert read(info, path)[0][:2] == ("colours", [12, 198])


def test_255_alone_in_a_file_or_nearly_everywhere_is_doubtful(tmp_path):
    ones, whites = save(tmp_path, draw(1, 1)), save(tmp_path, draw(255, 255), "w.png")
    with pytest.raises(
        FormatError, match=r'1 hold 255 alone; set "masks" to "index" .*, to "instances" if all'
    ):
        read(make_info(1), ones, whites)
    assert [a for _, a, _ in read(make_info(1, masks="instances"), ones, whites)] == [[42], [42]]
    assert [a for _, a, _ in read(make_info(1, masks="index"), ones, whites)] == [[42], [0]]
    path = save(tmp_path, draw(0, 1, 255), "b.png")
    with pytest.raises(FormatError, match=r'255 covers 82% of all pixels; .*"value" of the class that is 0'):
        read(make_info(), path)
    kinds = [kind.model_copy(update={"value": n}) for n, kind in enumerate(make_info().classes)]
    assert read(make_info().model_copy(update={"classes": tuple(kinds)}), path)[0][:2] == ("index", [12, 30])


def test_a_mask_that_is_too_faint_beside_the_others_is_refused(tmp_path):
    bright, faint = save(tmp_path, draw(255, 255)), save(tmp_path, draw(100, 100), "f.png")
    with pytest.raises(FormatError, match=r"1 are no brighter than 100, half of 255 is wanted of a defect"):
        read(make_info(1), bright, faint)
    assert [a for _, a, _ in read(make_info(1, masks="binary"), bright, faint)] == [[42], [0]]


@pytest.mark.parametrize("values", [(300, 700), (3, 9), ((9, 0, 200), (80, 80, 0))])
def test_instances_of_any_number_or_colour_are_read_where_the_info_says_so(tmp_path, values):
    drawn = draw(*values) if np.size(values[0]) > 1 else np.select([draw(1, 2) == 1, draw(1, 2) == 2], values)
    path = save(tmp_path, drawn.astype(np.uint8 if drawn.ndim > 2 else np.uint16))
    with pytest.raises(FormatError, match='"instances" if all above 0 is a defect'):
        read(make_info(1), path)
    assert read(make_info(1, masks="instances"), path)[0][:2] == ("instances", [42])


@pytest.mark.parametrize("name", ["binary", "inverted", "instances", "alpha"])
def test_an_encoding_of_one_class_is_refused_for_two(tmp_path, name):
    with pytest.raises(FormatError, match=f'"masks": "{name}" in its info.json is for one class alone'):
        read(make_info(2, masks=name), save(tmp_path, draw(255)))


def test_blurred_edges_of_255_are_no_classes(tmp_path):
    mask = np.kron(draw(255, 255), np.ones((4, 4), np.uint8))
    mask[4:16, 7], mask[4:16, 24] = 60, 190
    assert find_classes(survey_masks([save(tmp_path, mask)])) == [((0, 0, 0), None)]
    mask[30:40, 4:9] = 60
    assert len(find_classes(survey_masks([save(tmp_path, mask)]))) == 3


def test_a_thin_class_at_the_edge_of_another_stays_where_the_info_says_index(tmp_path):
    mask = draw(0, 2)
    mask[4, 10:15] = 1
    path = save(tmp_path, mask)
    assert read(make_info(), path) == [("index", [0, 30], {VOIDS: 0, RIMS: 5})]
    assert read(make_info(masks="index"), path) == [("index", [5, 30], {VOIDS: 0, RIMS: 0})]


def test_shades_of_grey_are_classes_white_among_them(tmp_path):
    path = save(tmp_path, draw(128, 255))
    assert find_classes(survey_masks([path])) == [((0, 0, 0), 128), ((0, 0, 0), 255)]
    path = save(tmp_path, draw(7, 255))
    assert find_classes(survey_masks([path])) == [((0, 0, 0), None)]


def test_one_inverted_mask_among_others_is_named(tmp_path):
    good, bad = save(tmp_path, draw(255, 255)), save(tmp_path, draw(0, 0, 255), "bad.png")
    full, clean = save(tmp_path, draw(255, 255, 255), "full.png"), save(tmp_path, draw(0), "clean.png")
    assert [a for _, a, _ in read(make_info(1), good, full, clean)] == [[42], [240], [0]]
    with pytest.raises(
        FormatError, match=r"1 are bright all along .* dark inside \(bad\.png\): inverted\? Mend"
    ):
        read(make_info(1), good, bad, clean)
    assert [a for _, a, _ in read(make_info(1, masks="binary"), good, bad)] == [[42], [198]]


def test_a_colour_mask_gives_one_channel_a_colour():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 0], picture[0, 2], picture[1, 1] = COLOURS
    masks, n_off = masks_from_colours(picture, COLOURS)
    assert (masks.shape, masks.dtype, n_off) == ((2, 3, 3), np.uint8, 0)
    assert [np.argwhere(masks[..., c]).tolist() for c in range(3)] == [[[0, 0]], [[0, 2]], [[1, 1]]]


def test_colour_masks_round_trip():
    chosen = np.random.default_rng(0).integers(0, 4, (7, 11))
    masks = (chosen[..., None] == [1, 2, 3]).astype(np.uint8)
    again, n_off = masks_from_colours(colours_from_masks(masks, COLOURS), COLOURS)
    np.testing.assert_array_equal(again, masks)
    assert n_off == 0


def test_a_colour_off_the_palette_is_the_nearest_and_counted():
    picture = np.array([[(130, 0, 0), (120, 0, 0), (255, 0, 1), (0, 0, 255)]], np.uint8)
    masks, n_off = masks_from_colours(picture, COLOURS)
    assert masks[0].tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert n_off == 4


@pytest.mark.parametrize("colours", [[(1, 2, 3), (1, 2, 3)], [(9, 9, 9), (0, 0, 0)]])
def test_colours_that_cannot_be_told_apart_are_refused(colours):
    with pytest.raises(ImageError, match="not all different and not black"):
        masks_from_colours(np.zeros((2, 3, 3), np.uint8), colours)
