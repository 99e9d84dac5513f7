"""Batches."""

import pytest

from defectmill.batches import split_batches


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [
        (6, 3, [3, 3]),
        (8, 3, [3, 3, 2]),
        (7, 3, [3, 4]),  # the last would stand alone
        (5, 2, [2, 3]),
        (3, 1, [1, 1, 1]),
        (1, 4, [1]),
        (4, 9, [4]),
    ],
)
def test_batches_hold_everything_once_and_none_only_the_last_thing(n, size, sizes):
    batches = split_batches(n, size)
    assert [len(batch) for batch in batches] == sizes
    assert [thing for batch in batches for thing in batch] == list(range(n))
