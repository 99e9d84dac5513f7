"""Scans and groups, on drawn textures whose duplicates are known."""

import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectmill.curation import duplicates, similarity
from defectmill.curation.duplicates import (
    Scan,
    find_groups,
    fingerprint,
    refuse_one_group,
    scan_images,
    tell_parts,
)
from defectmill.files import DefectmillError
from defectmill.images import ImageError, write_image
from fake_competition import make_info


def texture(seed: int, shape: tuple[int, ...] = (37, 53)) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, shape, np.uint8)


def write_all(folder, **images: np.ndarray) -> list[str]:
    for stem, image in images.items():
        write_image(folder / f"{stem}.png", image)
    return [f"{stem}.png" for stem in images]


def groups_of(folder, image_ids, **changes) -> list[int]:
    return find_groups(scan_images(folder, image_ids), make_info().model_copy(update=changes)).tolist()


@pytest.fixture(params=[1, 3, None])
def block(request, monkeypatch):
    """Compare all pairs of images a few rows at a time: a row of seven similarities takes 28 bytes."""
    if request.param:
        monkeypatch.setattr(similarity, "BLOCK", request.param * 28)


def test_images_are_scanned_in_the_order_asked_for(tmp_path):
    write_image(tmp_path / "b.png", texture(0, (5, 9)))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "b.png").read_bytes())
    write_image(tmp_path / "c.bmp", np.full((9, 5), 3, np.uint8))
    table, fingerprints = scan_images(tmp_path, ["b.png", "c.bmp", "a.jpg"])
    assert table["ImageId"].tolist() == ["b.png", "c.bmp", "a.jpg"]
    assert table[["height", "width"]].to_numpy().tolist() == [[5, 9], [9, 5], [5, 9]]
    assert table["blank"].tolist() == [False, True, False]
    assert table["wrong_suffix"].tolist() == [False, False, True]
    assert table["digest"][0] == table["digest"][2] != table["digest"][1]
    assert (fingerprints.shape, fingerprints.dtype) == ((3, 4096), np.float32)
    assert fingerprints[0] @ fingerprints[2] == pytest.approx(1)


def test_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"a\.jpg: not a readable image"):
        scan_images(tmp_path, ["a.jpg"])


def test_scans_are_kept_and_read_back(tmp_path):
    ids = write_all(tmp_path, a=texture(1), ü=texture(2, (41, 29)), flat=np.full((3, 4), 9, np.uint8))
    train, test = scan_images(tmp_path, ids), scan_images(tmp_path, [])
    assert (len(test.table), test.fingerprints.shape) == (0, (0, 4096))
    duplicates.write_scans(tmp_path / "scans.npz", train, test)
    for scan, kept in zip((train, test), duplicates.read_scans(tmp_path / "scans.npz"), strict=True):
        pd.testing.assert_frame_equal(scan.table, kept.table)
        np.testing.assert_array_equal(kept.fingerprints, scan.fingerprints.astype(np.float16))
        assert kept.fingerprints.dtype == np.float32
    with pytest.raises(DefectmillError, match=r"no\.npz: no such file; `make labels` writes it"):
        duplicates.read_scans(tmp_path / "no.npz")


def test_scan_is_brought_to_the_order_of_a_table():
    table = pd.DataFrame({"ImageId": ["a.png", "b.png", "c.png"], "height": [1, 2, 3]})
    some = Scan(table, np.eye(3)).select(pd.Series(["c.png", "a.png"], index=[7, 5]))
    assert some.table.to_numpy().tolist() == [["c.png", 3], ["a.png", 1]]
    assert (some.table.index.tolist(), some.fingerprints.tolist()) == ([0, 1], [[0, 0, 1], [1, 0, 0]])
    with pytest.raises(DefectmillError, match=r"^no\.png: "):
        Scan(table, np.eye(3)).select(["a.png", "no.png"])


def test_fingerprint_tells_a_brighter_copy_from_another_image():
    first, second = fingerprint(texture(1, (37, 53, 1))), fingerprint(texture(2, (37, 53, 1)))
    slope = np.linspace(-30, 30, 53)[None, :, None]
    lit = fingerprint((texture(1, (37, 53, 1)) * 0.8 + 30 + slope).astype(np.uint8))
    assert (first.shape, first.dtype) == ((64 * 64,), np.float32)
    assert first @ first == pytest.approx(1, abs=1e-5)
    assert first @ lit > 0.95
    assert abs(first @ second) < 0.2


