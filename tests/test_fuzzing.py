"""Every reader, on inputs that hypothesis damages: it gives a result, or one of our errors in a line."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectmill import files
from fuzzing import annotations, strings
from fuzzing.target import NUMBERS, WORDS, Target, damage

# Where (a share of the length), how many bytes go, and what comes in their place.
WHAT = st.sampled_from(NUMBERS + WORDS) | st.binary(max_size=6)
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 12), WHAT)
NAMES = """
one-run runs coco-runs image_class names literal overrides yaml experiment info.json thresholds flexunet
table labels coco labelme label-studio supervisely meta.json cvat labelmap voc-mask yolo data.yaml csv
picture mask zip
"""


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    home, root = tmp_path_factory.mktemp("fuzz"), files.ROOT
    yield strings.make_targets(home / "project") | annotations.make_targets(home / "raw")
    files.ROOT = root


def test_there_is_a_property_test_of_every_target(targets):
    assert [name.replace(" ", "-") for name in targets] == NAMES.split()


@pytest.mark.parametrize("name", NAMES.split())
def test_what_is_right_is_read(targets, name):
    target = targets[name.replace("-", " ")]
    for seed in list(target.seeds):
        target.feed(seed)
    assert (target.found, target.refused) == ({}, 0)


@pytest.mark.parametrize("name", NAMES.split())
@settings(max_examples=40)
@given(place=st.integers(0, 30), edits=st.lists(EDIT, min_size=1, max_size=4))
def test_what_is_damaged_is_read_or_refused_in_a_line(targets, name, place, edits):
    target = targets[name.replace("-", " ")]
    data = target.seeds[place % len(target.seeds)]
    for share, length, new in edits:
        start = int(share * len(data))
        data = data[:start] + new + data[start + length :]
    target.feed(data)
    assert target.found == {}


def test_a_find_is_kept_and_nothing_else():
    def run(data: bytes) -> bool:
        if data == b"bad":
            raise KeyError(data)
        if data == b"long":
            raise files.DefectmillError("a\x1b" * 9)
        if data != b"good":
            raise files.DefectmillError("no")
        return True

    target = Target(run, [b"good"])
    for data in (b"good", b"bad", b"x", b"long"):
        target.feed(data)
    assert (target.read, target.refused, target.seeds) == (1, 2, [b"good", b"good"])
    assert target.found == {"KeyError at the check": b"bad"}


def test_damage_is_drawn_by_the_seed():
    drawn = []
    for seed in (1, 1, 2):
        rng = random.Random(seed)
        drawn.append([damage(rng, [b'{"a": 12}', b"xyz"]) for _ in range(200)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 100
