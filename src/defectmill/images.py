"""Images and colour masks: read, write, resize, tint.

Only this module knows that OpenCV orders colours blue-green-red and sizes (width, height).
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from defectmill.dataset_info import Colour
from defectmill.files import SUFFIXES, DefectmillError, check_file, is_text, read_file

BLACK: Colour = (0, 0, 0)  # background in a colour mask
COPY_MARK = "__"  # in the name of an augmented copy
DEPTHS = (8, 10, 12, 14, 16)  # bits a channel that cameras give, in files of 16
LARGEST = "DEFECTMILL_MEGAPIXELS"  # environment: images of more are refused before they are decoded
# Of Pillow's, those that start no other program and open no other file.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")
Image.MAX_IMAGE_PIXELS = None  # `open_picture` has its own bound
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damage that it reads past
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its errors are told in one line


class ImageError(DefectmillError):
    """An image that cannot be used, with its file name."""


def list_images(folder: Path, missing_ok: bool = False) -> list[str]:
    """List the image ids (file names) of a folder, sorted; hidden files and sub-folders are none.

    ImageError where there is no such folder, which with `missing_ok` counts as an empty one, or a name that
    is no line of text.
    """
    if not (folder.is_dir() or missing_ok):
        raise ImageError(f"{folder}: no such folder")
    names = sorted(p.name for p in folder.glob("*") if _is_image(p))
    if odd := [name for name in names if not is_text(name)]:
        raise ImageError(f"{folder}: {odd[0]!a} is no line of text in UTF-8; rename that file")
    return names


def require_images(folder: Path) -> list[str]:
    """As `list_images`; ImageError where there is no image, with what is there instead."""
    image_ids = list_images(folder)
    if not image_ids:
        unread = list_unread(folder)
        held = f"{', '.join(unread[:5])}{', ...' * (len(unread) > 5)}" if unread else "nothing"
        raise ImageError(f"{folder}: holds {held}; read are {' '.join(SUFFIXES)}, and no sub-folders")
    return image_ids


def list_unread(folder: Path) -> list[str]:
    """List the other files of a folder of images, and images in its sub-folders, as paths relative to it.

    Hidden files, such as the ._ files of macOS, and files without a suffix are nobody's images.
    """
    others = [p for p in folder.glob("[!.]*.*") if p.is_file() and not _is_image(p)]
    below = [p for p in folder.glob("[!.]*/**/*") if _is_image(p)]
    return sorted(p.relative_to(folder).as_posix() for p in (*others, *below))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def copy_name(transform: str, image_id: str) -> str:
    """Name an augmented copy of an image, so that it stays with its original in one group."""
    return f"{transform}{COPY_MARK}{image_id}.png"


def original_of(image_id: str) -> str:
    """Image id of which this one, by its name, is an augmented copy; "" where the name tells of none."""
    return image_id.partition(COPY_MARK)[2].removesuffix(".png")


def read_image(path: Path, channels: int = 1, bits: int = 0) -> np.ndarray:
    """Read an image by its content, whatever its suffix says, with its pixels as they are stored.

    An orientation tag (EXIF) is not applied: masks are drawn on stored pixels. Of 16 bits a channel the
    lowest of the `bits` that the camera gives are dropped, down to 8.

    Args:
        channels: 1 for grey, 3 for red-green-blue.
        bits: of the camera, 8 to 16; 0: the fewest of DEPTHS that hold the brightest pixel of this image.
    Returns:
        (H, W, channels) uint8.
    Raises:
        ImageError: no file, no image, cut short, too large, fractions outside 0..1, too bright for `bits`.
    """
    with _located(path):
        return decode_image(np.frombuffer(read_file(path), np.uint8), path, channels, bits)


def decode_image(data: np.ndarray, path: Path, channels: int = 1, bits: int = 0) -> np.ndarray:
    """Decode the bytes of a file, (n,) uint8, as `read_image` does; `path` is for the error."""
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    image = _decode(data, path, flag | cv2.IMREAD_ANYDEPTH)
    if image.dtype != np.uint8:
        image = _to_8_bits(image, path, bits)
    return image[:, :, None] if channels == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_depth(data: np.ndarray, path: Path) -> int:
    """Tell from the bytes of a file, (n,) uint8, how many bits a channel its image needs: one of DEPTHS."""
    is_png = bytes(data[:4]) == b"\x89PNG"  # it tells its depth in byte 24 (ISO/IEC 15948, 11.2.2)
    if bytes(data[:2]) == b"\xff\xd8" or (is_png and data.size > 24 and data[24] <= 8):
        return 8
    image = _decode(data, path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return 8 if image.dtype != np.uint16 else _needed_bits(int(image.max()))


def _decode(data: np.ndarray, path: Path, flag: int) -> np.ndarray:
    held, is_tiff = data.tobytes(), bytes(data[:2]) in (b"II", b"MM")
    with _located(path, held) if is_tiff else open_picture(path, held):
        if is_tiff:  # OpenCV reads more of them than Pillow, such as those of three floats
            _refuse_large(path, *_read_tiff_shape(held))
    try:
        image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
        if image is None and flag & cv2.IMREAD_COLOR and is_tiff:  # of grey floats, read as grey alone
            grey = cv2.imdecode(data, flag & ~cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            image = None if grey is None else cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    except cv2.error as error:
        why = " ".join(error.err.replace(">", " ").split())
        raise ImageError(f"{path}: not a readable image ({why})") from error
    if image is None:
        raise ImageError(f"{path}: not a readable image ({data.size} bytes)")
    return image


def _needed_bits(brightest: int) -> int:
    return next(bits for bits in DEPTHS if brightest < 1 << bits)


def _to_8_bits(image: np.ndarray, path: Path, bits: int) -> np.ndarray:
    low, high = float(image.min()), float(image.max())
    if image.dtype != np.uint16:
        if not 0 <= low <= high <= 1:
            raise ImageError(
                f"{path}: {image.dtype} of {low:g} to {high:g}; write it with 8 or 16 bits a channel"
            )
        return (image * 255).round().astype(np.uint8)
    needed = _needed_bits(int(high))
    if bits and needed > bits:
        raise ImageError(
            f"{path}: holds {high:g}, which {bits} bits cannot; set the dataset's bits to {needed}"
        )
    return (image >> ((bits or needed) - 8)).astype(np.uint8)


def most_megapixels() -> float:
    """How many millions of pixels an image may have: 100, or what the environment says."""
    try:
        return float(os.environ.get(LARGEST, "100"))
    except ValueError as error:
        raise ImageError(f"{LARGEST}={os.environ[LARGEST]}: how many millions of pixels?") from error


@contextmanager
def open_picture(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image by Pillow, whose header alone is read until the block asks for more.

    Args:
        data: the bytes of the file, where they were read; `path` is for errors then.
    Raises:
        ImageError: no image, a damaged one (in the block, too), or one of more than `most_megapixels`.
    """
    with _located(path, data), Image.open(path if data is None else BytesIO(data), formats=FORMATS) as image:
        _refuse_large(path, image.height, image.width)
        yield image


