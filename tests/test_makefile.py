"""The Makefile: what changed is made again."""

import ast
import subprocess

import grimp
import pytest

from defectmill.files import ROOT
from test_house import cells_of

PRODUCTS = {
    "01_eda": "output/sample/eda.csv",
    "02_labels": "output/sample/leaks.csv",
    "03_train": "output/sample/networks.json",
    "04_predict": "submissions/sample.csv",
    "05_report": "output/sample/report.html",
}
# The files of settings stand for the first four; what draws what a notebook shows never redoes a step.
STAND_INS = {"config", "settings", "dataset_info", "files", "viz"}
DRAWN = {"01_eda", "05_report"}  # these are made to be looked at


@pytest.fixture(scope="module")
def imports():
    return grimp.build_graph("defectmill", cache_dir=None)


@pytest.fixture(scope="module")
def rules():
    """What make holds each file to be made from."""
    told = subprocess.run(
        ["make", "-pn", "EXPERIMENT=sample"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    lines = (line.partition(":") for line in told.splitlines() if line[:1] not in "#\t ")
    return {target: sources.split() for target, _, sources in lines}


def imported_by(notebook: str) -> set[str]:
    cells = cells_of(ROOT / "notebooks" / f"{notebook}.ipynb", "code")
    lines = [line for cell in cells for line in ast.parse("".join(cell["source"])).body]
    found = set()
    for line in (node for top in lines for node in ast.walk(top) if isinstance(node, ast.ImportFrom)):
        if line.module.startswith("defectmill"):
            found |= {f"{line.module}.{alias.name}" for alias in line.names} | {line.module}
    return {name for name in found if is_module(name)}


def is_module(name: str) -> bool:
    return (ROOT / "src" / f"{name.replace('.', '/')}.py").is_file()


def reach(start: set[str], onward) -> set[str]:
    seen, ahead = set(), list(start)
    while ahead:
        if (here := ahead.pop()) not in seen:
            seen.add(here)
            ahead.extend(onward(here))
    return seen


@pytest.mark.parametrize("notebook", PRODUCTS)
def test_a_product_is_made_again_when_a_module_it_is_made_by_changes(notebook, imports, rules):
    skipped = STAND_INS - ({"viz"} if notebook in DRAWN else set())

    def imported(names: set[str]) -> set[str]:
        return {n for n in names if is_module(n) and n.split(".")[1] not in skipped}

    modules = reach(
        imported(imported_by(notebook)),
        lambda name: imported(imports.find_modules_directly_imported_by(name)),
    )
    files = reach({PRODUCTS[notebook]}, lambda name: rules.get(name, []))
    known = {file.removesuffix(".py") for file in files}
    assert len(modules) > 3
    assert {m for m in modules if f"src/{m.replace('.', '/')}" not in known} == set()
