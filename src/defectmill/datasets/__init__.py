"""Datasets as their sources ship them -> input/<dataset>, a competition folder."""
