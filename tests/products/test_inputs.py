"""What the input is: what counts as changed. That make goes by it stands in test_makefile.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from defectmill.__main__ import main
from defectmill.files import ROOT, DefectmillError
from defectmill.products import inputs
from fake_competition import make_info, write_fake_competition
from fake_raw import add_pair, colour_mask


@pytest.fixture
def folder(root):
    write_fake_competition(root / "input" / "fake", n_train=3, n_test=2)
    return root / "input" / "fake"


def changed_after(folder, target, action) -> set[str]:
    """The parts whose lines differ, and are touched, after `action`."""
    inputs.write_parts(folder, target)
    before = {path: (path.stat().st_mtime_ns, path.read_text()) for path in target.iterdir()}
    action()
    inputs.write_parts(folder, target)
    touched = {path.name for path, (time, _) in before.items() if path.stat().st_mtime_ns != time}
    differing = {path.name for path, (_, text) in before.items() if path.read_text() != text}
    assert touched == differing
    return touched - {inputs.MANIFEST}


def test_each_part_has_a_line_with_its_number_of_files(folder, tmp_path):
    inputs.write_parts(folder, tmp_path / "parts")
    lines = {path.name: path.read_text() for path in (tmp_path / "parts").iterdir()}
    assert lines.keys() == {*inputs.PARTS, inputs.MANIFEST}
    assert lines["train_images"].startswith("train_images: 3 files, sha256 ")
    assert lines["test_images"].startswith("test_images: 2 files, sha256 ")
    assert lines["sample_submission.csv"].endswith("\nsolution.csv: there\n")
    assert lines["dataset.json"].splitlines()[1:] == [
        "issues.csv: 0 files, sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "description: its own",
    ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("train.csv", {"train.csv"}),
        ("train_images/bar_000.png", {"train_images"}),
        ("train_images/deeper/new.png", {"train_images"}),
        ("test_images/bar_003.png", {"test_images"}),
        ("solution.csv", {"solution.csv"}),
        ("sample_submission.csv", {"sample_submission.csv"}),
        ("issues.csv", {"dataset.json"}),
        ("train_images/.hidden", set()),
        ("notes.txt", set()),
    ],
)
def test_a_changed_file_changes_the_line_of_its_part_alone(folder, tmp_path, name, parts):
    def append():
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("a") as file:
            file.write("x")

    assert changed_after(folder, tmp_path / "parts", append) == parts
    assert changed_after(folder, tmp_path / "parts", lambda: os.utime(folder / name)) == set()


def test_a_renamed_picture_and_one_copied_over_another_with_its_times_are_changes(folder, tmp_path):
    first, second = (folder / "train_images" / f"bar_00{n}.png" for n in (0, 1))
    assert changed_after(folder, tmp_path / "parts", lambda: first.rename(first.with_name("a.png"))) == {
        "train_images"
    }
    status, content = second.stat(), second.read_bytes()

    def replace():
        second.write_bytes(content[::-1])
        os.utime(second, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert changed_after(folder, tmp_path / "parts", replace) == {"train_images"}


def test_what_has_the_same_size_and_times_is_not_read_again(folder, monkeypatch):
    known = inputs.scan(folder / "train_images", {})
    assert sorted(known) == ["bar_000.png", "bar_001.png", "bar_002.png"]
    read = []
    monkeypatch.setattr(inputs, "hash_file", lambda path: read.append(os.path.basename(path)) or "hash")
    assert inputs.scan(folder / "train_images", known) == known
    os.utime(folder / "train_images" / "bar_001.png")
    inputs.scan(folder / "train_images", known)
    assert read == ["bar_001.png"]


def test_a_broken_manifest_is_made_anew(folder, tmp_path):
    manifest = tmp_path / "parts" / inputs.MANIFEST
    inputs.write_parts(folder, manifest.parent)
    whole = manifest.read_text()
    manifest.write_text(whole[:-9])
    assert changed_after(folder, tmp_path / "parts", lambda: None) == set()
    assert manifest.read_text() == whole


def test_a_scan_where_nothing_changed_loads_nothing_heavy(folder, tmp_path):
    inputs.write_parts(folder, tmp_path)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['inputs', 'scan', {str(folder)!r}, {str(tmp_path)!r}]\n"
        "try:\n    runpy.run_module('defectmill.products.inputs', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert not {'numpy', 'pandas', 'pydantic', 'yaml'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT / "src"
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def mine(root):
    """A dataset of the user's own, made of raw images with masks in the colour of class 1."""
    folder = root / "input" / "mine"
    folder.mkdir()
    (folder / "info.json").write_text(make_info("mine").model_dump_json())
    for number in range(10):
        add_pair(root / "raw", f"{number}.png", colour_mask((250, 200, 40)), number)
    main(["input", "mine", f"--raw={root / 'raw'}"])
    return folder, root / "raw"


