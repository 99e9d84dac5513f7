"""The Makefile: what changed is made again."""

import ast
import os
import shutil
import subprocess
import sys

import grimp
import pytest

from defectmill.files import ROOT
from fake_competition import make_info, write_fake_competition
from fake_raw import add_pair, colour_mask
from test_house import cells_of

PRODUCTS = {
    "01_eda": "output/fake/eda.csv",
    "02_labels": "output/fake/leaks.csv",
    "03_train": "output/fake/networks.json",
    "04_predict": "submissions/fake.csv",
    "05_report": "output/fake/report.html",
}
# The files of settings stand for the first four; what draws what a notebook shows, or notes what it
# wrote, never redoes a step.
STAND_INS = {"config", "settings", "dataset_info", "files", "viz", "products"}
DRAWN = {"01_eda", "05_report"}  # these are made to be looked at


@pytest.fixture(scope="module")
def imports():
    return grimp.build_graph("defectmill", cache_dir=None)


@pytest.fixture(scope="module")
def rules(project):
    """What make holds each file to be made from."""
    told = make(project, "-pn")
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


# In place of Python: a step notes its name and writes what its notebook would, from the files of input/.
STEPS = """#!/bin/sh
o=output/fake
changed() { cmp -s "$1" "$2" || cp "$1" "$2"; }
case "$2 $3" in
  defectmill.products.inputs*|"defectmill input") exec {python} "$@";;
  "defectmill clean"|"defectmill why") exec {python} "$@";;
  "defectmill settings") for s in labels train predict; do echo "$*" | grep -o "$s=.*" > $o/new
    changed $o/new $o/settings/$s.json; done
    printf 'DATASET ?= %s\\nNETWORKS := %s\\n' $4 $o/model.keras > output/$4/settings/experiment.mk; exit;;
  "defectmill train") step=03; cat $o/labels.csv $o/images.csv > $o/new; changed $o/new $o/networks.json
    for f in model.keras history.csv curves.png; do [ -f $o/$f ] || echo > $o/$f; done;;
  "defectmill notebook") step=${4%%_*};;
  *) exit;;
esac
echo $step >> steps.txt
case $step in
  01) echo > $o/eda.csv;;
  02) touch $o/labelled.json; cp input/fake/train.csv $o/new; changed $o/new $o/labels.csv
    ls input/fake/train_images > $o/new; changed $o/new $o/images.csv
    for f in scans.npz audit.csv leaks.csv test_images.csv; do echo > $o/$f; done;;
  04) mkdir -p submissions; echo > submissions/fake.csv
    for f in thresholds.json threshold_search.csv validation.csv evaluation.csv precision_recall.csv \\
      image_curves.csv suspects.csv nested.npy training_statistics.json dataset.json predicted.json
    do echo > $o/$f; done;;
  05) echo > $o/scores.json; echo > $o/report.html;;
esac
case $step in 03) ;; *) mkdir -p $o/notebooks; touch $o/notebooks/$4.json;; esac
"""
PICTURE = "train_images/bar_000.png"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The Makefile over a tiny competition, with steps that take no time."""
    root = tmp_path_factory.mktemp("made")
    for folder in ("src", ".ci"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / "notebooks" / "experiments").mkdir(parents=True)
    for notebook in PRODUCTS:
        (root / "notebooks" / f"{notebook}.ipynb").write_text("{}")
    for name in ("fake", "mine"):
        (root / "notebooks" / "experiments" / f"{name}.yml").write_text(f"dataset: {name}\n")
    write_fake_competition(root / "input" / "fake")
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STEPS.replace("{python}", f"'{sys.executable}'"))
    python.chmod(0o755)
    (root / ".venv" / ".installed").touch()
    make(root)
    return root


def make(project, *words, experiment="fake", succeeds=True):
    """What make says; the steps that it ran are left in steps.txt."""
    (project / "steps.txt").unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", *words, f"EXPERIMENT={experiment}"],
        cwd=project,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return done.stdout + done.stderr


def steps_of(project) -> str:
    """The steps that make runs now, such as "01 02"; then it has nothing left to do."""
    make(project)
    log = project / "steps.txt"
    steps = log.read_text().split() if log.is_file() else []
    make(project)
    assert not log.is_file(), log.read_text()
    return " ".join(steps)


def edit(path, text="\n"):
    with path.open("a") as file:
        file.write(text)


def test_nothing_is_made_twice(project):
    assert steps_of(project) == ""


@pytest.mark.parametrize(
    "name",
    [
        "train.csv",
        PICTURE,
        "test_images/bar_012.png",
        "solution.csv",
        "sample_submission.csv",
        "dataset.json",
    ],
)
def test_a_part_of_the_input_that_is_touched_but_says_the_same_redoes_nothing(project, name):
    os.utime(project / "input" / "fake" / name)
    assert steps_of(project) == ""


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("train.csv", "01 02 03 04 05"),
        ("dataset.json", "01 02 03 04 05"),
        (PICTURE, "01 02 03 05"),  # whether a network learns anew is decided by hashes
        ("test_images/bar_012.png", "02 03 04 05"),
        ("sample_submission.csv", "02 04 05"),
        ("solution.csv", "02 03 05"),
    ],
)
def test_an_edited_part_of_the_input_redoes_what_depends_on_it(project, name, steps):
    edit(project / "input" / "fake" / name)
    assert steps_of(project) == steps


def test_a_picture_that_is_added_removed_or_replaced_by_a_copy_of_the_same_size_and_time_is_noticed(project):
    first = project / "input" / "fake" / PICTURE
    new, test = first.with_name("bar_100.png"), project / "input" / "fake" / "test_images" / "bar_100.png"
    shutil.copy2(first, new)
    assert steps_of(project) == "01 02 03 04 05"
    status, content = new.stat(), bytearray(new.read_bytes())
    content[-1] ^= 1
    new.write_bytes(content)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert steps_of(project) == "01 02 03 05"
    new.unlink()
    assert steps_of(project) == "01 02 03 04 05"
    shutil.copy2(first, test)
    assert steps_of(project) == "02 03 04 05"
    test.unlink()
    assert steps_of(project) == "02 03 04 05"


def test_a_hidden_file_beside_the_pictures_is_no_picture(project):
    (project / "input" / "fake" / "train_images" / ".DS_Store").write_text("of the system")
    assert steps_of(project) == ""


def test_a_solution_that_comes_or_goes_counts_for_the_predictions_too(project):
    solution = project / "input" / "fake" / "solution.csv"
    whole = solution.read_text()
    solution.unlink()
    assert steps_of(project) == "02 03 04 05"
    solution.write_text(whole)
    assert steps_of(project) == "02 03 04 05"


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("eda.csv", "01"),
        ("scans.npz", "02 05"),
        ("leaks.csv", "02 05"),
        ("labelled.json", "02 05"),
        ("images.csv", "02 03 05"),
        ("networks.json", "03 04 05"),
        ("history.csv", "03"),  # nothing is predicted by it
        ("curves.png", "03"),
        ("thresholds.json", "04 05"),
        ("predicted.json", "04 05"),
        ("scores.json", "05"),
        ("report.html", "05"),
    ],
)
def test_a_product_that_was_deleted_is_made_again(project, name, steps):
    (project / "output" / "fake" / name).unlink()
    assert steps_of(project) == steps


def test_a_wrong_setting_leaves_the_settings_of_the_last_run(project):
    python = project / ".venv" / "bin" / "python"
    right = python.read_text()
    python.write_text(right.replace('"defectmill settings")', '"defectmill settings") exit 1;;\n  never)'))
    make(project, "SET=training.epoch=3", succeeds=False)
    python.write_text(right)
    assert steps_of(project) == ""


@pytest.fixture
def mine(project):
    """Raw images with masks in one colour, and the description of a dataset made from them."""
    folder = project / "input" / "mine"
    for path in (folder, project / "raw", project / "raw 2"):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir()
    (folder / "info.json").write_text(make_info("mine").model_dump_json())
    for number in range(10):
        add_pair(project / "raw", f"{number}.png", colour_mask((250, 200, 40)), number)
    make(project, "input", "RAW=raw", experiment="mine")
    return folder


def is_made_anew(project, *words) -> bool:
    table = project / "input" / "mine" / "dataset.json"
    before = table.stat().st_mtime_ns
    make(project, "input", *words, experiment="mine")
    return table.stat().st_mtime_ns > before


def test_raw_files_that_changed_and_another_raw_make_the_dataset_anew(project, mine):
    assert not is_made_anew(project, "RAW=raw")
    os.utime(project / "raw" / "images" / "3.png")
    assert not is_made_anew(project, "RAW=raw")
    add_pair(project / "raw", "10.png", colour_mask((250, 200, 40)), 10)
    assert not is_made_anew(project)  # nothing is checked where no RAW is given
    assert is_made_anew(project, "RAW=raw")
    shutil.copytree(project / "raw", project / "raw 2")
    (project / "raw 2" / "images" / "3.png").unlink()
    (project / "raw 2" / "masks" / "3.png").unlink()
    assert is_made_anew(project, "RAW=raw 2")
    assert len(list(mine.glob("*_images/*.png"))) == 10


def test_a_folder_of_raw_that_does_not_exist_is_an_error_though_the_dataset_is_there(project, mine):
    said = make(project, "input", "RAW=raw:no-such", experiment="mine", succeeds=False)
    assert "no-such: no such folder" in said
    assert not is_made_anew(project)


def test_an_edited_description_of_one_s_own_needs_raw_and_is_taken_up(project, mine):
    os.utime(mine / "info.json")
    assert not is_made_anew(project)
    (mine / "info.json").write_text(make_info("mine").model_copy(update={"title": "Bars"}).model_dump_json())
    said = make(project, "input", experiment="mine", succeeds=False)
    assert "input/mine/info.json: edited since mine was made: make it anew, with RAW=raw" in said
    assert is_made_anew(project, "RAW=raw")
    assert '"title": "Bars"' in (mine / "dataset.json").read_text()


def test_labels_that_were_mended_by_hand_are_not_written_over(project, mine):
    edit(mine / "train.csv")
    assert not is_made_anew(project, "RAW=raw")
    (project / "raw" / "images" / "README").write_text("new")
    said = make(project, "input", "RAW=raw", experiment="mine", succeeds=False)
    assert "input/mine/train.csv: edited since it was made from RAW=raw; it would be written over" in said


def test_clean_keeps_finished_runs_unless_all_is_to_go(project):
    kept = project / "output" / "fake" / "runs" / "1-a"
    kept.mkdir(parents=True)
    assert "kept: output/fake/runs" in make(project, "clean")
    assert list((project / "output" / "fake").iterdir()) == [kept.parent]
    make(project, "clean", "RUNS=all")
    assert not (project / "output" / "fake").exists()
    assert not (project / "submissions" / "fake.csv").exists()
    make(project, "clean")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("EXPERIMENT=x /tmp y", 'EXPERIMENT="x /tmp y"'),
        ("EXPERIMENT=../..", 'EXPERIMENT="../.."'),
        ("EXPERIMENT=", 'EXPERIMENT=""'),
        ("EXPERIMENT=-rf", 'EXPERIMENT="-rf"'),
        ("EXPERIMENT=.hidden", 'EXPERIMENT=".hidden"'),
        ("EXPERIMENT=a'b", 'EXPERIMENT="a\'b"'),
        ("EXPERIMENT=$(shell touch pwned)", 'EXPERIMENT="$(shell touch pwned)"'),
        ("NAME=a/b", 'NAME="a/b"'),
        ("EXPERIMENTS=good ../bad", 'EXPERIMENTS="../bad"'),
        ("DATASET=a;b", 'dataset="a;b"'),
    ],
)
def test_a_word_that_is_no_name_stops_make_before_any_recipe(word, told):
    done = subprocess.run(
        ["make", "-n", "clean", word], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"{told} is no name: one word of letters" in done.stderr
    assert done.stdout == ""
    assert not (ROOT / "pwned").exists()


def test_a_blank_beside_a_name_is_not_part_of_it():
    told = subprocess.run(
        ["make", "-n", "clean", "EXPERIMENT= sample "], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    assert told.split(" -m ")[1].split() == ["defectmill", "clean", "sample"]


NASTY = "a\"b' $HOME `touch pwned` $(touch pwned);\\ & (x)"


GIVEN = ["IMAGES", "OUT", "RAW", "SET", "FORMAT", "CONFIG", "A", "BUDGET", "OWNER", "ROI"]


@pytest.mark.parametrize("value", GIVEN)
def test_no_shell_reads_what_make_is_given(tmp_path, value):
    """The value reaches the command's environment to the letter, and no word of a recipe."""
    show = f'import os; print(os.environ["DEFECTMILL_{value}"])'
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (tmp_path / "Makefile").write_text(f"{text}\nshow:\n\t@python3 -c '{show}'\n", encoding="utf-8")
    done = subprocess.run(
        ["make", "show", f"{value}={NASTY}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{NASTY}\n", done.stderr
    assert not (tmp_path / "pwned").exists()
