"""Adapters: what a dataset ships -> input/<dataset>, a competition folder.

An adapter is a module with `read_raw(raw, card) -> Iterator[Picture]`. Run as
python -m defectmill.datasets <dataset> [--raw <folder>].
"""
