"""Adapters: what a dataset ships -> input/<dataset>, a competition folder.

An adapter is a module with `read_raw(raw, card) -> Iterator[Picture]` and NOTES, what to know of
its labels; or with `copy_raw`, where the dataset is a competition as it is shipped. Run as
python -m defectmill.datasets <dataset> [--raw <folder>].
"""
