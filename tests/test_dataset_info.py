"""What is known of datasets: built in, found out by an adapter, or written by hand."""

import json
import re
from datetime import date

import pytest
from pydantic import ValidationError

from defectmill.dataset_info import (
    DatasetInfo,
    DefectClass,
    builtin_datasets,
    explain_missing,
    find_input,
    load_dataset_info,
    nearest,
    read_dataset_info,
    read_yaml,
)
from defectmill.files import DefectmillError
from fake_competition import make_info

NAMES = ["aluminum", "crack", "magnetic-tile", "mvtec-tile", "sample", "severstal"]


def describe(root, info: DatasetInfo, name: str = "dataset.json") -> None:
    (root / "input" / info.name).mkdir(exist_ok=True)
    (root / "input" / info.name / name).write_text(json.dumps(info.model_dump()))


def kind(number: int, name: str = "") -> DefectClass:
    return DefectClass(id=number, name=name or f"k{number}", colour=(1, 2, 3))


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        ("severstal", "severstal-steel-defect-detection"),
        ("severstal", "competitions/severstal-steel-defect-detection"),
        ("mine", "datasets/jane/mine/data"),
        ("sample", "sample"),
    ],
)
def test_without_a_folder_of_its_own_a_dataset_is_read_where_kaggle_attached_it(
    root, monkeypatch, dataset, place
):
    attached, own = root / "attached", root / "input" / dataset
    monkeypatch.setenv("DEFECTMILL_KAGGLE_INPUT", str(attached))
    (attached / "another" / "train_images").mkdir(parents=True)
    assert find_input(dataset) == own
    (attached / place / "train_images").mkdir(parents=True)
    assert find_input(dataset) == attached / place
    own.mkdir()
    assert find_input(dataset) == own


def test_six_datasets_are_built_in_each_under_its_name():
    assert {name: info.name for name, info in builtin_datasets().items()} == {name: name for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_description_round_trips_through_json(name):
    info = builtin_datasets()[name]
    assert DatasetInfo.model_validate_json(json.dumps(info.model_dump())) == info


@pytest.mark.parametrize("name", NAMES)
def test_published_counts_are_those_of_the_classes_and_of_all_images(name):
    info = builtin_datasets()[name]
    if info.published:
        assert len(info.published.masks) == info.n_classes
        assert sum(info.published.by_classes) == info.published.images
        masks = sum(n * count for n, count in enumerate(info.published.by_classes))
        assert masks == sum(info.published.masks)


def test_a_built_in_dataset_needs_no_input(root):
    assert load_dataset_info("severstal") == builtin_datasets()["severstal"]


def test_a_built_in_description_stays_true_where_its_folder_is_older(root):
    known = builtin_datasets()["magnetic-tile"]
    old = {"near_duplicate": 0.1, "notes": ("seen",), "partial": True, "layout": "current"}
    describe(root, known.model_copy(update=old))
    info = load_dataset_info("magnetic-tile")
    assert info.near_duplicate == known.near_duplicate
    assert (info.notes, info.partial, info.layout) == (("seen",), True, "current")


def test_ones_own_dataset_is_described_by_hand_until_its_adapter_has_run(root):
    before, after = make_info("mine", n_classes=3), make_info("mine", n_classes=2)
    describe(root, before, "info.json")
    assert load_dataset_info("mine") == before
    describe(root, after)
    assert load_dataset_info("mine") == after


def test_an_unknown_dataset_brings_the_nearest_and_the_file_that_is_missing(root):
    said = rf"no dataset 'smaple'; did you mean 'sample'\?; your own needs {root}/input/smaple/dataset\.json"
    with pytest.raises(DefectmillError, match=said):
        load_dataset_info("smaple")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"name": "x", "classes": [], "title": "t"}', b"\xff"]
)
def test_a_file_that_describes_no_dataset_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DefectmillError, match=r"dataset\.json: does not describe a dataset"):
        read_dataset_info(tmp_path / "dataset.json")


@pytest.mark.parametrize("ids", [[], [0, 1], [1, 3], [2, 1], [1, 1]])
def test_class_ids_run_from_one(ids):
    with pytest.raises(ValidationError, match=re.escape(f"without a gap, not {ids}")):
        DatasetInfo(name="x", title="X", classes=tuple(kind(i) for i in ids))


