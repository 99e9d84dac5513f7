"""Annotation formats in and out: image files with masks, whatever tool drew them."""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.dataset_info import DatasetInfo
from defectmill.formats.shapes import FormatError, Source

# Format -> module and function, imported when used: it gives the Source of a folder or file, or None where
# that is another format.
READERS = {
    "coco": ("coco", "find"),
    "yolo": ("yolo", "find"),
    "labelme": ("json_files", "find_labelme"),
    "supervisely": ("json_files", "find_supervisely"),
    "label studio": ("json_files", "find_label_studio"),
    "cvat": ("xml_files", "find_cvat"),
    "voc": ("xml_files", "find_voc"),
    "csv": ("csv_runs", "find"),
}


def find_sources(raw: Path) -> dict[str, Source]:
    """Find the formats in which a folder or file is annotated: {format: its annotations}.

    Raises:
        FormatError: a format is recognised, but broken.
    """
    found = {}
    for name, (module, function) in READERS.items():
        source = getattr(import_module(f"{__name__}.{module}"), function)(raw)
        if source is not None:
            found[name] = source
    return found


def open_source(raw: Path, name: str) -> Source:
    """Open a folder or file that is annotated in a format of READERS; FormatError where it is not."""
    if name not in READERS:
        raise FormatError(f"no format {name!r}; there are: {', '.join(READERS)}")
    module, function = READERS[name]
    source = getattr(import_module(f"{__name__}.{module}"), function)(raw)
    if source is None:
        raise FormatError(f"{raw}: is not annotated in the format {name}")
    return source


# Format -> module and function, imported when used: (image id, (H, W, C) uint8 masks) pairs, the dataset's
# description and a folder in; a table of what was lost out: ImageId, ClassId, pixels, lost, gained.
WRITERS = {"coco": ("coco", "write"), "yolo": ("yolo", "write"), "labelme": ("json_files", "write_labelme")}


def load_writer(name: str) -> Callable[[Iterable[tuple[str, np.ndarray]], DatasetInfo, Path], pd.DataFrame]:
    """Import the function that writes a format of WRITERS; FormatError where there is no such format."""
    if name not in WRITERS:
        raise FormatError(f"no format {name!r}; there are: {', '.join(WRITERS)}")
    module, function = WRITERS[name]
    return getattr(import_module(f"{__name__}.{module}"), function)
