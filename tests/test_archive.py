"""Zip files, whole, damaged and hostile."""

import re
import shutil
import zipfile

import pytest

from defectmill.datasets.archive import unpack
from defectmill.datasets.competition import DatasetError


@pytest.fixture
def make_zip(tmp_path):
    def make(members: dict[str, bytes], name: str = "files.zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return tmp_path / name

    return make


def test_members_are_unpacked_with_their_folders(make_zip, tmp_path):
    unpack(make_zip({"a/one.txt": b"1", "two.txt": b"22"}), tmp_path / "out")
    assert (tmp_path / "out" / "a" / "one.txt").read_bytes() == b"1"
    assert (tmp_path / "out" / "two.txt").read_bytes() == b"22"


@pytest.mark.parametrize(
    "member", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_member_that_leaves_the_folder_is_refused_before_any_is_written(make_zip, tmp_path, member):
    archive = make_zip({"good.txt": b"1", member: b"2"})
    with pytest.raises(DatasetError, match=re.escape(repr(member)) + ".*outside"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil.txt").exists()


def test_member_that_is_there_twice_is_refused(make_zip, tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.txt", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", b"2")
    with pytest.raises(DatasetError, match=r"'a\.txt' is there twice"):
        unpack(tmp_path / "twice.zip", tmp_path / "out")


@pytest.mark.parametrize("kept", [0, 10, 60])
def test_truncated_zip_says_to_download_again(make_zip, tmp_path, kept):
    archive = make_zip({"train.csv": b"x" * 1000})
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=r"files\.zip: not a whole zip file .*download it again"):
        unpack(archive, tmp_path / "out")


def test_flipped_byte_is_found_by_its_checksum(make_zip, tmp_path):
    archive = make_zip({"train.csv": bytes(range(256)) * 40})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match="download it again"):
        unpack(archive, tmp_path / "out")


def test_full_disk_is_told_before_anything_is_written(make_zip, tmp_path, monkeypatch):
    archive = make_zip({"train.csv": b"x" * 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 999))
    with pytest.raises(DatasetError, match="unpacks to"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
