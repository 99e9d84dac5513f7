"""Annotation formats in and out: image files with masks, whatever tool drew them."""