@contextmanager
def _located(path: Path, data: bytes | None = None) -> Iterator[None]:
    try:
        size = check_file(path).stat().st_size if data is None else len(data)
        yield
    except DefectmillError as error:
        raise ImageError(str(error)) from error
    except Exception as error:  # Pillow raises nearly anything of damaged files
        why = f"{size} bytes" if isinstance(error, UnidentifiedImageError) else error or type(error).__name__
        raise ImageError(f"{path}: not a readable image ({why})") from error


def _refuse_large(path: Path, height: int, width: int) -> None:
    if (millions := height * width / 1e6) > most_megapixels():
        told = f"has {height} x {width} = {millions:,.1f} million pixels"
        raise ImageError(f"{path}: {told}: make it smaller, or set {LARGEST}, which is {most_megapixels():g}")


def _read_tiff_shape(data: bytes) -> tuple[int, int]:
    """Read (height, width), tags 257 and 256 of the first directory (TIFF 6.0); 0 where there is none."""
    tags, file = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8]), BytesIO(data)  # 43: BigTIFF
    file.seek(tags.next)
    tags.load(file)
    return int(tags.get(257, 0)), int(tags.get(256, 0))


def read_shape(path: Path) -> tuple[int, int]:
    """Read an image's (height, width) from its header alone."""
    with open_picture(path) as image:
        return image.height, image.width


