"""What is attached is found in any layout, and what is not is told."""

import json

import pytest

from defectmill.config import ConfigError
from defectmill.kaggle.inputs import find_bundle, find_competition


@pytest.fixture
def attached(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECTMILL_KAGGLE_INPUT", str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    return tmp_path / "input"


def attach(folder, kind="defectmill bundle"):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"kind": kind}))
    return folder


@pytest.mark.parametrize("place", ["x-model", "datasets/jane/x-model", "datasets/jane/x-model/versions/3"])
def test_the_dataset_is_found_by_its_manifest_however_deep(attached, place):
    attach(attached / "other", kind="something else")
    (attached / "odd").mkdir()
    (attached / "odd" / "manifest.json").write_text("no json")
    attach(attached / place)
    assert find_bundle() == attached / place


def test_no_dataset_and_two_are_told_with_what_is_attached(attached):
    (attached / "photos").mkdir()
    with pytest.raises(ConfigError, match="no dataset of `make kernel`: attach one; attached are photos"):
        find_bundle()
    attach(attached / "one")
    attach(attached / "two")
    with pytest.raises(ConfigError, match=r"2 datasets of `make kernel` \(.*/one, .*/two\)"):
        find_bundle()


@pytest.mark.parametrize("place", ["steel", "competitions/steel", "competitions/steel/data"])
def test_a_competition_is_found_by_the_name_in_its_address(attached, place):
    (attached / "other" / "test_images").mkdir(parents=True)
    (attached / place / "test_images").mkdir(parents=True)
    assert find_competition("steel") == attached / place


def test_without_a_name_the_one_folder_with_test_images_is_taken(attached):
    (attached / "a" / "b" / "test_images").mkdir(parents=True)
    assert find_competition("") == attached / "a" / "b"
    (attached / "c" / "test_images").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"one folder with test_images is wanted.*there are .*/c"):
        find_competition("")


def test_a_competition_that_is_not_attached_is_never_another(attached):
    (attached / "copper" / "test_images").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"competition 'steel' with its test_images is wanted.*copper"):
        find_competition("steel")


def test_away_from_kaggle_the_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECTMILL_KAGGLE_INPUT", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such folder: this runs on Kaggle"):
        find_bundle()
