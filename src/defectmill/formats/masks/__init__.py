"""Mask pictures: what a pixel means is found by looking at all of a dataset's, or told by its info.

    colours    the colour of a class, black is background (white, where most is); true colours or a palette
    index      the number of a class (its `value`, else its id), 0 is background, 255 no class; grey, of 16
               bits, or the index in a palette
    binary     one class: brighter than half of the brightest; or, of numbers 1, 2, 3 ..., an instance each
    inverted   as binary, the defect is dark
    instances  one class: all that is not 0 or black, such as a number or colour for each defect
    alpha      one class: whatever is opaque

Whatever fits none of them is refused, with what was seen.
"""

from defectmill.formats.masks.encoding import (
    GREY,
    JPEG,
    OFF,
    RIMS,
    VOIDS,
    Encoding,
    choose_encoding,
    read_masks,
)
from defectmill.formats.masks.pixels import VOID, Pixels, read_pixels
from defectmill.formats.masks.survey import Survey, find_classes, survey_masks

__all__ = [
    "GREY",
    "JPEG",
    "OFF",
    "RIMS",
    "VOID",
    "VOIDS",
    "Encoding",
    "Pixels",
    "Survey",
    "choose_encoding",
    "find_classes",
    "read_masks",
    "read_pixels",
    "survey_masks",
]
