"""Kaggle's token and client; the client is one made by hand, nothing is downloaded."""

import os
import sys
from pathlib import Path

import pytest

from defectmill import kaggle
from defectmill.kaggle import KaggleError, check_token, download

SLUG = "severstal-steel-defect-detection"


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    """An empty folder for the token, and nothing in the environment."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Put a `kaggle` on the path that does what it is told."""

    def put(script: str) -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "client.py").write_text(f"import sys\n{script}\n")
        # Not as its first line: the environment's path may hold a blank.
        call = f'exec "{sys.executable}" "{tools / "client.py"}" "$@"'
        (tools / "kaggle").write_text(f"#!/bin/sh\n{call}\n")
        (tools / "kaggle").chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(tools / "python"))
        monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)

    return put


def write_token(config: Path, mode: int, name: str = "kaggle.json") -> Path:
    path = config / name
    path.write_text('{"username": "u", "key": "k"}')
    path.chmod(mode)
    return path


def test_without_a_token_the_steps_are_told(config):
    with pytest.raises(KaggleError) as caught:
        check_token(SLUG)
    said = str(caught.value)
    for step in ("account", f"competitions/{SLUG}/rules", "token", "pip install kaggle", "RAW="):
        assert step in said
    assert str(config / "kaggle.json") in said


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("name", ["kaggle.json", "access_token"])
def test_token_that_others_can_read_is_refused(config, mode, name):
    path = write_token(config, mode, name)
    with pytest.raises(KaggleError, match=f"others .* can read your token.*chmod 600 {path}"):
        check_token(SLUG)


def test_closed_token_and_token_in_the_environment_pass(config, monkeypatch):
    path = write_token(config, 0o600)
    check_token(SLUG)
    path.unlink()
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    check_token(SLUG)


def test_user_name_without_key_is_no_token(config, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "u")
    with pytest.raises(KaggleError, match="no Kaggle token"):
        check_token(SLUG)


def test_missing_client_says_how_to_install_it(config, tmp_path, monkeypatch):
    write_token(config, 0o600)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kaggle.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(KaggleError, match="pip install kaggle"):
        download(SLUG, tmp_path)


def test_client_is_asked_for_the_whole_competition(config, client, tmp_path):
    write_token(config, 0o600)
    client("open(sys.argv[6] + '/' + sys.argv[4] + '.zip', 'w').write(' '.join(sys.argv[1:]))")
    path = download(SLUG, tmp_path / "in put")
    assert path == tmp_path / "in put" / f"{SLUG}.zip"
    assert path.read_text() == f"competitions download -c {SLUG} -p {tmp_path / 'in put'}"


@pytest.mark.parametrize("status", [0, 1])
def test_what_a_failing_client_says_is_told_with_the_steps(config, client, tmp_path, status):
    write_token(config, 0o600)
    client(f"print('403 Forbidden'); sys.exit({status})")
    with pytest.raises(KaggleError, match=r"(?s)403 Forbidden.*accept the rules"):
        download(SLUG, tmp_path)
