"""Kaggle: download a competition's files with Kaggle's own client."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

STEPS = """\
To download from Kaggle:
  1. make an account at https://www.kaggle.com
  2. accept the rules at https://www.kaggle.com/competitions/{slug}/rules
  3. under Settings, API, create a token and save it as {token}
  4. {python} -m pip install kaggle
Or download the zip in a browser and say where it is: make input DATASET=... RAW=<zip or folder>"""


class KaggleError(RuntimeError):
    """Kaggle's files cannot be had: why, and what to do."""


def config_folder() -> Path:
    """Where Kaggle's client looks for its token."""
    return Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle").expanduser()


def check_token(slug: str) -> None:
    """Make sure that there is a token, and that nobody else can read it.

    Raises:
        KaggleError: no token, or a token file that others can read.
    """
    if os.environ.get("KAGGLE_API_TOKEN") or (
        os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY")
    ):
        return
    files = [config_folder() / name for name in ("kaggle.json", "access_token")]
    present = [path for path in files if path.is_file()]
    if not present:
        steps = STEPS.format(slug=slug, token=files[0], python=sys.executable)
        raise KaggleError(f"no Kaggle token: neither {files[0]} nor KAGGLE_API_TOKEN\n{steps}")
    for path in present:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KaggleError(
                f"{path}: others on this machine can read your token; "
                f"close it first: chmod 600 {path}"
            )


def download(slug: str, folder: Path) -> Path:
    """Download all files of a competition as one zip.

    Args:
        slug: the competition's name in its address.
        folder: where the zip goes.
    Returns:
        The zip.
    Raises:
        KaggleError: no token, no client, or the client failed; with what it said.
    """
    check_token(slug)
    # Beside this Python first: an environment need not be activated.
    client = shutil.which("kaggle", path=Path(sys.executable).parent) or shutil.which("kaggle")
    if not client:
        raise KaggleError(f"Kaggle's client is missing: {sys.executable} -m pip install kaggle")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [client, "competitions", "download", "-c", slug, "-p", folder],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    target = folder / f"{slug}.zip"
    if done.returncode or not target.is_file():
        steps = STEPS.format(slug=slug, token=config_folder() / "kaggle.json",
                             python=sys.executable)  # fmt: skip
        raise KaggleError(f"{client}: {done.stdout.strip() or 'wrote no zip'}\n{steps}")
    return target
