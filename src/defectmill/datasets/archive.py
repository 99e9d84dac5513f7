"""Zip files: looked through before anything of them is written."""

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from defectmill.datasets.competition import DatasetError


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a folder that need not exist.

    Raises:
        DatasetError: not a whole zip, a damaged member, a member that would leave the folder
            or twice the same one, or too little room on the disk. What it had written by then
            stays: unpack into a folder under a temporary name.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            members = [member for member in source.infolist() if not member.is_dir()]
            _check_names(archive, [member.filename for member in members])
            _check_room(archive, sum(member.file_size for member in members), folder)
            source.extractall(folder, members)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DatasetError(
            f"{archive}: not a whole zip file ({error}); download it again"
        ) from error


def _check_names(archive: Path, names: list[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise DatasetError(f"{archive}: member {name!r} would be written outside its folder")
    if len(set(names)) < len(names):
        raise DatasetError(f"{archive}: member {max(names, key=names.count)!r} is there twice")


def _check_room(archive: Path, wanted: int, folder: Path) -> None:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise DatasetError(
            f"{archive}: unpacks to {wanted / 1e9:.1f} GB; {there} has {free / 1e9:.1f} GB free"
        )
