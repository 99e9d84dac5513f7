"""Provenance."""

import json
import subprocess

import pytest
import yaml

from defectmill.config import load_experiment
from defectmill.evaluation import provenance


@pytest.mark.parametrize("linked", [False, True])
def test_hash_tells_names_and_contents(tmp_path, linked):
    folder, far = tmp_path / "input", tmp_path / "far"
    folder.mkdir()
    far.mkdir()
    if linked:
        (folder / "train_images").symlink_to(far)
    else:
        folder = far
    picture = far / "b.png"
    (folder / "a.csv").write_bytes(b"1")
    picture.write_bytes(b"2")
    known = provenance.hash_folder(folder)
    assert known == provenance.hash_folder(folder)
    assert len(known) == 64
    picture.write_bytes(b"3")
    changed = provenance.hash_folder(folder)
    picture.write_bytes(b"2")
    picture.rename(far / "c.png")
    assert len({known, changed, provenance.hash_folder(folder)}) == 3


def test_commit_says_when_the_code_was_changed_since(root, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    assert provenance.find_commit() == "no git checkout"
    (root / "a.py").write_text("1")
    git = "git -c user.name=a -c user.email=a@b"
    script = f"git init -q && git add . && {git} commit -q -m first && {git} tag -a v1 -m other"
    subprocess.run(script, shell=True, cwd=root, check=True)
    (root / "untracked.csv").write_text("2")
    clean = provenance.find_commit()
    assert clean.startswith("git commit ")
    assert len(clean.split()[-1]) == 40
    (root / "a.py").write_text("3")
    assert provenance.find_commit() == f"{clean}, with changes that are not committed"


def test_a_run_is_described_without_loading_its_libraries(root, monkeypatch):
    monkeypatch.setattr(provenance, "hash_folder", lambda folder: f"<{folder.name}>")
    (root / "notebooks" / "experiments" / "tiles.yml").write_text("dataset: magnetic-tile\nseed: 3\n")
    run = load_experiment("tiles", {"training.epochs": 7})
    assert provenance.describe_run(run)["time"] == "not measured"
    (run.output / "notebooks").mkdir(parents=True)
    for name, seconds in (("03_train", 61.4), ("01_eda", 3.0), ("06_infer", 5.0)):
        usage = {"seconds": seconds, "peak_mb": 9}
        (run.output / "notebooks" / f"{name}.json").write_text(json.dumps(usage))
    facts = provenance.describe_run(run)
    assert facts["data hash"] == "sha256 <magnetic-tile> (every file of input/magnetic-tile)"
    assert (facts["seed"], facts["time"]) == ("3", "01_eda 3 s, 03_train 61 s")
    assert "Huang" in facts["citation"]
    assert facts["keras"].startswith("3.")
    assert "cores" in facts["machine"]
    assert yaml.safe_load(facts["settings"]) == run.model_dump(mode="json")
