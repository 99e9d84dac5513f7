"""Finds defects on surfaces in pictures, the way Kaggle competitions do it."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from defectmill.running.inspections import Images, Inspection

__all__ = ["inspect"]
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its version check asks the network


def inspect(images: "Images", model: "str | Path") -> "Inspection":
    """Find the defects in pictures by a trained experiment; its networks are loaded at each call.

        found = defectmill.inspect("photos", "sample")
        print(found.report())
        found.save("found")

    Args:
        images: a folder, with those in it; paths of image files; or arrays, (H, W), (H, W, 1) or (H, W, 3)
            uint8, colours as red-green-blue. Relative paths begin at the current folder.
        model: the name of an experiment that was run here, or an output folder or a copy of one.
    Returns:
        pictures and defects (tables), masks ({image id: (H, W, C) uint8 in {0, 1}}), save(folder). An image
        id is a path below the folder, parted by "/", or "picture_0.png" for the first of the arrays.
    Raises:
        DefectmillError: no such model or folder, no picture there, or an array that is none.
    """
    from defectmill.running.inspections import inspect as inspect_images

    return inspect_images(images, model)
