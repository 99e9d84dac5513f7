"""Images and colour masks: never square, colours red-green-blue, shapes (height, width)."""

import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from defectmill.images import (
    ImageError,
    colours_from_masks,
    copy_name,
    decode_image,
    encode_image,
    list_images,
    list_unread,
    masks_from_colours,
    name_masks,
    original_of,
    overlay,
    read_depth,
    read_image,
    read_orientation,
    read_shape,
    require_images,
    resize_image,
    resize_masks,
    turn_upright,
    write_image,
)

COLOURS = [(255, 0, 0), (0, 255, 0), (255, 255, 0)]


@pytest.fixture
def colours() -> np.ndarray:
    """(5, 9, 3): red left, green in the middle, blue right."""
    image = np.zeros((5, 9, 3), np.uint8)
    image[:, :3, 0] = image[:, 3:6, 1] = image[:, 6:, 2] = 255
    return image


def test_colours_round_trip_as_red_green_blue(tmp_path, colours):
    write_image(tmp_path / "a.png", colours)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", channels=3), colours)


@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 1)])
def test_grey_round_trips_with_one_channel(tmp_path, shape):
    image = np.arange(45, dtype=np.uint8).reshape(shape)
    write_image(tmp_path / "a.png", image)
    read = read_image(tmp_path / "a.png")
    assert read.shape == (5, 9, 1)
    np.testing.assert_array_equal(read, image.reshape(5, 9, 1))


def test_a_grey_image_reads_as_three_equal_channels(tmp_path):
    write_image(tmp_path / "a.png", np.full((5, 9), 77, np.uint8))
    read = read_image(tmp_path / "a.png", channels=3)
    assert read.shape == (5, 9, 3)
    assert np.unique(read).tolist() == [77]


def test_png_bytes_named_jpg_read_by_content(tmp_path, colours):
    write_image(tmp_path / "a.png", colours)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", channels=3), colours)


def test_the_shape_is_read_from_the_header_alone(tmp_path, colours):
    write_image(tmp_path / "a.png", colours)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) - 20])  # without all its pixels
    assert read_shape(tmp_path / "a.png") == (5, 9)


def test_bytes_are_those_of_the_file(tmp_path, colours):
    write_image(tmp_path / "a.png", colours)
    data = encode_image(colours, ".png")
    assert data == (tmp_path / "a.png").read_bytes()
    decoded = decode_image(np.frombuffer(data, np.uint8), tmp_path / "a.png", channels=3)
    np.testing.assert_array_equal(decoded, colours)


