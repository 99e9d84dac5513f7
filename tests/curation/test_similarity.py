"""Similarity in blocks, against all pairs at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectmill.curation import similarity
from defectmill.curation.similarity import compare, nearest_neighbours, nearest_outside


def unit(rows) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@pytest.fixture(params=[1, 3, None])
def block(request, monkeypatch):
    """Compare a few rows at a time: a row of five similarities takes 20 bytes."""
    if request.param:
        monkeypatch.setattr(similarity, "BLOCK", request.param * 20)


def test_blocks_hold_every_pair_of_two_sets_once_and_of_one_set_in_one_order(block):
    some = unit(np.random.default_rng(0).normal(size=(5, 3)))
    more = unit(np.random.default_rng(1).normal(size=(4, 3)))
    for other, pairs in ((more, {(i, j) for i in range(5) for j in range(4)}), (None, None)):
        seen = []
        for rows, columns, block_of in compare(some, other):
            expected = some[rows] @ (some if other is None else other)[columns].T
            np.testing.assert_allclose(block_of, expected, atol=1e-6)
            seen += [(i, j) for i in rows.tolist() for j in columns.tolist()]
            assert columns[0] == (rows[0] if other is None else 0)
        if other is None:
            pairs = {(i, j) for i in range(5) for j in range(5)}
            assert pairs == {*seen, *((j, i) for i, j in seen)}
        else:
            assert sorted(seen) == sorted(pairs)


def test_nearest_neighbour_is_the_first_of_the_most_similar(block):
    candidates = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8], [0, 1, 0], [0, 1, 0]], np.float32)
    queries = np.array([[0, 0.8, 0.6], [1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    places, likeness = nearest_neighbours(queries, candidates)
    assert places.tolist() == [2, 0, 1, 0]
    assert likeness == pytest.approx([0.96, 1, 1, 0])
    assert nearest_neighbours(queries, candidates[:0])[1].tolist() == [0, 0, 0, 0]
    assert nearest_neighbours(queries[:0], candidates)[0].tolist() == []


def test_nearest_image_of_another_part_is_the_first_of_the_most_similar(block):
    prints = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, -1], [1, 0]], np.float32)
    # One part alone has no other; the opposite of an image counts where nothing else is left.
    parts = np.array([[0, 0, 1, 1, 0], [0, 1, 2, 3, 4], [7, 7, 7, 7, 7], [0, 0, 0, 1, 0]])
    places, likeness = nearest_outside(prints, parts)
    assert places.tolist() == [[2, 2, 0, 0, 2], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [3, 3, 3, 0, 3]]
    expected = [0.8, 0.8, 0.8, 0, 0.8], [1, 1, 0.8, 0, 1], [0] * 5, [0, 0, -0.6, 0, 0]
    np.testing.assert_allclose(likeness, expected, atol=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 200))
def test_nearest_outside_is_that_of_all_pairs_at_once(seed, n, size):
    rng = np.random.default_rng(seed)
    prints, parts = unit(rng.integers(-2, 3, (n, 3))), rng.integers(0, 3, (2, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "BLOCK", size)
        places, likeness = nearest_outside(prints, parts)
    for split, place, kept in zip(parts, places, likeness, strict=True):
        whole = np.where(split[:, None] != split, prints @ prints.T, -np.inf)
        has = np.isfinite(whole).any(axis=1)
        np.testing.assert_allclose(kept[has], whole[has].max(axis=1), atol=1e-6)
        assert (split[place[has]] != split[has]).all()
        assert not place[~has].any()
        assert not kept[~has].any()


@pytest.fixture
def many(monkeypatch):
    """Sort the images of 3,000, 100 at a time; 50 pairs of similarity 0.95, the others nearly unlike."""
    monkeypatch.setattr(similarity, "MOST", 100)
    monkeypatch.setattr(similarity, "PART", 100)
    rng = np.random.default_rng(5)
    prints = unit(rng.normal(size=(3000, 200)))
    prints[1500:1550] = unit(0.95 * prints[:50] + np.sqrt(1 - 0.95**2) * prints[1500:1550])
    return prints


def test_alike_images_of_very_many_are_compared_and_few_others(many):
    compared, found = 0, set()
    for rows, columns, block_of in compare(many):
        assert (block_of.shape, block_of.dtype) == ((len(rows), len(columns)), np.float32)
        compared += block_of.size
        alike = np.argwhere(block_of > 0.8)
        found |= {(int(rows[i]), int(columns[j])) for i, j in alike if rows[i] < columns[j]}
    assert found == {(n, n + 1500) for n in range(50)}
    assert compared == similarity.TABLES * 3000 * 100


def test_all_pairs_of_as_many_as_may_be_are_compared_and_not_of_one_more(many):
    assert [block.shape for *_, block in compare(many[:100])] == [(100, 100)]
    assert [block.shape for *_, block in compare(many[:50], many[:200])] == [(50, 200)]
    halves = [block.shape for *_, block in compare(many[:102])]
    assert halves == 2 * similarity.TABLES * [(51, 51)]


def test_alike_images_of_two_very_large_sets_are_found_by_their_own_places(many):
    left, right = many[:1500], np.concatenate([many[1550:], many[:50]])
    places, likeness = nearest_neighbours(left, right)
    assert places[:50].tolist() == list(range(1450, 1500))
    assert likeness[:50] == pytest.approx(1, abs=1e-5)
    assert likeness[100:].max() < 0.6
    assert (nearest_neighbours(left, right)[0] == places).all()


def test_what_all_images_have_in_common_hides_no_pair(many):
    """As pictures of one camera: similar to one another by 0.9."""
    common = unit(many + 3 * unit(np.ones((1, 200))))
    places = nearest_outside(common, np.arange(3000)[None])[0][0]
    assert places[:50].tolist() == list(range(1500, 1550))
    assert places[1500:1550].tolist() == list(range(50))


def test_opposites_are_not_sorted_together(many):
    """What is bright in the one is dark in the other: the same direction, and the least similarity."""
    both = np.tile(unit([[3, 4, 5], [-3, -4, -5]]), (100, 1))
    assert all(block.min() > 0.99 for *_, block in compare(both))


def test_opposites_before_one_background_are_not_sorted_together(many):
    both = np.tile(unit([[3, 4, 5, 35], [-3, -4, -5, 35]]), (100, 1))
    assert all(block.min() > 0.99 for *_, block in compare(both))  # the others are alike by 0.92


def test_empty_sets_are_compared_to_nothing():
    none = np.zeros((0, 3), np.float32)
    assert list(compare(none)) == []
    assert [a.shape for a in nearest_outside(none, np.zeros((2, 0), int))] == [(2, 0), (2, 0)]