def test_a_dataset_is_made_from_the_raw_files_that_are_there_under_any_folder(mine, tmp_path):
    folder, raw = mine
    assert inputs.is_made_from(folder, str(raw))
    assert inputs.is_made_from(folder, "")
    note = (folder / inputs.NOTE).read_text()
    os.utime(raw / "images" / "3.png")
    assert inputs.is_made_from(folder, str(raw))
    assert (folder / inputs.NOTE).read_text() != note  # the time is known from now on
    (tmp_path / "moved").mkdir()
    raw.rename(tmp_path / "moved" / "raw")
    assert inputs.is_made_from(folder, str(tmp_path / "moved" / "raw"))
    assert json.loads((folder / inputs.NOTE).read_text())["raw"] == str(tmp_path / "moved" / "raw")


def test_other_raw_files_or_none_make_another_dataset(mine):
    folder, raw = mine
    for other in (f"{raw}{os.pathsep}{raw}", f"{raw}{os.pathsep}no such", "no such", str(raw / "images")):
        assert not inputs.is_made_from(folder, other)
    renamed = raw.rename(raw.with_name("renamed"))  # an adapter may go by the name
    assert not inputs.is_made_from(folder, str(renamed))
    renamed.rename(raw)
    (raw / "masks" / "3.png").unlink()
    assert not inputs.is_made_from(folder, str(raw))
    (folder / "dataset.json").unlink()
    assert not inputs.is_made_from(folder, "")


def test_a_dataset_of_which_nothing_is_noted_is_made_anew_where_raw_is_given(mine):
    folder, raw = mine
    (folder / inputs.NOTE).unlink()
    assert inputs.is_made_from(folder, "")
    assert not inputs.is_made_from(folder, str(raw))
    main(["input", "mine", f"--raw={raw}"])
    assert inputs.is_made_from(folder, str(raw))


def test_an_edited_description_is_refused_until_raw_is_given(mine, tmp_path):
    folder, raw = mine
    (folder / "info.json").write_text(make_info("mine").model_copy(update={"title": "x"}).model_dump_json())
    for call in (lambda: inputs.is_made_from(folder, ""), lambda: inputs.write_parts(folder, tmp_path / "p")):
        with pytest.raises(DefectmillError, match=r"info\.json: edited since mine was made.*RAW=/"):
            call()
    assert not inputs.is_made_from(folder, str(raw))
    main(["input", "mine", f"--raw={raw}"])
    assert json.loads((folder / "dataset.json").read_text())["title"] == "x"


@pytest.mark.parametrize(
    ("change", "offence"),
    [
        ({"train.csv": "days of work"}, r"mine/train\.csv: edited since it was made from RAW="),
        ({"solution.csv": "days of work"}, r"mine/solution\.csv: edited since it was made from RAW="),
        ({".raw.json": "", "dataset.json": '{"name": "mine"}'}, r"input/mine: made by hand; it would be"),
        ({".raw.json": "", "dataset.json": ""}, r"mine/train\.csv: made by hand, without a dataset\.json"),
        ({".raw.json": '{"dataset": "other"}'}, r"input/mine: made from other, not from RAW"),
    ],
)
def test_what_was_made_or_mended_by_hand_is_not_written_over(mine, change, offence):
    folder, raw = mine
    for name, text in change.items():
        (folder / name).unlink()
        if text:
            (folder / name).write_text(text)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(DefectmillError, match=offence):
        main(["input", "mine", f"--raw={raw}"])
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_exit_status_tells_make_whether_the_dataset_must_be_made(mine):
    folder, raw = mine
    assert inputs.main(["made", str(folder), str(raw)]) == 0
    assert inputs.main(["made", str(folder), str(raw), "changed.py"]) == inputs.DIFFERS
    assert inputs.main(["made", str(folder), "no such"]) == inputs.DIFFERS


def test_a_link_that_leads_nowhere_is_no_file_and_a_raw_folder_may_hold_a_colon(mine):
    folder, raw = mine
    (raw / "images" / "broken.png").symlink_to(raw / "nowhere.png")
    assert inputs.is_made_from(folder, f"{raw}/")
    note = inputs.scan_raw(str(raw.rename(raw.with_name("a:b"))), {})
    assert [sorted(files)[0] for files in note] == ["images/0.png"]


def test_links_that_lead_back_are_not_followed_and_pipes_not_waited_for(tmp_path):
    raw = tmp_path / "raw"
    (raw / "a").mkdir(parents=True)
    (raw / "b").mkdir()
    (raw / "a" / "one.txt").write_text("1")
    for link, target in (("a/up", raw), ("a/top", "/"), ("a/b", raw / "b"), ("b/a", raw / "a")):
        (raw / link).symlink_to(target, target_is_directory=True)
    os.mkfifo(raw / "pipe")
    assert sorted(inputs.scan(raw, {})) == ["a/one.txt", "b/a/one.txt"]
    assert inputs.scan(raw / "pipe", {}) == {}


def test_a_name_that_is_no_text_counts_as_its_bytes(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9")).write_text("1")
    assert inputs.sum_up(inputs.scan(tmp_path, {})).startswith("1 files, sha256 ")
