"""Kaggle's token and client, and zip files whole, damaged and hostile.

The client is one made by hand: nothing is downloaded.
"""

import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from defectmill.datasets.competition import DatasetError
from defectmill.datasets.download import check_token, download, unpack
from defectmill.files import DefectmillError

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
def client(tmp_path, monkeypatch) -> Path:
    """A `kaggle` on the path that runs the script in this file."""
    tools = tmp_path / "tools"
    tools.mkdir()
    # Not as its first line: the environment's path may hold a space.
    call = f'exec "{sys.executable}" "{tools / "client.py"}" "$@"'
    (tools / "kaggle").write_text(f"#!/bin/sh\n{call}\n")
    (tools / "kaggle").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    return tools / "client.py"


def write_token(config: Path, mode: int, name: str = "kaggle.json") -> Path:
    (config / name).write_text('{"username": "u", "key": "k"}')
    (config / name).chmod(mode)
    return config / name


def test_without_a_token_the_steps_are_listed(config):
    with pytest.raises(DatasetError) as caught:
        check_token(SLUG)
    message = str(caught.value)
    for step in ("account", f"competitions/{SLUG}/rules", "token", "pip install kaggle", "RAW="):
        assert step in message
    for way in (str(config / "access_token"), "KAGGLE_API_TOKEN", "kaggle auth login", "legacy kaggle.json"):
        assert way in message


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("name", ["kaggle.json", "access_token", "credentials.json"])
def test_token_that_others_can_read_is_refused(config, mode, name):
    path = write_token(config, mode, name)
    with pytest.raises(DatasetError, match=f"others .* can read your token.*chmod 600 {path}"):
        check_token(SLUG)


def test_closed_token_and_token_in_the_environment_pass(config, monkeypatch):
    path = write_token(config, 0o600)
    check_token(SLUG)
    path.unlink()
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    check_token(SLUG)


def test_user_name_without_key_is_no_token(config, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "u")
    with pytest.raises(DatasetError, match="no Kaggle token"):
        check_token(SLUG)


def test_missing_client_says_how_to_install_it(config, tmp_path, monkeypatch):
    write_token(config, 0o600)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DatasetError, match="pip install kaggle"):
        download(SLUG, tmp_path)


def test_client_is_asked_for_the_whole_competition(config, client, tmp_path):
    write_token(config, 0o600)
    client.write_text("from sys import argv; open(f'{argv[6]}/{argv[4]}.zip', 'w').write(' '.join(argv[1:]))")
    path = download(SLUG, tmp_path / "in put")
    assert path == tmp_path / "in put" / f"{SLUG}.zip"
    assert path.read_text() == f"competitions download -c {SLUG} -p {tmp_path / 'in put'}"


@pytest.mark.parametrize("status", [0, 1])
def test_output_of_a_failing_client_is_shown_with_the_steps(config, client, tmp_path, status):
    write_token(config, 0o600)
    client.write_text(f"import sys; print('403 Forbidden'); sys.exit({status})")
    with pytest.raises(DatasetError, match=r"(?s)403 Forbidden.*accept the rules"):
        download(SLUG, tmp_path)


def make_zip(folder: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return folder / "files.zip"


def test_members_are_unpacked_with_their_folders(tmp_path):
    unpack(make_zip(tmp_path, {"a/one.txt": b"1", "two.txt": b"22"}), tmp_path / "out")
    assert (tmp_path / "out" / "a" / "one.txt").read_bytes() == b"1"
    assert (tmp_path / "out" / "two.txt").read_bytes() == b"22"


@pytest.mark.parametrize(
    "member", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_member_that_leaves_the_folder_is_refused_before_any_is_written(tmp_path, member):
    archive = make_zip(tmp_path, {"good.txt": b"1", member: b"2"})
    with pytest.raises(DatasetError, match=re.escape(repr(member)) + ".*outside"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil.txt").exists()


def test_member_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.txt", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", b"2")
    with pytest.raises(DatasetError, match=r"'a\.txt' is there twice"):
        unpack(tmp_path / "twice.zip", tmp_path / "out")


@pytest.mark.parametrize("kept", [0, 10, 60])
def test_truncated_zip_says_to_download_again(tmp_path, kept):
    archive = make_zip(tmp_path, {"train.csv": b"x" * 1000})
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=r"files\.zip: not a whole zip file .*download it again"):
        unpack(archive, tmp_path / "out")


def test_flipped_byte_is_found_by_its_checksum(tmp_path):
    archive = make_zip(tmp_path, {"train.csv": bytes(range(256)) * 40})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match="download it again"):
        unpack(archive, tmp_path / "out")


def test_full_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    archive = make_zip(tmp_path, {"train.csv": b"x" * 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 999))
    with pytest.raises(DatasetError, match="unpacks to"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("member", ["a\nb.txt", "a\x1b[31m.txt", "a\u2028.txt"])
def test_a_member_that_no_file_can_be_called_by_is_refused(tmp_path, member):
    with pytest.raises(DatasetError, match="has no name that a file can have") as error:
        unpack(make_zip(tmp_path, {member: b"1"}), tmp_path / "out")
    assert str(error.value).isprintable()
    assert not (tmp_path / "out").exists()


def test_a_member_without_a_name_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"member '\.' would be written outside its folder"):
        unpack(make_zip(tmp_path, {".": b"1", "b": b"2"}), tmp_path / "out")


def test_members_that_differ_in_the_case_of_letters_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"'b/A\.PNG' is there twice, as 'b/a\.png': the case of letters"):
        unpack(make_zip(tmp_path, {"b/a.png": b"1", "b/A.PNG": b"2"}), tmp_path / "out")


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"files\.zip: cannot be unpacked: .*out/a"):
        unpack(make_zip(tmp_path, {"a": b"1", "a/b": b"2"}), tmp_path / "out")


def test_an_encrypted_member_is_refused(tmp_path):
    archive = make_zip(tmp_path, {"train.csv": b"x" * 1000})
    data = bytearray(archive.read_bytes())
    for place in (6, data.index(b"PK\x01\x02") + 8):  # the flags, in both headers
        data[place] |= 1
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"'train\.csv' is encrypted: unpack it with its password first"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_method_that_is_unknown_is_refused(tmp_path):
    archive = make_zip(tmp_path, {"train.csv": b"x" * 1000})
    data = bytearray(archive.read_bytes())
    for place in (8, data.index(b"PK\x01\x02") + 10):
        data[place] = 77
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"not a whole zip file .*compression method"):
        unpack(archive, tmp_path / "out")


def test_a_bomb_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    archive = make_zip(tmp_path, {"train.csv": bytes(1_000_000)})
    unpack(archive, tmp_path / "small")  # of 1 MB: whatever its share
    monkeypatch.setattr("defectmill.datasets.download.BOMB", 900_000)
    with pytest.raises(DatasetError, match=r"says it unpacks to 0\.0 GB, over 200 times its size"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pipe_is_no_zip(tmp_path):
    os.mkfifo(tmp_path / "files.zip")
    with pytest.raises(DefectmillError, match=r"files\.zip: cannot be read \(it is a pipe or device\)"):
        unpack(tmp_path / "files.zip", tmp_path / "out")
