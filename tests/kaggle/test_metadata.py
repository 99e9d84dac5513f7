"""Titles, names in addresses, and whose they are."""

import hashlib
import json

import pytest

from defectmill.config import ConfigError
from defectmill.kaggle.metadata import (
    Place,
    check_place,
    describe_dataset,
    describe_kernel,
    make_title,
    slug_of,
)

PLACE = Place("jane", "steel-2019", 9)


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """No token, and nobody's name in the environment."""
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("experiment", "title"),
    [
        ("sample", "defectmill sample model"),
        ("severstal-cpu", "defectmill severstal-cpu model"),
        ("my_parts.v2", "defectmill my-parts-v2 MARK model"),
        ("x" * 70, f"defectmill {'x' * 26} MARK model"),
    ],
)
def test_a_title_has_6_to_50_letters_and_what_was_cut_or_changed_is_marked(experiment, title):
    made = make_title(experiment, "model")
    mark = hashlib.sha256(experiment.encode()).hexdigest()[:6]
    assert made == title.replace("MARK", mark)
    assert 6 <= len(made) <= 50


def test_no_two_experiments_share_a_title():
    names = ["a", "A", "a_b", "a-b", "a.b", *("x" * 60 + last for last in "ab")]
    assert len({slug_of(make_title(name, "model")) for name in names}) == len(names)


def test_a_slug_is_small_letters_digits_and_single_dashes():
    assert slug_of("defectmill My_parts..v2 model") == "defectmill-my-parts-v2-model"
    assert slug_of(" (A) ") == "a"


def test_a_dataset_has_one_licence_and_the_id_that_its_title_makes():
    assert describe_dataset("sample", PLACE, "predict") == {
        "title": "defectmill sample model",
        "id": "jane/defectmill-sample-model",
        "licenses": [{"name": "other"}],
    }


def test_a_kernel_has_a_t4_no_internet_and_names_what_it_reads():
    assert describe_kernel("sample", PLACE, "predict") == {
        "id": "jane/defectmill-sample-predict",
        "title": "defectmill sample predict",
        "code_file": "predict.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",
        "dataset_sources": ["jane/defectmill-sample-model"],
        "competition_sources": ["steel-2019"],
        "kernel_sources": [],
        "model_sources": [],
    }
    assert describe_kernel("sample", Place("jane", "", 9), "predict")["competition_sources"] == []


@pytest.mark.parametrize("odd", ["Jane", "jane/x", "-jane", "a--b", "jane doe"])
@pytest.mark.parametrize("what", ["OWNER", "COMPETITION"])
def test_a_name_that_no_address_holds_is_refused(what, odd):
    given = {"OWNER": "jane", "COMPETITION": "", what: odd}
    with pytest.raises(ConfigError, match=f"{what}={odd}: the name in its address"):
        check_place(given["OWNER"], given["COMPETITION"], "9")


@pytest.mark.parametrize("hours", ["", "nine", "0", "13", "nan", "-1"])
def test_hours_are_a_number_that_kaggle_allows(hours):
    with pytest.raises(ConfigError, match=f"HOURS={hours}: a number from 0.1 to 12"):
        check_place("jane", "", hours)


def test_the_owner_comes_from_what_is_said_the_environment_or_the_legacy_key(nobody, monkeypatch):
    assert check_place("", "", "9") == Place("your-name", "", 9.0)
    (nobody / "kaggle.json").write_text(json.dumps({"username": "ann", "key": "k"}))
    assert check_place("", "", "9").owner == "ann"
    monkeypatch.setenv("KAGGLE_USERNAME", "bob")
    assert check_place("", "steel", "0.5") == Place("bob", "steel", 0.5)
    assert check_place("jane", "", "9").owner == "jane"


@pytest.mark.parametrize("text", ["no json", "[]", "{}"])
def test_a_legacy_key_that_tells_no_name_tells_none(nobody, text):
    (nobody / "kaggle.json").write_text(text)
    assert check_place("", "", "9").owner == "your-name"
