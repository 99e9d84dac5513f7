"""A competition's files from Kaggle, by Kaggle's own client, and zip files unpacked safely."""

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from defectmill.datasets.competition import DatasetError
from defectmill.files import FAILURES, DefectmillError, check_file, explain_failure, is_text

ENCRYPTED = 1  # of a member's flags
BOMB, TIMES = 2e9, 200  # bytes, and times the zip's own size, beyond which it is a bomb
# A token of today, what `kaggle auth login` leaves, and the legacy key.
TOKENS = ("access_token", "credentials.json", "kaggle.json")
STEPS = """\
To reach Kaggle from here:
  1. make an account at https://www.kaggle.com
  2. accept the rules at https://www.kaggle.com/competitions/{slug}/rules
  3. {python} -m pip install kaggle
  4. kaggle auth login; or under Settings, API, create a token and save it as {token},
     closed to others (chmod 600), or give it as KAGGLE_API_TOKEN; the legacy kaggle.json still works
Or download the zip in a browser and say where it is: make input DATASET=... RAW=<zip or folder>"""


def download(slug: str, folder: Path) -> Path:
    """Download all files of a competition, by the name in its address, as one zip into a folder.

    Raises:
        DatasetError: no token, no client, or the client failed; with its output.
    """
    check_token(slug)
    client = find_client()
    folder.mkdir(parents=True, exist_ok=True)
    command = [client, "competitions", "download", "-c", slug, "-p", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    target = folder / f"{slug}.zip"
    if done.returncode or not target.is_file():
        raise DatasetError(f"{client}: {done.stdout.strip() or 'wrote no zip'}\n{_tell_steps(slug)}")
    return target


def find_client() -> str:
    """Path of Kaggle's client, beside this Python first: an environment need not be activated."""
    beside = shutil.which("kaggle", path=str(Path(sys.executable).parent))
    if client := beside or shutil.which("kaggle"):
        return client
    raise DatasetError(f"Kaggle's client is missing: {sys.executable} -m pip install kaggle")


def check_token(slug: str) -> None:
    """Raise DatasetError, with what to do, if there is no token for Kaggle or others can read its file."""
    given = {name for name in ("API_TOKEN", "USERNAME", "KEY") if os.environ.get(f"KAGGLE_{name}")}
    if "API_TOKEN" in given or {"USERNAME", "KEY"} <= given:
        return
    present = [path for name in TOKENS if (path := find_token(name)).is_file()]
    if not present:
        there = f"neither {find_token(TOKENS[0])} nor KAGGLE_API_TOKEN"
        raise DatasetError(f"no Kaggle token: {there}: kaggle auth login makes one\n{_tell_steps(slug)}")
    for path in present:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            way_out = f"close it first: chmod 600 {path}"
            raise DatasetError(f"{path}: others on this machine can read your token; {way_out}")


def find_token(name: str) -> Path:
    """Path that a token's file of this name has, or would have."""
    return Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle").expanduser() / name


def _tell_steps(slug: str) -> str:
    return STEPS.format(slug=slug, token=find_token(TOKENS[0]), python=sys.executable)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a folder that need not exist; names and room are checked before anything is written.

    Raises:
        DatasetError: not a whole zip, a file that is damaged, encrypted, would leave the folder or is there
            twice, a bomb, or too little room on the disk. What had been written by then stays.
    """
    try:
        with zipfile.ZipFile(check_file(archive)) as source:
            members = [member for member in source.infolist() if not member.is_dir()]
            _check_members(archive, members, folder)
            source.extractall(folder, members)
    except OSError as error:
        if error.errno in FAILURES:
            raise
        raise DatasetError(f"{archive}: cannot be unpacked: {explain_failure(error)}") from error
    except DefectmillError:
        raise
    except Exception as error:  # a damaged one raises nearly anything
        raise DatasetError(f"{archive}: not a whole zip file ({error}); download it again") from error


def _check_members(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    seen: dict[str, str] = {}
    for member in members:
        name, path = member.filename, PurePosixPath(member.filename.replace("\\", "/"))
        parts = path.parts or ("..",)
        if path.is_absolute() or ".." in parts or ":" in parts[0]:
            raise DatasetError(f"{archive}: member {name!r} would be written outside its folder")
        if not is_text(name):
            raise DatasetError(f"{archive}: member {name!r} has no name that a file can have")
        if member.flag_bits & ENCRYPTED:
            raise DatasetError(f"{archive}: member {name!r} is encrypted: unpack it with its password first")
        if (key := str(path).casefold()) in seen:
            clash = "" if seen[key] == name else f", as {seen[key]!r}: the case of letters does not count"
            raise DatasetError(f"{archive}: member {name!r} is there twice{clash}")
        seen[key] = name
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    wanted, free = sum(member.file_size for member in members), shutil.disk_usage(there).free
    if wanted > max(BOMB, TIMES * archive.stat().st_size):
        told = f"{wanted / 1e9:.1f} GB, over {TIMES} times its size: it is no set of pictures"
        raise DatasetError(f"{archive}: says it unpacks to {told}; unpack it by hand if it is right")
    if wanted > free:
        room = f"unpacks to {wanted / 1e9:.1f} GB; {there} has {free / 1e9:.1f} GB free"
        raise DatasetError(f"{archive}: {room}")
