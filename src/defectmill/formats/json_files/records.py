"""What JSON files of annotations hold: objects with entries, corners, PNG pictures as text."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from defectmill.files import DefectmillError, read_text
from defectmill.formats.shapes import FormatError
from defectmill.images import most_megapixels, open_picture

SHOWN = 60  # characters of a value that an error shows
FARTHEST = 1e9  # of a corner


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8; FormatError where it is none."""
    try:
        return json.loads(read_text(path))
    except DefectmillError as error:
        raise FormatError(str(error)) from error
    except ValueError as error:
        raise FormatError(f"{path}: not JSON ({error})") from error
    except RecursionError as error:
        raise FormatError(f"{path}: not JSON (brackets in brackets without end)") from error


def take(record: Any, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """Take an entry of a JSON object.

    Args:
        default: for an entry that is missing or null.
    Raises:
        FormatError: it is none of `kind`.
    """
    value = record.get(key) if isinstance(record, dict) else None
    value = default if value is None else value
    if isinstance(value, kind):
        return value
    kinds = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
    raise FormatError(f"{key} is {value!r:.{SHOWN}}, not of type {kinds}")


def take_number(record: Any, key: str) -> float:
    """Take a number that can be a place in an image; FormatError where it is none."""
    value = take(record, key, (int, float))
    if not abs(value) < FARTHEST:
        raise FormatError(f"{key} is {value!r:.{SHOWN}}, no place in an image")
    return float(value)


def take_shape(record: Any, height: str, width: str) -> tuple[int, int] | None:
    """Take an image's (height, width); None where one is missing."""
    shape = take(record, height, int, 0), take(record, width, int, 0)
    return shape if all(shape) else None


def read_corners(value: Any) -> np.ndarray:
    """Read [[x, y], ...], as a polygon has them: (n, 2) float; FormatError where they are none."""
    try:
        corners = np.array(value or [], float).reshape(len(value or []), 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{value!r:.{SHOWN}} are no corners [[x, y], ...]") from error
    if not (np.abs(corners) < FARTHEST).all():  # neither inf nor nan
        raise FormatError(f"{value!r:.{SHOWN}} are no corners in pixels")
    return corners


def decode_patch(text: str) -> np.ndarray:
    """Decode a mask, a PNG in base64, perhaps compressed by zlib: (h, w) bool.

    What is opaque is mask or, where the PNG has no transparency, what is not black.
    """
    try:
        data = base64.b64decode(text)
        if not data.startswith(b"\x89PNG"):  # a PNG is hardly larger than its pixels
            data = zlib.decompressobj().decompress(data, int(4e6 * most_megapixels()))
        with open_picture(Path("mask"), data) as picture:
            if picture.has_transparency_data:
                return np.array(picture.convert("RGBA"))[:, :, 3] > 0
            return np.array(picture.convert("L")) > 0
    except (ValueError, zlib.error) as error:
        raise FormatError(f"its mask is no PNG in base64: {text:.{SHOWN}} ({error})") from error
