"""Annotations in JSON files: labelme (in and out), Supervisely, Label Studio."""

from defectmill.formats.json_files.label_studio import find_label_studio
from defectmill.formats.json_files.labelme import find_labelme, write_labelme
from defectmill.formats.json_files.supervisely import find_supervisely

__all__ = ["find_label_studio", "find_labelme", "find_supervisely", "write_labelme"]