def read_orientation(path: Path, data: bytes | None = None) -> int:
    """Read an image's orientation tag (EXIF): 1 as stored, 2 to 8 mirrored or turned, 5 to 8 onto a side."""
    with open_picture(path, data) as image:
        tag = image.getexif().get(ExifTags.Base.Orientation, 1)
        return tag if tag in range(2, 9) else 1


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn the stored pixels (H, W, C) of an image as its orientation tag says (EXIF 2.32, tag 0x0112)."""
    turned = image if orientation < 5 else image.transpose(1, 0, 2)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(turned[:: -1 if down else 1, :: -1 if across else 1])


def write_image(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Write (H, W), (H, W, 1) or (H, W, 3) red-green-blue uint8; the suffix gives the format.

    Raises ImageError for another dtype or suffix. `quality` is JPEG's, 0..100.
    """
    try:
        path.write_bytes(encode_image(image, path.suffix, quality))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def encode_image(image: np.ndarray, suffix: str, quality: int = 95) -> bytes:
    """As `write_image`, into bytes."""
    if image.dtype != np.uint8:
        raise ImageError(f"an image is uint8, not {image.dtype}")
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    try:
        _, data = cv2.imencode(suffix, image, options)
    except cv2.error as error:
        raise ImageError(f"cannot be written as {suffix!r}") from error
    return data.tobytes()


def resize_image(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize (H, W, C) uint8 or float32 to `shape`; averages when it shrinks."""
    shrinks = shape[0] * shape[1] < image.shape[0] * image.shape[1]
    return _resize(image, shape, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_masks(masks: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize (H, W, C) uint8 masks to `shape` by the nearest pixel: no new values."""
    return _resize(masks, shape, cv2.INTER_NEAREST)


def _resize(array: np.ndarray, shape: Sequence[int], how: int) -> np.ndarray:
    height, width = shape
    if array.shape[:2] == (height, width):
        return array
    # By four channels: INTER_AREA takes no more.
    parts = [
        cv2.resize(array[:, :, c : c + 4], (width, height), interpolation=how)
        for c in range(0, array.shape[2], 4)
    ]
    return np.concatenate([part.reshape(height, width, -1) for part in parts], axis=2)


def overlay(
    image: np.ndarray, masks: np.ndarray, colours: Sequence[Colour], opacity: float = 0.35
) -> np.ndarray:
    """Tint each class of (H, W, C) masks in its colour, with an opaque outline: (H, W, 3) uint8.

    Args:
        image: (H, W, 1 or 3) uint8.
        colours: of the classes, in the order of the channels.
        opacity: of the tint, 0..1.
    """
    tinted = (np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image).astype(np.float32)
    for channel, colour in enumerate(colours):
        inside = masks[:, :, channel].astype(bool)
        neighbours = [np.roll(inside, step, axis) for axis in (0, 1) for step in (-1, 1)]
        inner = np.logical_and.reduce([inside, *neighbours])
        tinted[inside] += opacity * (np.array(colour) - tinted[inside])
        tinted[inside & ~inner] = colour
    return tinted.round().astype(np.uint8)


def colours_from_masks(masks: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """Draw (H, W, C) masks as a colour mask, (H, W, 3) uint8; where classes overlap the later one shows."""
    picture = np.zeros((*masks.shape[:2], 3), np.uint8)
    for channel, colour in enumerate(colours):
        picture[masks[:, :, channel] > 0] = colour
    return picture
