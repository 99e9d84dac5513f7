"""Benchmarks: how fast the project is beside what is usual, as ratios taken inside one run."""
