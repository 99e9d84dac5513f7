"""Aluminum surface defects: images and colour masks of 2560 x 1920 or 2560 x 2048."""

from defectmill.datasets.colour_masks import NOTES, read_raw

__all__ = ["NOTES", "read_raw"]
