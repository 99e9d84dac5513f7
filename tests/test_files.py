"""Files that are written whole or not at all, and errors that a notebook shows in one line."""

import errno
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from defectmill import files
from defectmill.config import ConfigError
from defectmill.files import (
    DefectmillError,
    check_name,
    explain_failure,
    hold,
    is_unattended,
    match_names,
    name_masks,
    read_file,
    read_table,
    read_text,
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


def test_that_nobody_watches_is_told_by_the_environment(monkeypatch):
    monkeypatch.setenv("DEFECTMILL_UNATTENDED", "")
    assert not is_unattended()
    monkeypatch.setenv("DEFECTMILL_UNATTENDED", "1")
    assert is_unattended()


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


@pytest.mark.parametrize(
    ("image_ids", "names"),
    [
        (["b.png", "a.JPG"], ["b", "a"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["A.jpg", "a.png"], ["A.jpg", "a.png"]),
        (["a.jpg", "a.png", "a.jpg.bmp"], ["a.jpg", "a.png", "a.jpg.bmp"]),
        (["a", "a.png"], ["a", "a.png"]),
        (["a.png", "A.png"], ["a.png", "A.png"]),
        ([], []),
    ],
)
def test_masks_are_named_by_the_stem_unless_two_images_share_it(image_ids, names):
    assert name_masks(image_ids) == dict(zip(image_ids, names, strict=True))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    for read in (read_table, read_text, read_file):
        with pytest.raises(DefectmillError, match=r"t\.csv: cannot be read \(it is a pipe or device\)"):
            read(tmp_path / "t.csv")
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(DefectmillError, match="pipe or device"):
        read_file(tmp_path / "link")


@pytest.mark.parametrize(("text", "row"), [("a,b\n1,\0\n", 2), ("a\0,b\n1,2\n", 1), ("a,b\n1,2\n\0\0\n", 3)])
def test_a_table_with_a_nul_is_refused_by_its_row(tmp_path, text, row):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DefectmillError, match=rf"t\.csv row {row}: holds a NUL; save it as text"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_table_of_a_million_columns_is_refused_at_once(tmp_path, end):
    (tmp_path / "t.csv").write_text(f"{',' * 999_999}{end}1,2{end}", newline="")
    started = time.perf_counter()
    with pytest.raises(
        DefectmillError, match="row 1: has 1,000,000 columns; no table of labels has over 10,000"
    ):
        read_table(tmp_path / "t.csv")
    assert time.perf_counter() - started < 5
    (tmp_path / "t.csv").write_text(f"a{end}{',' * 10_000}{end}", newline="")
    with pytest.raises(DefectmillError, match="row 2: has more cells than the header"):
        read_table(tmp_path / "t.csv")


def test_an_error_is_short_and_holds_nothing_that_steers_a_terminal():
    told = str(DefectmillError(f"t.csv row 2: {'x' * 10_000}\x1b[31m\udce9: say\nwhich"))
    assert len(told) < 2100
    assert told.startswith("t.csv row 2: xxx")
    assert told.endswith("x\\x1b[31m\\udce9: say\nwhich")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: the disk is full: make room"),
        (OSError(errno.EROFS, "Read-only file system", "a/b"), "a/b: the disk is read-only: choose another"),
        (OSError(errno.ESTALE, "Stale file handle"), "the network drive is gone: mount it again"),
        (PermissionError(errno.EACCES, "Permission denied", b"\xe9"), r"\udce9: Permission denied"),
        (shutil.Error([("a", "b", "why")]), "[('a', 'b', 'why')]"),
        (MemoryError(), "the memory is exhausted (no more is given): end others"),
    ],
)
def test_what_the_machine_cannot_do_is_said_in_a_line(error, told):
    assert told in explain_failure(error)
    assert "\n" not in explain_failure(error)


def test_a_disk_that_fails_while_a_file_is_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    with pytest.raises(DefectmillError, match=r"a\.txt: cannot be read \(the disk cannot be read or written"):
        files.read_file(tmp_path / "a.txt")


def test_a_disk_that_fills_up_while_a_file_is_written_is_told_with_its_name(tmp_path):
    """A limit on the size of files stands for the disk: what is written past it fails as there."""
    (tmp_path / "a.txt").write_text("older")
    code = f"""
import resource, signal, sys
from pathlib import Path
from defectmill.files import explain_failure, write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with write_atomically(Path({str(tmp_path / "a.txt")!r})) as part:
        part.write_bytes(bytes(5000))
except OSError as error:
    sys.exit(explain_failure(error))
"""
    # Coverage would write its file under the limit, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"{tmp_path / 'a.txt'}: the file grew larger than this system allows\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "older"


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", ".x", "-x", "a b", "a\nb", "é", "x" + "\udce9"])
def test_a_name_that_leaves_its_folder_is_no_name(name):
    with pytest.raises(DefectmillError, match=r"^NAME=.*: one word of letters, digits, dots, dashes"):
        check_name(name, "NAME")
    assert check_name("My-parts_2.x", "NAME") == "My-parts_2.x"


def test_text_is_read_with_or_without_a_mark_and_with_the_line_ends_of_windows(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_text(tmp_path / "a.txt") == "a\nb"
    (tmp_path / "a.txt").write_bytes(b"ab\xe4")
    with pytest.raises(DefectmillError, match=r"a\.txt: not UTF-8 \(.* at byte 2\): save it as UTF-8"):
        read_text(tmp_path / "a.txt")