@pytest.mark.parametrize("names", [("dent", "dent"), ("all classes", "b"), ("a", "background")])
def test_class_names_tell_classes_apart(names):
    kinds = tuple(kind(number, name) for number, name in enumerate(names, 1))
    with pytest.raises(ValidationError, match="class names must differ"):
        DatasetInfo(name="x", title="x", classes=kinds)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[31m", "\udce9", "x" * 201])
def test_a_class_name_is_a_line(name):
    with pytest.raises(ValidationError, match="a class name is a line of letters"):
        DatasetInfo(name="x", title="x", classes=(DefectClass(id=1, name=name, colour=(1, 2, 3)),))


def test_two_classes_of_one_number_are_refused():
    kinds = (kind(1, "a").model_copy(update={"value": 2}), kind(2, "b"))
    with pytest.raises(ValidationError, match=r"values .* of the classes must differ: \[2, 2\]"):
        DatasetInfo(name="x", title="x", classes=kinds)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("near_duplicates", 0.5, "unknown key 'near_duplicates'; did you mean 'near_duplicate'?"),
        ("layout", "2020", "layout = '2020': Input should be '2019' or 'current'"),
        ("classes", [{"id": 1, "name": "a", "color": [1, 2, 3]}], "classes.0.color'; did you mean 'colour'?"),
    ],
)
def test_a_wrong_key_is_named_with_the_right_one(tmp_path, key, value, said):
    right = {"name": "x", "title": "x", "classes": [{"id": 1, "name": "a", "colour": [1, 2, 3]}]}
    (tmp_path / "info.json").write_text(json.dumps(right | {key: value}))
    with pytest.raises(DefectmillError) as caught:
        read_dataset_info(tmp_path / "info.json")
    assert said in str(caught.value)


def test_a_mark_of_windows_before_a_description_is_no_offence(tmp_path):
    right = {"name": "x", "title": "x", "classes": [{"id": 1, "name": "a", "colour": [1, 2, 3]}]}
    (tmp_path / "info.json").write_text(json.dumps(right), encoding="utf-8-sig")
    assert read_dataset_info(tmp_path / "info.json").class_names == ["a"]


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        ([(9, 9, 9), (9, 9, 9)], "classes: colours must differ, and not be black"),
        ([(9, 9, 9), (0, 0, 0)], "classes: colours must differ, and not be black"),
        ([(9, 9, 9), (1, 2, 256)], "classes.1.colour.2 = 256: a colour is [red, green, blue], whole numbers"),
        ([(-1, 9, 9)], "classes.0.colour.0 = -1: a colour is [red, green, blue]"),
        ([(9, 9)], "classes.0.colour.2 = "),
        (["#ff0000"], "classes.0.colour = '#ff0000': a colour is [red, green, blue]"),
        ([], "classes: class ids must run from 1"),
    ],
)
def test_a_wrong_description_is_told_in_one_line(root, colours, said):
    kinds = [{"id": i, "name": f"k{i}", "colour": colour} for i, colour in enumerate(colours, 1)]
    (root / "input" / "mine").mkdir()
    for name in ("info.json", "dataset.json"):
        path = root / "input" / "mine" / name
        path.write_text(json.dumps({"name": "mine", "title": "M", "classes": kinds}))
        with pytest.raises(DefectmillError) as caught:
            load_dataset_info("mine")
        assert str(caught.value).startswith(f"{path}: does not describe a dataset: {said}")
        assert "\n" not in str(caught.value)
        assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    "pattern", [r"\d+", r"(a)(b)", "(", "(" * 400 + ")" * 400, "(" + "a" * 499 + ")", "(a{99999999999})"]
)
def test_a_group_pattern_has_one_bracket(pattern):
    with pytest.raises(ValidationError, match="group_pattern"):
        DatasetInfo(name="x", title="x", classes=(kind(1),), group_pattern=pattern)


def test_what_is_unknown_is_refused():
    with pytest.raises(ValidationError, match="licens"):
        DatasetInfo(name="x", title="X", classes=(kind(1),), licens="MIT")


def test_names_and_colours_stand_in_the_order_of_the_channels():
    info = make_info(n_classes=3)
    assert (info.n_classes, info.class_names) == (3, ["bar 1", "bar 2", "bar 3"])
    assert info.colours[1] == (60, 200, 120)
    assert info.shades[1] == (60 / 255, 200 / 255, 120 / 255)