def test_fingerprint_keeps_fine_stripes_and_a_quarter_of_coarse_ones():
    # Of a wave of 16 pixels a Gaussian of 2 takes exp(-2 (2 pi / 16)^2) away, of one of 4 next to nothing.
    rows = 2 * np.pi * np.arange(64)[:, None]
    image = 120 + 40 * np.sin(rows / 16) + 40 * np.sin(rows / 4) + np.zeros((1, 128))
    for axis, drawn in ((1, image), (0, image.T)):
        seen = fingerprint(drawn.round().astype(np.uint8)[:, :, None]).reshape(64, 64)
        coarse, fine = np.abs(np.fft.rfft(seen.mean(axis=axis)))[[4, 16]]
        assert coarse / fine == pytest.approx((1 - np.exp(-2 * (2 * np.pi / 16) ** 2)) / 0.993, abs=0.03)


def test_fingerprint_has_the_mean_0():
    corner = texture(1, (37, 53, 1))
    corner[:20, :20] //= 4
    assert abs(fingerprint(corner).astype(float).sum()) < 1e-4


def test_fingerprint_of_an_image_without_structure_is_zero():
    for faint in (0, 1):
        flat = np.full((37, 53, 1), 120, np.uint8)
        flat[20, 30] += faint
        assert not fingerprint(flat).any()


def test_copies_and_brighter_duplicates_stand_together_and_others_alone(tmp_path):
    lit = (texture(1) * 0.8 + 30).astype(np.uint8)
    ids = write_all(tmp_path, a=texture(1), b=texture(2), lit=lit, c=texture(3, (41, 29)))
    shutil.copy(tmp_path / "b.png", tmp_path / "copy.png")
    assert groups_of(tmp_path, [*ids, "copy.png"]) == [0, 1, 0, 2, 1]


def test_duplicates_are_found_in_every_block(block):
    fingerprints = np.eye(7, dtype=np.float32)
    fingerprints[6] = fingerprints[4]
    table = pd.DataFrame({"ImageId": list("abcdefg"), "digest": list("abcdefg")})
    assert find_groups(Scan(table, fingerprints), make_info()).tolist() == [0, 1, 2, 3, 4, 5, 4]


def test_blank_images_are_no_duplicates_unless_they_are_copies(tmp_path):
    flat = np.full((37, 53), 120, np.uint8)
    ids = write_all(tmp_path, a=flat, b=flat + 1, c=flat)
    assert groups_of(tmp_path, ids) == [0, 1, 0]


@pytest.mark.parametrize(("near_duplicate", "groups"), [(0.9, [0, 1]), (0.3, [0, 0])])
def test_the_dataset_says_how_similar_duplicates_are(tmp_path, near_duplicate, groups):
    half = (texture(1) * 0.5 + texture(2) * 0.5).astype(np.uint8)
    ids = write_all(tmp_path, a=texture(1), b=half)
    assert groups_of(tmp_path, ids, near_duplicate=near_duplicate) == groups


def test_file_names_join_images_of_a_part(tmp_path):
    images = {"part1_x": texture(1), "part10_x": texture(2), "part1_y": texture(3), "other": texture(4)}
    assert groups_of(tmp_path, write_all(tmp_path, **images), group_pattern=r"^(part\d+)_") == [0, 1, 0, 2]


def test_augmented_copies_stay_with_their_original(tmp_path):
    # An original that is not there joins nothing.
    names = ["flip__a.png", "b", "a", "sharp__a.png", "flip__gone.png", "sharp__gone.png"]
    ids = write_all(tmp_path, **{name: texture(n) for n, name in enumerate(names)})
    assert groups_of(tmp_path, ids) == [0, 1, 0, 0, 2, 3]
    assert groups_of(tmp_path, ids[2:4]) == groups_of(tmp_path, ids[3:1:-1]) == [0, 0]


def test_running_numbers_join_where_the_gap_is_small(tmp_path):
    names = [f"num_{n}" for n in (1000, 99, 1200, 1401, 1350, 2000)]
    ids = write_all(tmp_path, **{name: texture(n) for n, name in enumerate(names)}, other=texture(9))
    # 1000-1200-1350-1401 is a chain of small gaps; 99 and 2000 stand alone.
    groups = groups_of(tmp_path, ids, group_pattern=r"num_(\d+)", group_gap=200)
    assert groups == [0, 1, 0, 0, 0, 2, 3]


def test_groups_join_over_a_third_image(tmp_path):
    ids = write_all(tmp_path, part1_a=texture(1), part1_b=texture(2), part2_a=texture(2))
    assert groups_of(tmp_path, ids, group_pattern=r"^(part\d+)_") == [0, 0, 0]


def turned(degrees: float) -> list[float]:
    """A fingerprint whose similarity to another is the cosine of the angle between them."""
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


