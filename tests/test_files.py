"""Files that are written whole or not at all, and errors that a notebook shows in one line."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from defectmill import files
from defectmill.config import ConfigError
from defectmill.files import (
    DefectmillError,
    hold,
    is_unattended,
    match_names,
    read_table,
    set_unattended,
    write_atomically,
    write_if_changed,
)
from defectmill.images import ImageError, read_image, write_image
from defectmill.labels import LabelError
from defectmill.rle import RleError
from defectmill.submission import SubmissionError


def names_in(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_the_projects_folder_holds_the_notebooks():
    assert (files.ROOT / "notebooks" / "01_eda.ipynb").is_file()


def test_a_file_appears_when_it_is_whole_and_its_folder_with_it(tmp_path):
    path = tmp_path / "output" / "sample" / "a.csv"
    with write_atomically(path) as part:
        part.write_text("id\n")
        assert not path.exists()
        assert names_in(path.parent) == ["a.part.csv"]
    assert path.read_text() == "id\n"
    assert names_in(path.parent) == ["a.csv"]


def test_the_temporary_name_keeps_the_suffix_by_which_formats_are_told(tmp_path):
    with write_atomically(tmp_path / "a.png") as part:
        write_image(part, np.full((3, 5), 9, np.uint8))
    assert read_image(tmp_path / "a.png").shape == (3, 5, 1)


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "masks"
    for name in ("old.png", "new.png"):
        with write_atomically(path) as part:
            part.mkdir()
            (part / name).touch()
    assert names_in(tmp_path) == ["masks", "masks/new.png"]


def test_a_folder_takes_the_place_of_a_link_and_leaves_what_it_led_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "kept.png").touch()
    (tmp_path / "masks").symlink_to(tmp_path / "disk")
    with write_atomically(tmp_path / "masks") as part:
        part.mkdir()
    assert names_in(tmp_path) == ["disk", "disk/kept.png", "masks"]
    assert not (tmp_path / "masks").is_symlink()


def write_half(path, start) -> None:
    with write_atomically(path) as part:
        start(part)
        raise RuntimeError("half-way")


def test_a_failure_keeps_the_old_file_and_leaves_no_part(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half-way"):
        write_half(path, lambda part: part.write_text("ne"))
    assert names_in(tmp_path) == ["a.csv"]
    assert path.read_text() == "old"


def test_a_failure_keeps_the_old_folder_and_leaves_no_part(tmp_path):
    (tmp_path / "masks" / "old").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="half-way"):
        write_half(tmp_path / "masks", lambda part: (part / "new").mkdir(parents=True))
    assert names_in(tmp_path) == ["masks", "masks/old"]


def test_a_block_that_writes_nothing_is_a_failure_too(tmp_path):
    (tmp_path / "masks" / "old").mkdir(parents=True)
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "masks"):
        pass
    assert names_in(tmp_path) == ["masks", "masks/old"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_an_earlier_attempt_left_is_not_built_on(tmp_path, kind):
    part = tmp_path / "masks.part"
    part.touch() if kind == "file" else (part / "deep").mkdir(parents=True)
    with write_atomically(tmp_path / "masks") as given:
        assert given == part
        part.mkdir()
    assert names_in(tmp_path) == ["masks"]


def test_a_text_that_says_the_same_is_not_written_again(tmp_path):
    path = tmp_path / "out" / "a.json"
    write_if_changed(path, "Fläche\n")
    assert path.read_bytes() == "Fläche\n".encode()
    os.utime(path, (7, 7))
    write_if_changed(path, "Fläche\n")
    assert path.stat().st_mtime == 7
    write_if_changed(path, "other\n")
    assert (path.read_text(), names_in(path.parent)) == ("other\n", ["a.json"])
    assert path.stat().st_mtime > 7


@pytest.mark.parametrize("error", [ConfigError, ImageError, LabelError, RleError, SubmissionError])
def test_every_error_of_the_root_has_one_base_that_is_a_value_error(error):
    assert issubclass(error, DefectmillError)
    assert issubclass(error, ValueError)


def test_a_notebook_shows_an_error_in_one_line(capsys):
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    code = "from defectmill.rle import rle_to_mask\nrle_to_mask('1 3 5', (3, 4))"
    shell.run_cell(code)
    assert capsys.readouterr().out == "RleError: not 'start length' pairs separated by one space: '1 3 5'\n"


def test_that_nobody_watches_is_told_to_this_process_and_those_it_starts(monkeypatch):
    monkeypatch.setenv("DEFECTMILL_UNATTENDED", "")
    assert not is_unattended()
    set_unattended()
    assert is_unattended()
    assert os.environ["DEFECTMILL_UNATTENDED"]


def test_a_table_is_text_with_its_empty_lines_but_those_at_the_end(tmp_path):
    (tmp_path / "t.csv").write_bytes("\ufeff a ,b\r\n1,NaN\r\n\r\n,007\r\n\r\n".encode())
    table = read_table(tmp_path / "t.csv")
    assert table.to_dict("list") == {"a": ["1", "", ""], "b": ["NaN", "", "007"]}
    assert table.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "offence"),
    [
        (b"", "t.csv: not a CSV table"),
        (b"a,b\n\xe4,1\n", "t.csv: not UTF-8 .*: save it as UTF-8"),
        (b"a;b\n1;2\n", "t.csv row 1: columns are separated by ';'; save it with commas"),
        (b"a\tb\n1\t2\n", r"t.csv row 1: columns are separated by '\\t'; save it with commas"),
        (b"a,b\n1,2\n1,2,3\n", "t.csv: not a CSV table: .* line 3, saw 3"),
        (b"a,b\n1,2,3\n", "t.csv row 2: has more cells than the header"),
    ],
)
def test_a_broken_table_is_named(tmp_path, content, offence):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DefectmillError, match=offence):
        read_table(tmp_path / "t.csv")
    with pytest.raises(DefectmillError, match=r"no\.csv: no such file"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(DefectmillError, match="cannot be read"):
        read_table(tmp_path)


COMPOSED, DECOMPOSED = "\u00e4.png", "a\u0308.png"


@pytest.mark.parametrize(
    ("name", "image_ids", "found"),
    [
        ("a.png", ["b.png", "a.png"], "a.png"),
        (COMPOSED, [DECOMPOSED], DECOMPOSED),
        (DECOMPOSED, [COMPOSED], COMPOSED),
        (DECOMPOSED, [COMPOSED, DECOMPOSED], DECOMPOSED),
        ("\u00e4", [DECOMPOSED], DECOMPOSED),
        (" a.png\t", ["a.png"], "a.png"),
        (" a.png", [" a.png", "a.png"], " a.png"),
        ("x/y/a.png", ["a.png"], "a.png"),
        ("x/a.png", ["a.png", "x/a.png"], "x/a.png"),
        (r"x\a", ["a.png"], "a.png"),
        ("a.b", ["a.b.png", "a.png"], "a.b.png"),
        ("a", ["a", "a.png"], "a"),
    ],
)
def test_a_name_means_the_one_file_that_it_differs_from_in_form(name, image_ids, found):
    assert match_names([name], image_ids) == ({name: found}, {})


@pytest.mark.parametrize(
    ("names", "image_ids", "lost"),
    [
        (["a"], ["a.jpg", "b.png", "a.png"], {"a": "; it may mean 'a.jpg' or 'a.png'"}),
        (
            [" \u00e4.png"],
            [COMPOSED, DECOMPOSED],
            {" \u00e4.png": f"; it may mean '{COMPOSED}' or '{DECOMPOSED}'"},
        ),
        (["A.PNG"], ["a.png"], {"A.PNG": "; there is 'a.png': the case of letters counts"}),
        (["a"], ["A.png"], {"a": "; there is 'A.png': the case of letters counts"}),
        (["a.jpg", "", "b"], ["a.png"], {"a.jpg": "", "": "", "b": ""}),
        (["a.png"], [], {"a.png": ""}),
        (
            ["1/a.png", "2/a.png"],
            ["a.png"],
            dict.fromkeys(["1/a.png", "2/a.png"], "; '1/a.png' and '2/a.png' would be one image, 'a.png'"),
        ),
    ],
)
def test_a_name_that_means_no_file_or_several_is_told_why(names, image_ids, lost):
    assert match_names(names, image_ids) == ({}, lost)


def test_names_of_one_file_may_be_written_in_several_forms():
    assert match_names(["a", "a.png", " a"], ["a.png"])[0] == dict.fromkeys(["a", "a.png", " a"], "a.png")


def test_a_lock_is_held_by_one_process_and_told_to_others(tmp_path):
    lock = tmp_path / "output" / ".mine.lock"
    code = (
        "import sys; from pathlib import Path; from defectmill.files import hold\n"
        "with hold(Path(sys.argv[1]), 'output/mine is being made', len(sys.argv) > 2): pass\n"
    )
    with hold(lock, "output/mine is being made"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(lock)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        told = rf"output/mine is being made by process {os.getpid()} on \S+ since .*: wait for it, or stop it"
        assert re.search(told, done.stderr)
    assert subprocess.run([sys.executable, "-c", code, str(lock)], check=False).returncode == 0
    with hold(lock, "input/mine is being read", shared=True):
        again = [
            subprocess.run(
                [sys.executable, "-c", code, str(lock), *words], capture_output=True, text=True, check=False
            )
            for words in (["shared"], [])
        ]
    assert [one.returncode for one in again] == [0, 1]
    assert "mine is being" in again[1].stderr


def test_where_no_lock_can_be_written_nothing_is_held(tmp_path):
    (tmp_path / "file").touch()
    with hold(tmp_path / "file" / ".lock", "it is made"):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DefectmillError, match=r"file/a/b\.csv: cannot be written \(Not a directory\); choose"),
        write_atomically(tmp_path / "file" / "a" / "b.csv"),
    ):
        pass
