"""What make doctor says of a machine: each line ok, a note, or what is to be mended."""

import os
import subprocess
import sys
import time

import pytest

from defectmill.files import DefectmillError
from defectmill.products import inputs
from defectmill.running import doctor
from fake_competition import write_fake_competition

LOCK = """# made by uv
numpy==2.4.1 \\
    --hash=sha256:0 \\
    --hash=sha256:1
Tensor_Flow==2.21.0 ; python_full_version >= '3.11' \\
    --hash=sha256:2
oldies==1.0 ; python_full_version < '3.0' \\
    --hash=sha256:3
"""


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 10), "MEND"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "MEND")]
)
def test_a_python_that_packages_are_not_locked_for_is_told(version, verdict):
    assert doctor.check_python(version).verdict == verdict


@pytest.mark.parametrize(
    ("installed", "verdict", "said"),
    [
        ({"numpy": "2.4.1", "tensor-flow": "2.21.0"}, "ok", "all 2 as in requirements.lock"),
        (
            {"numpy": "2.3", "tensor-flow": "2.21.0"},
            "MEND",
            "numpy 2.3 (locked: 2.4.1): delete .venv, then make env",
        ),
        ({"numpy": "2.4.1"}, "note", "differ from requirements.lock: tensor-flow missing (locked: 2.21.0)"),
    ],
)
def test_packages_are_compared_with_the_lock(installed, verdict, said):
    assert doctor.check_packages(LOCK, installed, ["numpy"]) == ("packages", verdict, said)


def test_flags_of_the_processor_are_named(tmp_path):
    cpus = tmp_path / "cpuinfo"
    cpus.write_text("model name\t: One\nflags\t\t: fpu avx2 avx512f amx_tile\n")
    assert doctor.check_processor(cpus).said.endswith("; has AVX2, AVX512, AMX; lacks AVX512-BF16")
    assert doctor.check_processor(tmp_path / "none").said.endswith("; its flags are not known")


def test_too_little_memory_is_told_with_what_helps():
    assert doctor.check_memory(3, 8) == ("memory", "ok", "3.0 of 8.0 GiB free")
    found = doctor.check_memory(2.9, 8)
    assert found.verdict == "MEND"
    assert "lower training.batch_size" in found.said


def test_a_folder_that_cannot_be_written_or_has_no_room_is_told(root, monkeypatch):
    assert doctor.check_folder(root / "output").verdict == "ok"
    (root / "submissions").write_text("a file")
    assert doctor.check_folder(root / "submissions").verdict == "MEND"

    def fail(**_):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(doctor.tempfile, "TemporaryFile", fail)
        assert doctor.check_folder(root / "output").said.endswith(
            "output cannot be written (Read-only file system): change rights or disk"
        )
        assert doctor.check_folder(root / "input").verdict == "note"  # it may be a disk that is only read
    usage = doctor.shutil.disk_usage(root)._replace(free=2**30)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert doctor.check_folder(root / "output").said.startswith("1.0 GiB free, 2 are needed")


def test_a_token_is_asked_for_only_where_others_could_read_it(tmp_path, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    assert doctor.check_kaggle().verdict == "note"
    (tmp_path / "access_token").write_text("secret")
    os.chmod(tmp_path / "access_token", 0o644)
    assert doctor.check_kaggle().verdict == "MEND"
    assert "chmod 600" in doctor.check_kaggle().said
    os.chmod(tmp_path / "access_token", 0o600)
    assert doctor.check_kaggle() == ("Kaggle token", "ok", "there")


@pytest.fixture
def folder(root):
    write_fake_competition(root / "input" / "fake", n_train=3, n_test=2)
    return root / "input" / "fake"


def test_a_dataset_is_whole_or_what_is_missing_is_named(folder):
    assert doctor.check_dataset(folder) == ("input/fake", "ok", "whole")
    picture = folder / "train_images" / "bar_001.png"
    picture.write_bytes(b"")
    assert "1 files are empty or links that lead nowhere, such as train_images/bar_001.png" in (
        doctor.check_dataset(folder).said
    )
    picture.unlink()
    picture.symlink_to(folder / "none")
    assert doctor.check_dataset(folder).verdict == "MEND"
    picture.unlink()
    (folder / "train.csv").unlink()
    assert doctor.check_dataset(folder).said.startswith("train.csv is missing: make input DATASET=fake")
    (folder / "dataset.json").write_text("{")
    assert doctor.check_dataset(folder).verdict == "MEND"


def test_a_dataset_is_compared_with_what_make_last_saw(folder, root):
    settings = root / "output" / "mine" / "settings"
    inputs.write_parts(folder, settings / "inputs")
    (settings / "labels.json").write_text('{"dataset": "fake"}')
    assert doctor.check_dataset(folder).said == "whole, and as make last saw it"
    (folder / "test_images" / "bar_003.png").unlink()
    found = doctor.check_dataset(folder)
    assert found.verdict == "note"
    assert found.said.startswith("1 files are not as make last saw them, such as test_images/bar_003.png")
    (settings / "labels.json").write_text('{"dataset": "other"}')
    assert doctor.check_dataset(folder).said == "whole"


def ask(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("code", "card", "verdict", "said"),
    [
        ("print('hello'); print(2)", True, "ok", "2"),
        ("print(0)", False, "ok", "none: trains on the processor"),
        ("print(0)", True, "note", "none, though there is one: "),
        ("import sys; sys.exit('no libcuda')", True, "MEND", "tensorflow cannot be loaded: no libcuda"),
        ("import os; os.abort()", True, "MEND", "tensorflow cannot be loaded: exit status -6"),
        ("import time; time.sleep(60)", True, "note", "no answer within 12 s"),
    ],
)
def test_gpus_are_counted_and_a_library_that_fails_is_a_line(monkeypatch, code, card, verdict, said):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/nvidia-smi" if card else None)
    patience = 1 if "sleep" in code else 60
    found = doctor.check_gpu("tensorflow", ask(code), time.monotonic() + patience)
    assert found.verdict == verdict
    assert found.said.startswith(said)


def test_a_missing_library_must_be_mended_only_where_it_is_needed():
    assert doctor.check_gpu("tensorflow", None, 0).verdict == "MEND"
    assert doctor.check_gpu("jax", None, 0) == ("GPU seen by jax", "ok", "not installed, nor needed")


def test_all_lines_are_printed_and_what_is_to_mend_ends_the_command(root, monkeypatch, capsys):
    for name in ("requirements.lock", "pyproject.toml"):
        (root / name).write_text(LOCK if "lock" in name else '[project]\ndependencies = ["numpy>=2"]\n')
    monkeypatch.setattr(doctor, "DEVICES", {"json": "print(0)"})
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor, "check_packages", lambda *_: doctor.Finding("packages", "MEND", "one"))
    with pytest.raises(DefectmillError, match=r"^to mend: packages$"):
        doctor.print_doctor()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["ok", "MEND", "ok"]
    assert len(lines) == 9