def test_pairs_about_the_threshold_are_listed(block):
    changes = {"group_pattern": r"^(part\d+)_", "near_duplicate": np.cos(np.radians(15))}
    info = make_info().model_copy(update=changes)
    # a-b 10 degrees (joined), b-c 20, a-c 30 (apart); images of a part by name: 5, 35.
    names = ["a.png", "b.png", "c.png", *(f"part{n}_{s}.png" for n in (1, 2) for s in "xy")]
    fingerprints = np.array([turned(d) for d in (0, 10, 30, 180, 185, 255, 290)], np.float32)
    images = pd.DataFrame({"ImageId": names, "group": [0, 0, 1, 2, 2, 3, 3]})
    pairs = duplicates.pairs_at_threshold(images, fingerprints, info)
    assert pairs["side"].tolist() == ["joined"] + 4 * ["apart"]
    listed = [*zip(pairs["first"], pairs["second"], strict=True)]
    assert listed[:3] == [("a.png", "b.png"), ("b.png", "c.png"), ("a.png", "c.png")]
    assert all(first[:5] != second[:5] for first, second in listed)
    np.testing.assert_allclose(pairs["similarity"][:3], np.cos(np.radians([10, 20, 30])), atol=1e-6)
    assert len(duplicates.pairs_at_threshold(images, fingerprints, info, n=1)) == 2


def test_pairs_equally_near_the_threshold_are_listed_in_the_order_of_the_images(block):
    """Four alike by exactly a half, of which the first two pairs are asked for."""
    prints = np.zeros((7, 8), np.float32)
    prints[:, 0] = np.sqrt(0.5)
    prints[np.arange(7), np.arange(1, 8)] = np.sqrt(0.5)
    prints[4:] = np.eye(8, dtype=np.float32)[5:]  # unlike
    images = pd.DataFrame({"ImageId": ["d", "c", "b", "a", "x", "y", "z"], "group": range(7)})
    info = make_info().model_copy(update={"near_duplicate": 0.7})
    pairs = duplicates.pairs_at_threshold(images, prints, info, n=2)
    assert pairs[["first", "second"]].to_numpy().tolist() == [["d", "c"], ["d", "b"]]


def test_images_alike_by_exactly_the_threshold_are_one_part():
    prints = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32)
    table = pd.DataFrame({"ImageId": ["a", "b"], "digest": ["1", "2"]})
    info = make_info().model_copy(update={"near_duplicate": 0.5})
    assert find_groups(Scan(table, prints), info).tolist() == [0, 0]
    pairs = duplicates.pairs_at_threshold(table.assign(group=0), prints, info)
    assert pairs[["side", "similarity"]].to_numpy().tolist() == [["joined", 0.5]]


def test_as_many_pairs_as_are_asked_for_are_listed_the_nearest_first():
    prints = np.array([turned(d) for d in np.random.default_rng(4).permutation(60)], np.float32)
    images = pd.DataFrame({"ImageId": [f"{n}.png" for n in range(60)], "group": range(60)})
    info = make_info().model_copy(update={"near_duplicate": 0.99999})
    pairs = duplicates.pairs_at_threshold(images, prints, info, n=40)
    np.testing.assert_allclose(pairs["similarity"], np.cos(np.radians(1)), atol=1e-6)
    assert len(pairs) == 40


def test_pair_of_two_images_alone_is_listed():
    images = pd.DataFrame({"ImageId": ["a.png", "b.png"], "group": [0, 1]})
    fingerprints = np.stack([fingerprint(texture(n)[:, :, None]) for n in (1, 2)])
    assert duplicates.pairs_at_threshold(images, fingerprints, make_info())["side"].tolist() == ["apart"]


def one_group(folder, ids, **changes) -> None:
    scan, info = scan_images(folder, ids), make_info().model_copy(update=changes)
    refuse_one_group(find_groups(scan, info), scan, info)


def test_pictures_of_one_background_are_refused_with_the_setting_that_keeps_them_apart(tmp_path):
    part, images = texture(1, (64, 80)).astype(int), {}
    for n in range(5):
        image = part + np.random.default_rng(n).normal(0, 6, part.shape)
        image[10:20, 10 + n : 20 + n] = 20
        images[f"p{n}"] = image.clip(0, 255).astype(np.uint8)
    ids = write_all(tmp_path, **images)
    shutil.copy(tmp_path / "p0.png", tmp_path / "copy.png")
    with pytest.raises(DefectmillError, match="fake: all 6 images count as one part") as caught:
        one_group(tmp_path, [*ids, "copy.png"])
    low, high, joins = (float(n) for n in re.findall(r"0\.\d+", str(caught.value)))
    assert joins == 0.9 < low <= high < 1
    assert "\n" not in str(caught.value)
    one_group(tmp_path, ids, near_duplicate=high + 0.001)
    write_all(tmp_path, other=texture(2))
    one_group(tmp_path, [*ids, "other.png"])


