"""Provenance."""

import json
import subprocess

from defectmill import provenance
from defectmill.config import load_experiment


def test_hash_tells_names_and_contents(tmp_path):
    (tmp_path / "train_images").mkdir()
    first, second = tmp_path / "a.csv", tmp_path / "train_images" / "b.png"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    known = provenance.hash_folder(tmp_path)
    assert known == provenance.hash_folder(tmp_path)
    assert len(known) == 64
    second.write_bytes(b"3")
    changed = provenance.hash_folder(tmp_path)
    second.write_bytes(b"2")
    second.rename(tmp_path / "train_images" / "c.png")
    assert len({known, changed, provenance.hash_folder(tmp_path)}) == 3


def test_a_linked_folder_is_hashed_too(tmp_path):
    (tmp_path / "far").mkdir()
    picture = tmp_path / "far" / "a.png"
    picture.write_bytes(b"1")
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "train_images").symlink_to(tmp_path / "far")
    before = provenance.hash_folder(tmp_path / "input")
    picture.write_bytes(b"2")
    assert provenance.hash_folder(tmp_path / "input") != before


def git(folder, *words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder,
                   check=True, capture_output=True)  # fmt: skip


def test_commit_says_when_the_code_was_changed_since(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.find_commit() == "no git checkout"
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    (tmp_path / "untracked.csv").write_text("2")
    clean = provenance.find_commit()
    assert clean.startswith("git commit ")
    assert len(clean.split()[-1]) == 40
    (tmp_path / "a.py").write_text("3")
    assert provenance.find_commit() == f"{clean}, with changes that are not committed"


def test_times_come_from_the_runner(tmp_path):
    assert provenance.describe_times(tmp_path) == "not measured"
    (tmp_path / "notebooks").mkdir()
    for name, seconds in (("03_train", 61.4), ("01_eda", 3.0)):
        path = tmp_path / "notebooks" / f"{name}.json"
        path.write_text(json.dumps({"seconds": seconds, "peak_mb": 9}))
    assert provenance.describe_times(tmp_path) == "01_eda 3 s, 03_train 61 s"


def test_a_run_is_described_without_loading_its_libraries(monkeypatch):
    monkeypatch.setattr(provenance, "hash_folder", lambda folder: f"<{folder.name}>")
    said = provenance.describe_run(load_experiment("magnetic-tile"))
    assert said["data hash"] == "sha256 <magnetic-tile> (every file of input/magnetic-tile)"
    assert "Huang" in said["citation"]
    assert said["keras"].startswith("3.")
    assert "cores" in said["machine"]
