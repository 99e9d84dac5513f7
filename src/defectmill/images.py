"""Pictures: read them, resize them, tell twins.

Only this module knows that OpenCV orders colours blue-green-red and sizes (width, height).
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}


class ImageError(ValueError):
    """A picture that cannot be used, with its file name."""


def list_images(folder: Path) -> list[str]:
    """List the image ids (file names) of a folder, sorted."""
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def name_masks(image_ids: Iterable[str]) -> dict[str, str]:
    """Name the mask of each image, without suffix: its stem, or its whole id where two share one.

    Names that differ in their case alone count as one: some file systems cannot tell them apart.
    """
    names = {image_id: Path(image_id).stem for image_id in image_ids}
    while True:
        uses = Counter(name.casefold() for name in names.values())
        shared = [i for i, n in names.items() if n != i and uses[n.casefold()] > 1]
        if not shared:
            return names
        names.update({i: i for i in shared})


def read_image(path: Path, channels: int = 1) -> np.ndarray:
    """Read a picture by its content, whatever its suffix says.

    Args:
        channels: 1 for grey, 3 for red-green-blue.
    Returns:
        (H, W, channels) uint8.
    Raises:
        ImageError: the file is missing, no picture, cut short, or of over 2^30 pixels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror})") from error
    return decode_image(data, path, channels)


def decode_image(data: np.ndarray, path: Path, channels: int = 1) -> np.ndarray:
    """Decode the bytes of a file, (n,) uint8, as `read_image` does; `path` is for the error."""
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(data, flag) if data.size else None
    except cv2.error as error:  # too many pixels
        raise ImageError(f"{path}: not a readable picture ({error.err})") from error
    if image is None:
        raise ImageError(f"{path}: not a readable picture ({data.size} bytes)")
    return image[:, :, None] if channels == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_shape(path: Path) -> tuple[int, int]:
    """Read a picture's (height, width) off its header, without decoding it.

    Raises:
        ImageError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: not a readable picture ({error})") from error


def write_image(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Write (H, W), (H, W, 1) or (H, W, 3) red-green-blue uint8; the suffix gives the format.

    Raises:
        ImageError: another dtype, or a suffix that is no picture format.
    """
    try:
        path.write_bytes(encode_image(image, path.suffix, quality))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def encode_image(image: np.ndarray, suffix: str, quality: int = 95) -> bytes:
    """As `write_image`, into bytes."""
    if image.dtype != np.uint8:
        raise ImageError(f"a picture is uint8, not {image.dtype}")
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    try:
        _, data = cv2.imencode(suffix, image, options)
    except cv2.error as error:
        raise ImageError(f"cannot be written as {suffix!r}") from error
    return data.tobytes()


def resize_image(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, C) uint8 or float32 to `shape`; averages when it shrinks."""
    if image.shape[:2] == tuple(shape):
        return image
    shrinks = shape[0] * shape[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _resize(image, shape, how)


def resize_masks(masks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, C) uint8 masks to `shape` by the nearest pixel: no new values."""
    if masks.shape[:2] == tuple(shape):
        return masks
    return _resize(masks, shape, cv2.INTER_NEAREST)


def picture_print(image: np.ndarray, side: int = 64) -> np.ndarray:
    """Summarise a picture's fine structure, to tell near-duplicates by their inner product.

    The slow lighting is taken away (Gaussian, 2 pixels of `side`): it makes different parts
    alike. Source: measured on the magnetic tiles, see `folds`.

    Args:
        image: (H, W, C) uint8; the first channel counts.
    Returns:
        (side * side,) float32 of mean 0 and norm 1; zeros for a picture without structure.
    """
    small = resize_image(image[:, :, :1], (side, side))[:, :, 0].astype(np.float32)
    small -= cv2.GaussianBlur(small, (0, 0), 2)
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    faint = 0.05 * side
    return (small / norm if norm > faint else np.zeros_like(small)).ravel()


def _resize(array: np.ndarray, shape: tuple[int, int], how: int) -> np.ndarray:
    # By four channels: INTER_AREA takes no more.
    parts = [
        cv2.resize(array[:, :, c : c + 4], (shape[1], shape[0]), interpolation=how)
        for c in range(0, array.shape[2], 4)
    ]
    return np.concatenate([part.reshape(*shape, -1) for part in parts], axis=2)