def test_names_or_copies_that_join_all_images_are_named(tmp_path):
    ids = write_all(tmp_path, a_1=texture(1), a_2=texture(2))
    with pytest.raises(DefectmillError, match=re.escape("all 2 images count as one part")) as caught:
        one_group(tmp_path, ids, group_pattern="^(a)_")
    assert "(group_pattern '^(a)_' joins them): nothing is left to validate on" in str(caught.value)
    shutil.copy(tmp_path / "a_1.png", tmp_path / "b.png")
    for some, why in ((["a_1.png", "b.png"], r"split \(of equal bytes\): no"), (["b.png"], "split: no")):
        with pytest.raises(DefectmillError, match=why):
            one_group(tmp_path, some)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 300), st.integers(0, 20))
def test_groups_and_pairs_are_those_of_all_pairs_at_once(seed, n, size, kept):
    rng = np.random.default_rng(seed)
    prints = rng.normal(size=(n, 3)).astype(np.float32)
    prints /= np.linalg.norm(prints, axis=1, keepdims=True)
    names = [f"part{part}_{k}.png" for k, part in enumerate(rng.integers(0, 2 * n, n))]
    table = pd.DataFrame({"ImageId": names, "digest": rng.integers(0, 3 * n, n).astype(str)})
    info = make_info().model_copy(update={"group_pattern": r"^(part\d+)_", "near_duplicate": 0.93})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "BLOCK", size)
        patch.setattr(duplicates, "PAIRS", kept)
        groups = find_groups(Scan(table, prints), info)
        pairs = duplicates.pairs_at_threshold(table.assign(group=groups), prints, info, n=3)
    parts = table["ImageId"].str.extract(r"^(part\d+)_")[0].to_numpy()
    alike, digests = prints @ prints.T, table["digest"].to_numpy()
    joined = (alike >= 0.93) | (parts[:, None] == parts) | (digests[:, None] == digests)
    # Each step of the power joins over one image more.
    together = np.linalg.matrix_power(joined.astype(float) + np.eye(n), n) > 0
    assert groups.tolist() == pd.factorize(together.argmax(axis=1))[0].tolist()
    later = np.triu(np.ones((n, n), bool), 1)
    wanted = {"joined": later & (alike >= 0.93) & (parts[:, None] != parts), "apart": later & ~together}
    for side, fits in wanted.items():
        nearest = np.sort(np.abs(alike[fits] - 0.93))[:3]
        found = pairs[pairs["side"] == side]
        np.testing.assert_allclose(np.abs(found["similarity"].astype(float) - 0.93), nearest, atol=1e-6)
        places = [[names.index(name) for name in found[column]] for column in ("first", "second")]
        assert all(fits[pair] for pair in zip(*places, strict=True))
        assert len({*zip(*places, strict=True)}) == len(found)


def test_pictures_that_are_all_alike_take_no_more_memory_than_others(monkeypatch):
    monkeypatch.setattr(duplicates, "PAIRS", 10)
    monkeypatch.setattr(similarity, "BLOCK", 4 * 60 * 2)
    joined = []
    number = duplicates._number_groups
    monkeypatch.setattr(
        duplicates,
        "_number_groups",
        lambda pairs, n: joined.append(sum(p.shape[1] for p in pairs)) or number(pairs, n),
    )
    prints = np.tile(np.float32([0.6, 0.8]), (60, 1))
    table = pd.DataFrame({"ImageId": [f"{k}.png" for k in range(60)], "digest": range(60)})
    assert not find_groups(Scan(table, prints), make_info()).any()
    assert max(joined) <= 2 * 60


def test_a_pattern_tells_the_parts_of_file_names():
    info = make_info().model_copy(update={"group_pattern": r"^(part\d)_"})
    names = pd.Series(["part1_a.png", "other.png", "part2_b.png"])
    assert tell_parts(info, names).to_dict() == {0: "part1", 2: "part2"}
    assert tell_parts(make_info(), names).empty
    numbered = info.model_copy(update={"group_pattern": r"(\d|er)[._]", "group_gap": 1})
    assert tell_parts(numbered, names[names != "other.png"]).to_dict() == {0: 1, 2: 2}
    with pytest.raises(
        DefectmillError, match=r"tells 'er' of other\.png, which is no number, as group_gap wants"
    ):
        tell_parts(numbered, names)


def test_a_pattern_that_takes_for_ever_is_refused(monkeypatch):
    monkeypatch.setattr(duplicates, "PATIENCE", 0.5)
    info = make_info().model_copy(update={"group_pattern": r"((?:a|a)*)b"})
    started = time.perf_counter()
    with pytest.raises(
        DefectmillError, match=re.escape(r"group_pattern '((?:a|a)*)b' takes for ever, mend it")
    ):
        tell_parts(info, pd.Series(["a" * 60 + ".png"]))
    assert time.perf_counter() - started < 5
    time.sleep(0.6)  # the alarm is off
