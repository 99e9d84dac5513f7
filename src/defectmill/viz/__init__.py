"""Figures, images with masks, and a viewer."""
