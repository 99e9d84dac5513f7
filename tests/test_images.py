"""Images and colour masks: never square, colours red-green-blue, shapes (height, width)."""

import os
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from defectmill.formats.masks import read_pixels
from defectmill.formats.shapes import FormatError
from defectmill.images import (
    ImageError,
    colours_from_masks,
    copy_name,
    decode_image,
    encode_image,
    list_images,
    list_unread,
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


def declare(path, height: int, width: int):
    """Write a small file that says it is an image of this size, in the format of its suffix."""
    image = np.random.default_rng(0).integers(0, 256, (5, 9), np.uint8)
    Image.fromarray(image).save(path, lossless=True)
    data = bytearray(path.read_bytes())
    if path.suffix == ".png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif path.suffix == ".jpg":
        place = data.index(b"\xff\xc0")
        data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    elif path.suffix == ".bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif path.suffix == ".gif":
        data[6:10] = struct.pack("<HH", width, height)
    elif path.suffix == ".webp":  # VP8L: 14 bits each, less 1
        place = data.index(b"VP8L") + 9
        data[place : place + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        for tag, value in ((256, width), (257, height)):
            place = data.index(struct.pack("<HHI", tag, 4, 1))
            data[place + 8 : place + 12] = struct.pack("<I", value)
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".webp", ".tif"])
def test_an_image_that_says_it_is_enormous_is_refused_before_it_is_decoded(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    declare(path, 12_000, 16_000)
    decoded = []
    monkeypatch.setattr(cv2, "imdecode", lambda *words: decoded.append(words))
    told = "a" + suffix + ": has 12000 x 16000 = 192.0 million pixels: make it smaller, or set "
    told += "DEFECTMILL_MEGAPIXELS, which is 100"
    for read in (read_image, read_shape, read_orientation):
        with pytest.raises(ImageError, match=re.escape(told)):
            read(path)
    if suffix not in (".png", ".jpg"):  # of which the signature tells the depth
        with pytest.raises(ImageError, match=re.escape(told)):
            read_depth(np.fromfile(path, np.uint8), path)
    with pytest.raises(FormatError, match=re.escape(told)):
        read_pixels(path)
    assert not decoded


def test_a_setting_says_how_large_an_image_may_be(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, np.zeros((20, 30), np.uint8))
    monkeypatch.setenv("DEFECTMILL_MEGAPIXELS", "0.0006")
    assert read_image(path).shape == (20, 30, 1)
    monkeypatch.setenv("DEFECTMILL_MEGAPIXELS", "0.0005")
    with pytest.raises(ImageError, match=r"has 20 x 30 = 0\.0 million pixels"):
        read_image(path)
    monkeypatch.setenv("DEFECTMILL_MEGAPIXELS", "many")
    with pytest.raises(ImageError, match="DEFECTMILL_MEGAPIXELS=many: how many millions of pixels"):
        read_shape(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "a.png"
    os.mkfifo(path)
    for read in (read_image, read_shape, read_orientation):
        with pytest.raises(ImageError, match=r"a\.png: cannot be read \(it is a pipe or device\)"):
            read(path)
    assert list_images(tmp_path) == []


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31m.png", b"a\xe9.png", "a\u2028.png"])
def test_a_name_that_no_table_can_hold_is_refused(tmp_path, name):
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), os.fsencode(name))))
    write_image(tmp_path / "b.png", np.zeros((5, 9), np.uint8))
    (tmp_path / "b.png").rename(path)
    with pytest.raises(ImageError, match="is no line of text in UTF-8; rename that file") as error:
        list_images(tmp_path)
    assert str(error.value).isprintable()


def test_what_another_program_would_have_to_open_is_no_image(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (9, 5)).save(path, "EPS")
    for read in (read_image, read_shape):
        with pytest.raises(ImageError, match=r"not a readable image \([0-9]+ bytes\)"):
            read(path)


def test_an_image_cut_short_is_no_image(tmp_path, colours):
    for name in ("a.png", "a.jpg", "a.bmp"):
        write_image(tmp_path / name, colours.repeat(30, 0).repeat(30, 1))
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(ImageError, match="not a readable image"):
            read_image(tmp_path / name)


def test_missing_file_is_named(tmp_path):
    path = tmp_path / "no.png"
    with pytest.raises(ImageError, match=re.escape(f"{path}: no such file")):
        read_image(path)
    with pytest.raises(ImageError, match=re.escape(f"{path}: no such file")):
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


def test_where_classes_overlap_the_later_colour_shows():
    masks = np.array([[[1, 1, 0], [0, 1, 1], [0, 0, 0]]], np.uint8)
    assert colours_from_masks(masks, COLOURS).tolist() == [[[0, 255, 0], [255, 255, 0], [0, 0, 0]]]


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
