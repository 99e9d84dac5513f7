"""The package as it is installed from its wheel, in an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from defectmill.files import ROOT
from defectmill.kaggle.wheel import build_wheel


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What pip makes of the wheel, which is pure Python: its files in a folder of packages."""
    folder = tmp_path_factory.mktemp("site")
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(site, cwd, *words, **environment) -> str:
    kept = {k: v for k, v in os.environ.items() if k != "DEFECTMILL_HOME"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(site), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TELL = """
from defectmill import dataset_info, files
from defectmill.config import list_experiments, load_experiment
from defectmill.evaluation.report import load_template
run = load_experiment("sample")
print(len(list_experiments()), sorted(dataset_info.builtin_datasets()), load_template("site.html.j2").name)
print(files.ROOT, run.input, files.PACKAGE.parent, files.find_own("03_train.ipynb").is_file(), sep="\\n")
"""


def test_experiments_datasets_templates_and_notebooks_travel_in_the_wheel(site, tmp_path):
    counts, root, source, package, has_notebook = run(site, tmp_path, "-c", TELL).splitlines()
    n_experiments = len([*(ROOT / "notebooks" / "experiments").glob("*.yml")])
    datasets = sorted(path.stem for path in (ROOT / "src/defectmill/dataset_infos").glob("*.yml"))
    assert counts == f"{n_experiments} {datasets} site.html.j2"
    assert (root, source) == (str(tmp_path), str(tmp_path / "input" / "sample"))
    assert (package, has_notebook) == (str(site), "True")


def test_no_file_of_the_package_stays_behind(site):
    package = ROOT / "src" / "defectmill"
    kept = {
        p.relative_to(package) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    kept |= {
        Path("notebooks") / p.relative_to(ROOT / "notebooks")
        for p in (ROOT / "notebooks").rglob("*")
        if p.suffix in (".ipynb", ".yml") and ".ipynb_checkpoints" not in p.parts
    }
    home = site / "defectmill"
    assert {p.relative_to(home) for p in home.rglob("*") if p.is_file()} >= kept


def test_the_project_is_the_folder_that_the_environment_names(site, tmp_path):
    home = tmp_path / "my project"
    (home / "notebooks" / "experiments").mkdir(parents=True)
    (home / "notebooks" / "experiments" / "own.yml").write_text("dataset: sample\n")
    code = "from defectmill.config import load_experiment as load\n"
    code += "print(load('own').output, load('crack').output, sep='\\n')"
    told = run(site, tmp_path, "-c", code, DEFECTMILL_HOME=str(home))
    assert told.splitlines() == [str(home / "output" / "own"), str(home / "output" / "crack")]


def test_a_dataset_is_made_and_a_notebook_run_in_the_current_folder(site, tmp_path):
    run(site, tmp_path, "-m", "defectmill", "input", "sample")
    assert (tmp_path / "input" / "sample" / "train.csv").is_file()
    told = run(site, tmp_path, "-m", "defectmill", "notebook", "01_eda", "sample")
    assert "output/sample/eda.csv" in told
    assert (tmp_path / "output" / "sample" / "eda.csv").is_file()
