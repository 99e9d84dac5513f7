"""The rules of the house that can be read off its files."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from defectmill.files import ROOT

SOURCE = ROOT / "src" / "defectmill"
ON_KAGGLE = sorted((SOURCE / "kaggle").glob("*.ipynb"))
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *ON_KAGGLE]
PACKAGES = [
    "formats",
    "datasets",
    "curation",
    "models",
    "training",
    "prediction",
    "evaluation",
    "products",
    "viz",
    "running",
    "kaggle",
    "export",
]
HEAVY = ["defectmill.export", "defectmill.models", "defectmill.training", "defectmill.prediction.inference"]
LINUX = {
    "sys_platform": "linux",
    "os_name": "posix",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


def light_modules() -> list[str]:
    """All modules but those that make or run a network."""
    names = (".".join(p.relative_to(ROOT / "src").with_suffix("").parts) for p in SOURCE.rglob("*.py"))
    return sorted(n.removesuffix(".__init__") for n in names if not n.startswith(tuple(HEAVY)))


def test_looking_at_data_never_loads_tensorflow_or_keras():
    assert len(light_modules()) > 30
    code = (
        "import importlib, sys\n"
        f"for name in {light_modules()}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'tensorflow', 'keras', 'torch', 'jax'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_house_has_twelve_packages_of_at_most_eight_files_and_twelve_modules_in_the_root():
    assert sorted(p.parent.name for p in SOURCE.glob("*/__init__.py")) == sorted(PACKAGES)
    assert len(list(SOURCE.glob("*.py"))) <= 12
    assert {p: n for p in PACKAGES if (n := len([*(SOURCE / p).glob("[!_]*.py")])) > 8} == {}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_module_has_at_most_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


def test_tests_stand_where_the_code_stands():
    tests = [p.relative_to(ROOT / "tests") for p in (ROOT / "tests").glob("*/test_*.py")]
    known = {p.relative_to(SOURCE) for p in SOURCE.rglob("*.py")}
    named = {(test.parent / test.name.removeprefix("test_"), test) for test in tests}
    strays = [str(test) for module, test in named if module not in known and not is_package(module)]
    assert strays == []


def is_package(module: Path) -> bool:
    """A test of a package as a whole bears its name: models/test_models.py, datasets/test_sample.py."""
    inner = SOURCE / module.parent / module.stem
    return module.stem == module.parent.name or (inner / "__init__.py").is_file()


def cells_of(path: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def test_there_are_notebooks_to_check():
    assert {p.name[:2] for p in NOTEBOOKS} >= {"01", "02", "03", "04", "05", "06"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_committed_without_output(path):
    for cell in cells_of(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_defines_nothing(path):
    defined = [
        node.name
        for cell in cells_of(path, "code")
        for node in ast.walk(ast.parse("".join(cell["source"])))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert defined == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_holds_at_most_130_code_lines_and_12_a_cell(path):
    cells = ["".join(cell["source"]) for cell in cells_of(path, "code")]
    lengths = [len([line for line in cell.splitlines() if line.strip()]) for cell in cells]
    assert sum(lengths) <= 130
    assert max(lengths) <= 12


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_table_with_a_style_shows_names_as_text(path):
    """pandas puts what a styled table holds into the page as it stands."""
    cells = ["".join(cell["source"]) for cell in cells_of(path, "code")]
    assert [cell for cell in cells if ".style." in cell and 'escape="html"' not in cell] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_headings_are_questions(path):
    lines = "".join("".join(cell["source"]) + "\n" for cell in cells_of(path, "markdown")).splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert len(headings) >= 4
    assert [h for h in headings if not h.endswith("?")] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_machine_without_the_package_is_told_how_to_install_it(path, tmp_path):
    cells = ["".join(cell["source"]) for cell in cells_of(path, "code")]
    code = "import sys\nsys.modules['defectmill'] = None\n" + cells[0] + "\n" + cells[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "make lab" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_parameters_come_first_and_are_the_house_s_two_and_the_folders_of_06(path):
    tagged = [c for c in cells_of(path, "code") if "parameters" in c["metadata"].get("tags", [])]
    assert tagged == cells_of(path, "code")[:1]
    lines = "".join(tagged[0]["source"]).splitlines()
    if path in ON_KAGGLE:
        assert [line.partition(" = ")[0] for line in lines] == ["seconds", "working"]
        return
    assert lines[:2] == ['experiment = "sample"', "overrides = {}"]
    more = ["images", "out"] if path.stem == "06_infer" else []
    assert [line.partition(" = ")[0] for line in lines[2:]] == more


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_says_what_it_reads_and_writes(path):
    title = "".join(cells_of(path, "markdown")[0]["source"])
    assert title.startswith("# ")
    assert "Reads `" in title
    assert "Writes `" in title


def direct_dependencies() -> dict[str, Requirement]:
    """By name, those of pyproject.toml and its dev extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {canonicalize_name(r.name): r for r in map(Requirement, listed)}


@cache
def lock_lines() -> list[tuple[Requirement, int]]:
    """Requirement and number of hashes of each entry of requirements.lock."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(Requirement(n.split("--hash")[0].strip()), n.count("--hash=sha256:")) for n in lines]


def locked(python: str) -> dict[str, list[str]]:
    """Versions by name that the lock gives one Python on Linux."""
    environment = {**LINUX, "python_version": python, "python_full_version": f"{python}.0"}
    versions: dict[str, list[str]] = {}
    for requirement, _ in lock_lines():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            versions.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    return versions


def test_every_locked_package_has_a_hash():
    assert [r.name for r, hashes in lock_lines() if not hashes] == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_gives_every_python_one_version_of_each_package(python):
    assert {name: v for name, v in locked(python).items() if len(v) != 1} == {}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_satisfies_pyproject(python):
    versions = locked(python)
    for name, requirement in direct_dependencies().items():
        assert requirement.specifier.contains(versions[name][0]), name


def test_conda_environment_pins_what_the_lock_pins():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, pins = conda["dependencies"]
    assert (python, pip, pins["pip"][-1]) == ("python=3.12", "pip", "-e .")
    versions = locked("3.12")
    expected = [f"{name}=={versions[name][0]}" for name in sorted(direct_dependencies())]
    assert pins["pip"][:-1] == expected


def test_help_tells_every_target_whole():
    text = (ROOT / "Makefile").read_text()
    told = re.findall(r"^## ([a-z-]+): (.+)$", text, flags=re.M)
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert [(name, what) for _, name, what in lines] == told
    phony = set(re.search(r"^\.PHONY: (.+)$", text, flags=re.M)[1].split())
    assert {name for name, _ in told} == phony - {"FORCE"}