@pytest.mark.parametrize(
    ("name", "title"),
    [("dent", "2 dent"), ("type 2", "type 2"), ("type 12", "2 type 12"), ("_a 2", "2 _a 2")],
)
def test_a_title_tells_the_class_id_once(name, title):
    assert kind(2, name).title == title


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smaple", "; did you mean 'sample'?"),
        ("xyz", "; there are: sample, crack"),
        ("", "; there are: sample, crack"),
    ],
)
def test_the_nearest_name_is_suggested_else_all_are_listed(name, said):
    assert nearest(name, (known for known in ("sample", "crack"))) == said


def test_a_long_list_of_names_is_cut():
    names = [f"b{n:02}" for n in range(31)]
    assert nearest("zzz", names).endswith("b28, b29, ...")
    assert nearest("zzz", names[:30]).endswith("b28, b29")
    assert nearest("zzz", []) == "; there are: none"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b.heic", "; b.heic is there, but of a kind that is not read; .jpg .jpeg .png"),
        ("d", "; x/d.svg is there, but of a kind"),
        ("d.png", "; x/d.svg is there, but of a kind"),
        ("c[1].jpg", "; did you mean 'c1.png'?"),
        ("x.png", "; did you mean 'c1.png'?"),
        ("a.png", "; did you mean 'c1.png'?"),
        ("x/y/c[1].png", "; x/y/c[1].png is there, but it is looked for elsewhere"),
        ("c?1?.png", "; did you mean 'c1.png'?"),
        ("", "; there are: c1.png"),
        ("9" * 5000, "; there are: c1.png"),
    ],
)
def test_what_stands_in_place_of_a_missing_image_is_told(tmp_path, name, said):
    (tmp_path / "x" / "y").mkdir(parents=True)
    for file in ("b.heic", "x/a.json", "x/d.svg", "x/y/c[1].png"):
        (tmp_path / file).touch()
    assert explain_missing(name, ["c1.png"], tmp_path).startswith(said)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 2020-13-45", "month must be in 1..12"),
        ("[" * 5000, "brackets in brackets without end"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: &b [1]\nc: *b", "an alias, *b: write the value itself"),
        ("a: !!int x", "invalid literal for int"),
        ("a: !!timestamp x", "not YAML: "),
        ("? [a]\n: b", "found unhashable key"),
        ("a: 0x" + "f" * 5000, "a number too large"),
        ("a: " + "9" * 5000, "not YAML: "),
        ("\0", "special characters are not allowed"),
        ("a: [", "expected the node content"),
        ("a: 1\nb: 2\n'a': 3", "not YAML: line 3: 'a' is there twice"),
        ("a:\n  b: {c: 1, d: 2, c: 1}", "not YAML: line 2: 'c' is there twice"),
        ("<<: {a: 1}\n<<: {b: 2}", "not YAML: line 2: '<<' is there twice"),
    ],
)
def test_yaml_that_is_none_is_refused_in_a_line(text, told):
    with pytest.raises(DefectmillError, match=re.escape(told)) as error:
        read_yaml(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2100


def test_yaml_holds_values_or_if_asked_text_alone():
    text = "a: no\nb: 2020-01-02\nc: [1, 0x10, .5]"
    assert read_yaml(text) == {"a": False, "b": date(2020, 1, 2), "c": [1, 16, 0.5]}
    assert read_yaml(text, as_text=True) == {"a": "no", "b": "2020-01-02", "c": ["1", "0x10", ".5"]}
    assert read_yaml("a: {x: 1, y: 2}\nb: {x: 3}\nc: {<<: {x: 4, z: 5}, x: 6}") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3},
        "c": {"x": 6, "z": 5},
    }
    with pytest.raises(DefectmillError, match="line 2: 'a' is there twice"):
        read_yaml("a: 1\na: 2", as_text=True)


NAMELESS = ("..png", "...png", "..", ".", "", "/")


@pytest.mark.parametrize("name", [*NAMELESS, "a\0.png", "x" * 300, "\udce9.png", "[*]?.png"])
def test_a_missing_image_of_any_name_is_explained(tmp_path, name):
    assert explain_missing(name, ["a.png"], tmp_path).startswith(("; did you mean", "; there are: a.png"))
