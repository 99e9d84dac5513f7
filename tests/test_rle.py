"""Run-length strings <-> masks, on masks drawn by hand."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from defectmill.rle import (
    RleError,
    check_rle,
    clean_rle,
    draw_pixel,
    intersect_rles,
    mask_to_rle,
    parse_coco_runs,
    parse_runs,
    rle_area,
    rle_to_mask,
    unite_rles,
)

STEP = np.array([[0, 1], [1, 1], [1, 0]], np.uint8)


def test_runs_go_down_columns():
    assert mask_to_rle(STEP) == "2 4"


def test_a_mask_may_be_a_list():
    assert mask_to_rle(STEP.tolist()) == "2 4"


def test_first_pixel_is_number_one():
    mask = np.zeros((2, 4), np.uint8)
    mask[0, 0] = 1
    assert mask_to_rle(mask) == "1 1"


def test_decoder_starts_at_the_start():
    expected = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], np.uint8)
    np.testing.assert_array_equal(rle_to_mask("1 3", (3, 4)), expected)


def test_run_crosses_columns():
    expected = np.array([[0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0]], np.uint8)
    np.testing.assert_array_equal(rle_to_mask("2 7", (3, 4)), expected)
    assert mask_to_rle(expected) == "2 7"


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 7), (256, 1600)])
def test_full_mask_is_one_run_over_every_pixel(shape):
    rle = f"1 {shape[0] * shape[1]}"
    assert mask_to_rle(np.ones(shape, np.uint8)) == rle
    assert rle_to_mask(rle, shape).all()


def test_last_pixel_is_written():
    mask = np.zeros((3, 5), np.uint8)
    mask[2, 4] = 1
    assert mask_to_rle(mask) == "15 1"
    np.testing.assert_array_equal(rle_to_mask("15 1", (3, 5)), mask)


def test_run_as_long_as_the_longest_real_one_round_trips():
    rle = "1 2 1000 97343 409600 1"
    mask = rle_to_mask(rle, (256, 1600))
    assert mask.sum() == 97346
    assert mask_to_rle(mask) == rle


def test_random_masks_round_trip():
    rng = np.random.default_rng(3)
    for shape in [(1, 9), (9, 1), (4, 11), (13, 2)]:
        for density in (0.1, 0.5, 0.9):
            mask = (rng.random(shape) < density).astype(np.uint8)
            np.testing.assert_array_equal(rle_to_mask(mask_to_rle(mask), shape), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 8), (8, 3), (4, 11), (16, 17)])
def test_a_mask_is_written_alike_however_it_lies_in_memory(shape):
    rng = np.random.default_rng(4)
    for density in (0, 0.1, 0.5, 0.9, 1):
        masks = (rng.random((*shape, 2)) < density).astype(np.uint8)
        mask = masks[:, :, 1]  # of every second byte
        down = np.append(np.insert(mask.T.ravel(), 0, 0), 0).astype(int)
        edges = np.flatnonzero(np.diff(down))
        runs = [f"{a + 1} {b - a}" for a, b in zip(edges[::2], edges[1::2], strict=True)]
        for one in (mask, mask.copy("C"), mask.copy("F"), mask[::-1].copy()[::-1], mask.astype(np.int64)):
            assert mask_to_rle(one) == " ".join(runs)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_image_without_pixels_has_no_runs(shape):
    assert mask_to_rle(np.zeros(shape, np.uint8)) == ""
    assert rle_to_mask("", shape).shape == shape


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mask_is_written_in_less_than_a_byte_a_pixel_of_memory(order):
    mask = np.zeros((512, 640), np.uint8, order)
    mask[100:300, 200:400] = 1
    tracemalloc.start()
    mask_to_rle(mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mask.size


def test_a_mask_is_drawn_column_by_column():
    assert rle_to_mask("2 4", (3, 5)).flags.f_contiguous


def test_empty_mask_is_an_empty_string():
    assert mask_to_rle(np.zeros((3, 5))) == ""
    empty = rle_to_mask("", (3, 5))
    assert (empty.shape, empty.dtype, empty.sum()) == ((3, 5), np.uint8, 0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_every_dtype_writes_plain_numbers(dtype):
    assert re.fullmatch(r"\d+ \d+( \d+ \d+)*", mask_to_rle(STEP[::-1].astype(dtype)))


@pytest.mark.parametrize("value", [255, -1, 0.5, np.nan])
def test_mask_of_other_values_is_refused(value):
    mask = np.zeros((2, 3))
    mask[1, 2] = value
    with pytest.raises(RleError, match=f"0 and 1 only, not {value}"):
        mask_to_rle(mask)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 255), (np.uint16, 2), (np.int8, -1)])
def test_whole_numbers_other_than_0_and_1_are_refused(dtype, value):
    mask = np.array([[0, 1, 1], [1, 0, value]], dtype)
    with pytest.raises(RleError, match=f"0 and 1 only, not {value}"):
        mask_to_rle(mask)


def test_mask_of_three_dimensions_is_refused():
    with pytest.raises(RleError, match=re.escape("(2, 3, 1)")):
        mask_to_rle(np.zeros((2, 3, 1)))


MALFORMED = ["1", "1 3 5", "1\t3", "1 3\t", "1 3 ", " 1 3", "1  3", "1 3\n", "1,3", "1.0 3", "+1 3", "-1 3"]
MALFORMED += ["1 -3", "1e2 3", "\u0661 \u0663", "\ud800 3", "np.int64(1) 3", "NaN", "nan", "[1, 3]"]


@pytest.mark.parametrize("rle", MALFORMED)
def test_malformed_text_is_refused_with_the_text(rle):
    with pytest.raises(RleError, match=re.escape(repr(rle))):
        parse_runs(rle)


@pytest.mark.parametrize("value", [float("nan"), None, 13, b"1 3"])
def test_runs_that_are_no_text_are_refused(value):
    with pytest.raises(RleError, match=re.escape(f"not {value!r}")):
        parse_runs(value)


@pytest.mark.parametrize(
    ("rle", "offence"),
    [
        ("0 3", "run 1 (0 3) is not positive; pixels count from 1"),
        ("1 2 9 0", "run 2 (9 0) is not positive"),
        ("1 2 5 1 0 3", "run 3 (0 3) is not positive; pixels count from 1"),
        ("9 2 1 2", "run 2 (1 2) is not sorted after run 1 (9 2)"),
        ("1 5 5 2", "run 2 (5 2) overlaps run 1 (1 5)"),
        ("4 1 4 1", "run 2 (4 1) overlaps run 1 (4 1)"),
        ("9223372036854775808 1", "a number too large: '9223372036854775808 1'"),
        ("1 99999999999999999999999", "a number too large"),
        (
            "1 9223372036854775806 9223372036854775807 9223372036854775807",
            "a number too large: run 2 (9223372036854775807 9223372036854775807)",
        ),
    ],
)
def test_offence_is_named_with_its_run(rle, offence):
    with pytest.raises(RleError, match=re.escape(offence)):
        parse_runs(rle)


def test_long_text_is_shortened_in_the_message():
    with pytest.raises(RleError, match=r"'1 1 1 .*\.\.\.'") as caught:
        parse_runs("1 " * 500)
    assert len(str(caught.value)) < 150
    whole = 20 * "12 " + "\t"
    for text, shown in ((whole[1:], whole[1:]), (whole, whole[:57] + "...")):
        with pytest.raises(RleError, match=re.escape(f": {shown!r}") + "$"):
            parse_runs(text)


def test_leading_zeros_count_for_nothing():
    assert mask_to_rle(rle_to_mask("0002 04", (3, 2))) == "2 4"
    assert mask_to_rle(rle_to_mask(f"{'0' * 5000}2 4", (3, 2))) == "2 4"


@pytest.mark.parametrize("rle", ["9223372036854775806 1", "4611686018427387904 4611686018427387903"])
def test_where_the_image_is_not_known_any_number_of_64_bits_is_a_pixel(rle):
    starts, lengths = parse_runs(rle)
    assert [*starts.tolist(), *lengths.tolist()] == [*map(int, rle.split())]


def test_numbers_whose_sums_exceed_64_bits_are_refused_all_the_same():
    most = 2**63 - 1
    for rle in (f"{most} {most} 1 1", f"{most - 1} {most - 1} 1 1", f"5 {most} 9 1", f"1 {most} {most} 1"):
        for shape in (None, (3, 5)):
            with pytest.raises(RleError, match=r"is not sorted|overlaps|too large"):
                parse_runs(rle, shape)


def test_adjacent_runs_are_legal_and_become_one():
    assert mask_to_rle(rle_to_mask("2 2 4 2", (3, 2))) == "2 4"


def test_run_may_end_on_the_last_pixel_and_no_later():
    check_rle("14 2", (3, 5))
    with pytest.raises(RleError, match=re.escape("run 1 (14 3) leaves the image of 3 x 5 = 15")):
        check_rle("14 3", (3, 5))


@pytest.mark.parametrize("rle", ["16 1", "1 2 15 2", "9223372036854775806 1"])
def test_run_beyond_the_image_is_never_clipped(rle):
    with pytest.raises(RleError, match="leaves the image"):
        rle_to_mask(rle, (3, 5))


def test_area_adds_lengths():
    assert rle_area("") == 0
    assert rle_area("2 4 9 1 200 30") == 35


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("", "", 0),
        ("1 5", "", 0),
        ("1 5", "6 5", 0),
        ("1 5", "5 5", 1),
        ("1 10", "3 2 7 1", 3),
        ("1 2 3 2", "2 2", 2),
        ("3 4", "3 4", 4),
    ],
)
def test_shared_pixels_are_counted_without_drawing(first, second, shared):
    assert intersect_rles(first, second) == shared
    assert intersect_rles(second, first) == shared


def test_shared_pixels_agree_with_drawn_masks():
    rng = np.random.default_rng(7)
    for _ in range(20):
        a, b = (rng.random((2, 6, 11)) < 0.4).astype(np.uint8)
        assert intersect_rles(mask_to_rle(a), mask_to_rle(b)) == (a & b).sum()


def test_every_pixel_of_a_mask_is_picked_and_no_other():
    rng = np.random.default_rng(1)
    picked = {draw_pixel("2 4 8 1", 3, rng) for _ in range(200)}
    assert picked == {(1, 0), (2, 0), (0, 1), (1, 1), (1, 2)}


def test_no_pixel_of_an_empty_mask_can_be_picked():
    with pytest.raises(RleError, match="empty mask"):
        draw_pixel("", 3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("rles", "united"),
    [
        (["1 3", "10 3"], "1 3 10 3"),
        (["10 3", "1 3"], "1 3 10 3"),
        (["1 3", "4 2"], "1 5"),  # they touch
        (["1 9 20 1", "3 2 15 5", "8 4"], "1 11 15 6"),
        (["5 2", "5 2"], "5 2"),
        (["", "7 1", ""], "7 1"),
        (["", ""], ""),
        (["2 4"], "2 4"),
    ],
)
def test_masks_that_may_overlap_are_written_as_one(rles, united):
    assert unite_rles(rles) == united


def test_a_union_is_that_of_the_drawn_masks():
    rng = np.random.default_rng(0)
    masks = (rng.random((5, 7, 11)) < 0.3).astype(np.uint8)
    assert unite_rles(map(mask_to_rle, masks)) == mask_to_rle(masks.max(axis=0))


def test_a_malformed_one_is_not_united():
    with pytest.raises(RleError, match="not 'start length' pairs"):
        unite_rles(["1 3", "4"])


@pytest.mark.parametrize(
    ("text", "rle"),
    [
        (" 1  3\t9 1 ", "1 3 9 1"),
        (" -1", ""),
        ("NaN", ""),
        ("<NA>", ""),
        ("-", ""),
        ("", ""),
        ("0", "0"),
        ("-2", "-2"),
    ],
)
def test_blanks_and_words_for_no_runs_are_cleaned(text, rle):
    assert clean_rle(text) == rle


def test_coco_s_runs_are_read_compressed_or_not():
    # (3, 4): two pixels of background down the first column, then two across into the second, then the rest.
    assert parse_coco_runs([2, 2, 8], (3, 4)) == [2, 2, 8]
    assert parse_coco_runs("228", (3, 4)) == [2, 2, 8]
    # From the fourth on, differences to the number two before: 2 + 1, 3 - 2, 3 + 0.
    assert parse_coco_runs("1231N0", (1, 13)) == [1, 2, 3, 3, 1, 3]
    # A number over 15 takes two characters: 2 + 32 x 1.
    assert parse_coco_runs("1R1", (5, 7)) == [1, 34]


@pytest.mark.parametrize("counts", ["", "12P", "1 2", "pp0", "PPPPPPP0", "\u0661"])
def test_text_that_is_not_coco_s_is_refused(counts):
    with pytest.raises(RleError, match=re.escape(f"not COCO's compressed runs: {counts!r}")):
        parse_coco_runs(counts, (3, 4))


@pytest.mark.parametrize(
    ("counts", "offence"),
    [
        ([2, 2, 7], "runs over 11 pixels, for an image of 3 x 4"),
        ([], "runs over 0 pixels"),
        ([13, -1], "a run of -1 pixels"),
    ],
)
def test_coco_s_runs_that_do_not_fill_the_image_are_refused(counts, offence):
    with pytest.raises(RleError, match=re.escape(offence)):
        parse_coco_runs(counts, (3, 4))


MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 1))
PAIRS = st.tuples(array_shapes(min_dims=2, max_dims=2, max_side=9), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.random.default_rng(drawn[1]).integers(0, 2, (2, *drawn[0]), np.uint8)
)


@settings(max_examples=100)
@given(MASKS)
def test_any_mask_is_written_in_the_fewest_runs_and_read_back(mask):
    rle = mask_to_rle(mask)
    np.testing.assert_array_equal(rle_to_mask(rle, mask.shape), mask)
    starts, lengths = parse_runs(rle, mask.shape)
    assert (np.diff(starts) > lengths[:-1]).all()
    assert rle_area(rle) == mask.sum()
    assert unite_rles([rle, ""]) == clean_rle(f" {rle}\n") == rle


@settings(max_examples=100)
@given(PAIRS, st.integers(0, 2**32 - 1))
def test_runs_of_any_two_masks_are_shared_and_united_as_their_pixels(pair, seed):
    one, two = (mask_to_rle(mask) for mask in pair)
    assert intersect_rles(one, two) == intersect_rles(two, one) == (pair[0] & pair[1]).sum()
    assert unite_rles([one, two]) == mask_to_rle(pair[0] | pair[1])
    if one:
        assert pair[0][draw_pixel(one, pair[0].shape[0], np.random.default_rng(seed))] == 1


@settings(max_examples=150)
@given(
    st.text("0123456789 -", max_size=12)
    | st.lists(st.integers(0, 9), max_size=6).map(lambda n: " ".join(map(str, n)))
)
def test_any_text_is_refused_or_is_a_mask_of_the_image(text):
    try:
        starts, lengths = parse_runs(text, (3, 5))
    except RleError:
        numbers = text.split(" ")
        if len(numbers) % 2 or not all(number.isdigit() for number in numbers):
            return
        pixels = [p for s, n in np.array(numbers, int).reshape(-1, 2).tolist() for p in range(s, s + n)]
        assert (
            "0" in {number.lstrip("0") or "0" for number in numbers}
            or pixels != sorted(set(pixels))
            or pixels[-1] > 15
        )
        return
    mask = rle_to_mask(text, (3, 5))
    assert mask.sum() == lengths.sum() == rle_area(text)
    assert (mask.ravel(order="F")[starts - 1] == 1).all()


def test_ten_thousand_masks_are_those_of_pycocotools():
    rng = np.random.default_rng(8)
    for n in range(10_000):
        shape = tuple(rng.integers(1, 12, 2).tolist())
        mask = (rng.random(shape) < rng.choice([0, 0.02, 0.5, 0.98, 1])).astype(np.uint8)
        theirs = coco.encode(np.asfortranarray(mask))
        lengths = parse_coco_runs(theirs["counts"].decode(), shape)
        ends = np.cumsum(lengths)
        rle = mask_to_rle(mask)
        ours = parse_runs(rle, shape)
        assert (ours[0] - 1).tolist() == ends[:-1:2].tolist(), n
        assert ours[1].tolist() == lengths[1::2], n
        assert rle_area(rle) == coco.area(theirs)
