"""The Makefile: what changed is made again."""

import ast
import subprocess

import grimp
import pytest

from defectmill.config import ROOT
from test_house import cells_of

PRODUCTS = {
    "01_eda": "output/sample/eda.csv",
    "02_labels": "output/sample/leaks.csv",
    "03_train": "output/sample/model.keras",
    "04_predict": "submissions/sample.csv",
    "05_report": "output/sample/report.html",
}
# The files of knobs stand for the first three; the others only draw what a notebook shows.
STAND_INS = {"config", "catalog", "knobs", "plots", "run_plots", "overlays", "previews"}


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
    for line in lines:
        if isinstance(line, ast.ImportFrom) and line.module == "defectmill":
            found |= {f"defectmill.{alias.name}" for alias in line.names}
        elif isinstance(line, ast.ImportFrom) and line.module.startswith("defectmill."):
            found.add(line.module)
    return found


def reach(start: set[str], onward) -> set[str]:
    seen, ahead = set(), list(start)
    while ahead:
        if (here := ahead.pop()) not in seen:
            seen.add(here)
            ahead.extend(onward(here))
    return seen


@pytest.mark.parametrize("notebook", PRODUCTS)
def test_a_product_is_made_again_when_a_module_it_is_made_by_changes(notebook, imports, rules):
    stand_ins = {f"defectmill.{name}" for name in STAND_INS}
    modules = reach(
        imported_by(notebook) - stand_ins,
        lambda name: imports.find_modules_directly_imported_by(name) - stand_ins,
    )
    files = reach({PRODUCTS[notebook]}, lambda name: rules.get(name, []))
    known = {file.removesuffix(".py").removesuffix("/__init__") for file in files}
    assert len(modules) > 3
    assert {m for m in modules if f"src/{m.replace('.', '/')}" not in known} == set()
