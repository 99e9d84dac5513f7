"""Pictures: never square, colours red-green-blue, shapes (height, width)."""

import re
import struct
import zlib

import numpy as np
import pytest

from defectmill.images import (
    ImageError,
    list_images,
    name_masks,
    picture_print,
    read_image,
    resize_image,
    resize_masks,
    write_image,
)


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


def test_grey_picture_reads_as_three_equal_channels(tmp_path):
    write_image(tmp_path / "a.png", np.full((5, 9), 77, np.uint8))
    read = read_image(tmp_path / "a.png", channels=3)
    assert read.shape == (5, 9, 3)
    assert np.unique(read).tolist() == [77]


def test_png_bytes_named_jpg_read_by_content(tmp_path, colours):
    write_image(tmp_path / "a.png", colours)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", channels=3), colours)


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


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    expected = re.escape(f"{path}: not a readable picture ({len(content)} bytes)")
    with pytest.raises(ImageError, match=expected):
        read_image(path)


def test_picture_of_more_pixels_than_can_be_held_is_named(tmp_path):
    header = struct.pack(">IIBBBBB", 100_000, 90_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(ImageError, match=r"a\.png: not a readable picture \(.*MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "a.png")


def test_picture_cut_short_is_no_picture(tmp_path, colours):
    for name in ("a.png", "a.jpg", "a.bmp"):
        write_image(tmp_path / name, colours.repeat(30, 0).repeat(30, 1))
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(ImageError, match="not a readable picture"):
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
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path / 'no.png'}: cannot be opened")):
        read_image(tmp_path / "no.png")


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_unknown_suffix_is_not_written(tmp_path, name):
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path / name}: cannot be written")):
        write_image(tmp_path / name, np.zeros((3, 4), np.uint8))
    assert not (tmp_path / name).exists()


def test_floats_are_not_written(tmp_path):
    with pytest.raises(ImageError, match=r"a\.png: a picture is uint8, not float32"):
        write_image(tmp_path / "a.png", np.zeros((3, 4), np.float32))


def test_pictures_of_a_folder_are_listed_sorted_and_alone(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "c.bmp", "c.png.part"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["a.JPG", "b.png", "c.bmp"]


def test_missing_folder_is_named(tmp_path):
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
    image = np.array([[0, 100, 8, 8], [100, 200, 8, 8]], np.uint8)[:, :, None]
    assert resize_image(image, (1, 2)).tolist() == [[[100], [8]]]


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


def texture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (37, 53, 1), np.uint8)


def test_print_tells_a_brighter_copy_from_another_picture():
    print_a, print_b = picture_print(texture(1)), picture_print(texture(2))
    slope = np.linspace(-30, 30, 53)[None, :, None]
    lit = picture_print((texture(1) * 0.8 + 30 + slope).astype(np.uint8))
    assert (print_a.shape, print_a.dtype) == ((64 * 64,), np.float32)
    assert print_a @ print_a == pytest.approx(1, abs=1e-5)
    assert print_a @ lit > 0.95
    assert abs(print_a @ print_b) < 0.2


def test_print_of_a_picture_without_structure_is_zero():
    flat = np.full((37, 53, 1), 120, np.uint8)
    assert not picture_print(flat).any()
    flat[20, 30] += 1
    assert not picture_print(flat).any()