def test_jpg_is_smaller_at_lower_quality(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 70), np.uint8)
    sizes = []
    for quality in (30, 95):
        write_image(tmp_path / "a.jpg", noise, quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


def test_name_outside_ascii_reads_and_writes(tmp_path):
    path = tmp_path / "Fläche 1_ü.png"
    write_image(path, np.full((3, 4), 9, np.uint8))
    assert read_image(path).shape == (3, 4, 1)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    expected = re.escape(f"{path}: not a readable image ({len(content)} bytes)")
    with pytest.raises(ImageError, match=expected):
        read_image(path)
    with pytest.raises(ImageError, match=re.escape(f"{path}: not a readable image")):
        read_shape(path)


def test_an_image_of_more_pixels_than_can_be_held_is_named(tmp_path):
    header = struct.pack(">IIBBBBB", 100_000, 90_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(ImageError, match=r"a\.png: not a readable image \(.*MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "a.png")


def test_an_image_cut_short_is_no_image(tmp_path, colours):
    for name in ("a.png", "a.jpg", "a.bmp"):
        write_image(tmp_path / name, colours.repeat(30, 0).repeat(30, 1))
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(ImageError, match="not a readable image"):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("image_ids", "names"),
    [
        (["b.png", "a.JPG"], ["b", "a"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["A.jpg", "a.png"], ["A.jpg", "a.png"]),
        (["a.jpg", "a.png", "a.jpg.bmp"], ["a.jpg", "a.png", "a.jpg.bmp"]),
        (["a", "a.png"], ["a", "a.png"]),
        (["a.png", "A.png"], ["a.png", "A.png"]),
        ([], []),
    ],
)
def test_masks_are_named_by_the_stem_unless_two_images_share_it(image_ids, names):
    assert name_masks(image_ids) == dict(zip(image_ids, names, strict=True))


def test_missing_file_is_named(tmp_path):
    path = tmp_path / "no.png"
    with pytest.raises(ImageError, match=re.escape(f"{path}: cannot be opened")):
        read_image(path)
    with pytest.raises(ImageError, match=re.escape(f"{path}: not a readable image")):
        read_shape(path)


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_unknown_suffix_is_not_written(tmp_path, name):
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path / name}: cannot be written")):
        write_image(tmp_path / name, np.zeros((3, 4), np.uint8))
    assert not (tmp_path / name).exists()


def test_floats_are_not_written(tmp_path):
    with pytest.raises(ImageError, match=r"a\.png: an image is uint8, not float32"):
        write_image(tmp_path / "a.png", np.zeros((3, 4), np.float32))


def test_a_copy_is_named_after_its_original_which_keeps_its_own_marks():
    assert copy_name("hflip", "a_1.jpg") == "hflip__a_1.jpg.png"
    assert original_of("hflip__a_1.jpg.png") == "a_1.jpg"
    assert original_of(copy_name("hflip", "a__b.png")) == "a__b.png"
    assert original_of("a_1.jpg") == ""


def test_images_of_a_folder_are_listed_sorted_and_alone(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "c.bmp", "c.png.part"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["a.JPG", "b.png", "c.bmp"]


def test_hidden_files_folders_and_other_kinds_are_no_images(tmp_path):
    (tmp_path / "lot.png").mkdir()
    for name in (
        "B.WEBP",
        "c.gif",
        "d.Tiff",
        "._B.WEBP",
        ".png",
        ".a.png",
        "e.heic",
        "f.dng",
        "lot.png/g.png",
    ):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["B.WEBP", "c.gif", "d.Tiff"]
    assert require_images(tmp_path) == ["B.WEBP", "c.gif", "d.Tiff"]


def test_what_is_left_out_of_a_folder_is_listed(tmp_path):
    for name in (
        "a.png",
        "b.HEIC",
        "README",
        "._a.png",
        ".b.svg",
        "y/z/c.png",
        "y/d.txt",
        ".h/e.png",
        "y/._c.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_unread(tmp_path) == ["b.HEIC", "y/z/c.png"]
    assert list_unread(tmp_path / "no") == []


def test_a_folder_without_images_is_refused_with_what_it_holds(tmp_path):
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path}: holds nothing; read are .jpg .jpeg .png")):
        require_images(tmp_path)
    (tmp_path / "lot 1").mkdir()
    for n in range(6):
        (tmp_path / "lot 1" / f"{n}.png").touch()
    said = "holds lot 1/0.png, lot 1/1.png, lot 1/2.png, lot 1/3.png, lot 1/4.png, ...; read are .jpg"
    with pytest.raises(ImageError, match=re.escape(said)):
        require_images(tmp_path)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_the_first_picture_of_a_webp_or_gif_is_read(tmp_path, suffix):
    first = np.zeros((5, 9, 3), np.uint8)
    first[1:3, 2:7] = 255, 0, 0
    frames = [Image.fromarray(frame).quantize(4) for frame in (first, 255 - first)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}", channels=3), first)
    assert read_shape(tmp_path / f"a{suffix}") == (5, 9)


def test_missing_folder_is_named(tmp_path):
    assert list_images(tmp_path / "no", missing_ok=True) == []
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path / 'no'}: no such folder")):
        list_images(tmp_path / "no")


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("shape", [(4, 9), (20, 31), (4, 31)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resizing_keeps_height_before_width_and_channels(channels, shape, dtype):
    image = np.zeros((8, 18, channels), dtype)
    image[:] = 10 * np.arange(channels)
    for resize in (resize_image, resize_masks):
        small = resize(image, shape)
        assert (small.shape, small.dtype) == ((*shape, channels), dtype)
        np.testing.assert_allclose(small[2, 3], 10 * np.arange(channels))


def test_shrinking_averages():
    image = np.full((3, 6, 1), 8, np.uint8)
    image[0, :3, 0] = 0, 98, 38
    assert resize_image(image, (1, 2)).tolist() == [[[(136 + 6 * 8) // 9], [8]]]


def test_masks_keep_their_values():
    masks = (np.random.default_rng(0).random((37, 53, 5)) < 0.5).astype(np.uint8)
    for shape in ((11, 90), (80, 17)):
        assert np.unique(resize_masks(masks, shape)).tolist() == [0, 1]


def test_mask_grown_by_whole_numbers_repeats_its_pixels():
    masks = np.array([[1, 0, 1], [0, 1, 0]], np.uint8)[:, :, None]
    expected = masks.repeat(2, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(resize_masks(masks, (4, 9)), expected)


def test_right_shape_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    np.testing.assert_array_equal(resize_image(image, (5, 9)), image)


def test_a_class_is_tinted_and_outlined_in_its_colour():
    masks = np.zeros((5, 9, 2), np.uint8)
    masks[1:4, 1:4, 0] = masks[3:, 6:, 1] = 1
    drawn = overlay(np.full((5, 9, 1), 100, np.uint8), masks, [(200, 0, 0), (0, 0, 255)], opacity=0.5)
    assert (drawn.shape, drawn.dtype) == ((5, 9, 3), np.uint8)
    outline = masks[:, :, 0].astype(bool)
    outline[2, 2] = False
    assert np.unique(drawn[outline], axis=0).tolist() == [[200, 0, 0]]
    assert drawn[2, 2].tolist() == [150, 50, 50]
    # At the border of the image too.
    assert np.unique(drawn[masks[:, :, 1] > 0], axis=0).tolist() == [[0, 0, 255]]
    assert np.unique(drawn[masks.max(axis=2) == 0]).tolist() == [100]


def test_tinting_leaves_image_and_masks_alone(colours):
    image, masks = colours.copy(), np.ones((5, 9, 1), np.uint8)
    assert not np.array_equal(overlay(image, masks, [(9, 9, 9)]), colours)
    np.testing.assert_array_equal(image, colours)
    assert masks.all()


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


def test_where_classes_overlap_the_later_colour_shows():
    masks = np.array([[[1, 1, 0], [0, 1, 1], [0, 0, 0]]], np.uint8)
    assert colours_from_masks(masks, COLOURS).tolist() == [[[0, 255, 0], [255, 255, 0], [0, 0, 0]]]


def test_a_colour_off_the_palette_is_the_nearest_and_counted():
    picture = np.array([[(130, 0, 0), (120, 0, 0), (255, 0, 1), (0, 0, 255)]], np.uint8)
    masks, n_off = masks_from_colours(picture, COLOURS)
    assert masks[0].tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert n_off == 4


@pytest.mark.parametrize("colours", [[(1, 2, 3), (1, 2, 3)], [(9, 9, 9), (0, 0, 0)]])
def test_colours_that_cannot_be_told_apart_are_refused(colours):
    with pytest.raises(ImageError, match="not all different and not black"):
        masks_from_colours(np.zeros((2, 3, 3), np.uint8), colours)


def save_deep(path, brightest: int):
    image = np.zeros((4, 7), np.uint16)
    image[1, 2], image[3, 6] = brightest, brightest // 2
    cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize(
    ("brightest", "bits"), [(255, 8), (256, 10), (1023, 10), (4095, 12), (9000, 14), (65535, 16)]
)
def test_cameras_of_more_than_8_bits_are_read_by_their_brightest_pixel(tmp_path, brightest, bits):
    path = save_deep(tmp_path / "a.png", brightest)
    grey = read_image(path)
    assert grey.dtype == np.uint8
    assert grey[1, 2, 0] == brightest >> (bits - 8)
    assert grey[3, 6, 0] == brightest // 2 >> (bits - 8)
    assert read_image(path, 3).tolist() == np.repeat(grey, 3, axis=2).tolist()
    assert read_depth(np.fromfile(path, np.uint8), path) == bits


def test_the_bits_of_a_camera_may_be_told(tmp_path):
    path = save_deep(tmp_path / "dark.png", 1000)
    assert read_image(path).max() == 250
    assert read_image(path, bits=12).max() == 62
    with pytest.raises(
        ImageError, match=r"dark\.png: holds 1000, which 8 bits cannot; set the dataset's bits to 10"
    ):
        read_image(path, bits=8)


def test_fractions_are_an_image_between_0_and_1_only(tmp_path):
    image = np.zeros((4, 7), np.float32)
    image[1, 2] = 0.5
    cv2.imwrite(str(tmp_path / "a.tiff"), image)
    assert read_image(tmp_path / "a.tiff").max() == 128
    assert (read_image(tmp_path / "a.tiff", 3) == read_image(tmp_path / "a.tiff")).all()
    cv2.imwrite(str(tmp_path / "a.tiff"), image * 3)
    with pytest.raises(ImageError, match=r"a\.tiff: float32 of 0 to 1\.5; write it with 8 or 16 bits"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_read_as_stored_and_turned_as_pillow_turns_them(tmp_path, orientation):
    pixels = np.arange(84, dtype=np.uint8).reshape(4, 7, 3)
    tag = Image.Exif()
    tag[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=tag.tobytes())
    assert read_image(tmp_path / "a.png", 3).tolist() == pixels.tolist()
    assert read_orientation(tmp_path / "a.png") == orientation
    with Image.open(tmp_path / "a.png") as image:
        upright = np.array(ImageOps.exif_transpose(image))
    assert turn_upright(pixels, orientation).tolist() == upright.tolist()
