"""The package as a wheel, of this checkout; and other packages, as they are installed here."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from defectmill import files
from defectmill.files import DefectmillError

BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "src")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def build_wheel(folder: Path) -> Path:
    """Build the wheel of the code that runs, with notebooks and experiments, and give its path in `folder`.

    It is built from a copy, so that nothing is left in the checkout.

    Raises:
        DefectmillError: the code is of no checkout (it was installed from a wheel), or setuptools fails.
    """
    checkout = files.PACKAGE.parents[1]
    if not (checkout / "pyproject.toml").is_file():
        raise DefectmillError(f"{files.PACKAGE}: a wheel is built in a clone of the project; make one")
    with TemporaryDirectory() as spare:
        for name in BUILT_FROM:
            if (checkout / name).is_dir():
                left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
                shutil.copytree(checkout / name, Path(spare) / name, ignore=left_out)
            else:
                shutil.copy2(checkout / name, spare)
        command = [sys.executable, "-c", BUILD, str(folder.resolve())]
        # The archive's times are not those of the clock: the same code gives the same bytes.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1577836800"}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            command, cwd=spare, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise DefectmillError(f"{sys.executable}: setuptools builds no wheel: {last}; `make env` installs it")
    return folder / done.stdout.split()[-1]


def repack_installed(name: str, folder: Path) -> Path:
    """Make a wheel in `folder` of a pure Python package that is installed here, and give its path.

    DefectmillError: it is not installed.
    """
    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise DefectmillError(f"{name} is not installed: make env installs it") from error
    target = folder / f"{name.replace('-', '_')}-{package.version}-py3-none-any.whl"
    paths = [path for path in package.files or () if path.suffix != ".pyc" and ".." not in path.parts]
    with zipfile.ZipFile(target, "w") as archive:
        for path in paths:
            if path.name != "RECORD":
                archive.write(path.locate(), str(path))
            else:
                archive.writestr(str(path), "".join(f"{one},,\n" for one in paths))
    return target
