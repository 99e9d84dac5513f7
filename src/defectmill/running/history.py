"""Finished runs of an experiment, kept in output/<experiment>/runs: listed, and brought back.

A run is kept as soon as its report is written, so that another never writes over it. What a step would make
once more of the same settings, code and input is brought back from there: hashes tell, see `provenance`.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from defectmill import files
from defectmill.config import ConfigError, Experiment, flatten, list_experiments, load_experiment
from defectmill.evaluation import provenance
from defectmill.running.notebooks import run_notebook

NAME = re.compile(r"(\d+)-[a-z0-9-]+")  # of a kept run's folder
WORDS = {"about", "cost", "score", "name", "variant", "network"}  # settings that make no other run
KEPT = ("04_predict", "05_report")  # and networks, see `stages.train`; the labels are made anew
NETWORK = ("model.keras", "trained.json", "history.csv", "curves.png")  # kept though no note names them
WHOLE = ("run.json", "scores.json", "settings.json")
LAST = ("trained.json", "report.html")  # brought back after all else: that they are there says all is


class KeptRun(NamedTuple):
    """A finished run: what it reached, and how it differs from the experiment's file.

    minutes: of all its notebooks. changed: parts of the input that have changed since. curves: its learning
    curves, one picture a network.
    """

    folder: Path
    date: str
    score: float
    micro_dice: float | None
    minutes: int
    difference: dict[str, Any]
    changed: list[str]
    is_current: bool
    curves: list[Path]

    @property
    def said(self) -> str:
        """The settings that differ, as SET takes them, and what changed in the input since."""
        pairs = " ".join(f"{key}={_tell(value)}" for key, value in self.difference.items())
        since = f"; made with another {', '.join(self.changed)}" if self.changed else ""
        return (pairs or "as in the experiment's file") + since


def run_step(name: str, run: Experiment, overrides: dict, sources: Iterable[str]) -> None:
    """Run a notebook, or bring its products back from a kept run that made them of the same.

    Args:
        sources: paths of what make holds its products to be made from.
    """
    made_from = provenance.hash_step(run, sources) if name in KEPT else ""
    if not made_from or not bring_back(run, name, made_from):
        run_notebook(name, run, {"overrides": overrides}, made_from)
    if name == "05_report":
        try:
            keep(run)
        except OSError as error:  # a full disk; the report stands
            print(f"  not kept in output/{run.name}/runs: {error}", flush=True)


def bring_back(run: Experiment, name: str, made_from: str) -> bool:
    """Bring a notebook's products back from the last kept run that made them of the same, and say so.

    Args:
        name: of the notebook; of 03 those of `run.network`.
        made_from: hash of what they come from.
    Returns:
        Whether there was such a run.
    """
    step, home = name, run.output
    if name == "03_train":
        step, home = provenance.step_of(run), run.training_folder
    for kept in reversed(list_kept(run.output)):
        for path in sorted(kept.glob(f"notebooks/{name}*.json")):
            note = json.loads(path.read_text())
            sources = {product: kept / note["folder"] / product for product in note["products"]}
            if note.get("made_from") != made_from or not all(source.is_file() for source in sources.values()):
                continue
            for top in {product.partition("/")[0] for product in sources if "/" in product}:
                shutil.rmtree(home / top, ignore_errors=True)
            (home / "checkpoint.keras").unlink(missing_ok=True)  # of a training that was stopped
            for product in sorted(sources, key=LAST.__contains__):
                _place(sources[product], home / product)
            if name == "04_predict":
                _place(kept / "submission.csv", run.submission)
            for suffix in (".ipynb", ".json"):
                if path.with_suffix(suffix).is_file():
                    _place(path.with_suffix(suffix), run.output / "notebooks" / f"{step}{suffix}")
            print(f"{step} {run.name}: the same as in run {kept.name}, brought back", flush=True)
            return True
    return False


def keep(run: Experiment) -> Path:
    """Keep a finished run in output/<experiment>/runs/<number>-<what differs>, and return the folder.

    The same settings, networks and submission are the same run, which is kept anew: another report.
    """
    settings = run.model_dump(mode="json")
    networks = (run.output / "networks.json").read_bytes()
    told = json.dumps({key: settings[key] for key in settings.keys() - WORDS}, sort_keys=True)
    identity = sha256(b"\n".join((told.encode(), networks, run.submission.read_bytes()))).hexdigest()
    kept = {folder: json.loads((folder / "run.json").read_text()) for folder in list_kept(run.output)}
    folder = next((folder for folder, note in kept.items() if note["identity"] == identity), None)
    difference = find_difference(run.name, settings)
    note: dict[str, Any] = {"identity": identity, "date": datetime.now().isoformat(" ", "minutes")}
    if folder:
        note["date"] = kept[folder]["date"]
    else:
        number = 1 + max(map(_number, _list_folders(run.output)), default=0)
        folder = run.output / "runs" / f"{number}-{_name(difference)}"
    note["seconds"] = sum(used["seconds"] for used in provenance.read_usage(run).values())
    note["inputs"] = _read_inputs(run.output)
    texts = {"settings": settings, "difference": difference, "run": note}
    with files.write_atomically(folder) as part:
        _keep_products(run, part)
        for name, values in texts.items():
            (part / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    files.write_if_changed(run.output / "settings" / "run.txt", folder.name + "\n")
    if folder not in kept:
        print(f"  kept as output/{run.name}/runs/{folder.name}: make runs EXPERIMENT={run.name}", flush=True)
    return folder


def find_difference(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, {dotted name: value}, that differ from those of an experiment's file as it is now."""
    now = flatten(load_experiment(name).model_dump(mode="json", exclude=WORDS))
    then = flatten({key: value for key, value in settings.items() if key not in WORDS})
    return {key: value for key, value in then.items() if key not in now or now[key] != value}


def list_kept(output: Path) -> list[Path]:
    """The folders of kept runs, by number; one that somebody took a part of is none."""
    found = [path for path in _list_folders(output) if all((path / part).is_file() for part in WHOLE)]
    return sorted(found, key=_number)


def read_runs(name: str) -> list[KeptRun]:
    """Read the finished runs of an experiment, by number."""
    output, runs = files.ROOT / "output" / name, []
    for folder in list_kept(output):
        note, scores, settings = (
            json.loads((folder / f"{part}.json").read_text()) for part in ("run", "scores", "settings")
        )
        inputs = _read_inputs(output)
        changed = [part for part in inputs if inputs[part] != note["inputs"].get(part)]
        curves = sorted(folder.rglob("curves.png"), key=lambda path: (len(path.parts), path))
        run = KeptRun(
            folder,
            note["date"],
            scores["score"],
            scores["micro_dice"],
            round(note["seconds"] / 60),
            find_difference(name, settings),
            changed,
            _is_current(output, folder),
            curves,
        )
        runs.append(run)
    return runs


def read_all_runs() -> dict[str, list[KeptRun]]:
    """Read the finished runs of all experiments that have any, by name."""
    names = (name for name in list_experiments() if list_kept(files.ROOT / "output" / name))
    return {name: read_runs(name) for name in names}


def print_runs(name: str) -> None:
    """Print the finished runs of an experiment, by number, with a star before the one that is in output.

    Raises:
        ConfigError: there is none.
    """
    load_experiment(name)
    runs = read_runs(name)
    if not runs:
        raise ConfigError(f"{name} has no finished run here: make EXPERIMENT={name}")
    width = max(len(run.folder.name) for run in runs)
    print(f"  {'run':{width}}  {'date':16}    Dice    score  minutes  settings")
    for run in runs:
        dice = "none" if run.micro_dice is None else f"{run.micro_dice:.3f}"
        values = f"{run.date:16}  {dice:>6}  {run.score:>7.4f}  {run.minutes:>7}  {run.said}"
        print(f"{'*' if run.is_current else ' '} {run.folder.name:{width}}  {values}")
    print(f'A run comes back by its settings: make EXPERIMENT={name} SET="..."')


def _list_folders(output: Path) -> list[Path]:
    return [path for path in output.glob("runs/*") if NAME.fullmatch(path.name)]


def _number(folder: Path) -> int:
    return int(folder.name.partition("-")[0])


def _keep_products(run: Experiment, target: Path) -> None:
    """Copy the products of 03, 04 and 05, with what they came from and their executed notebooks."""
    runs = [run.model_copy(update={"network": name}) for name in (() if run.members else run.networks)]
    homes = {provenance.step_of(one): one.training_folder for one in runs}
    (target / "notebooks").mkdir(parents=True)
    for step, home in {**homes, **dict.fromkeys(KEPT, run.output)}.items():
        path = run.output / "notebooks" / f"{step}.json"
        note: dict[str, Any] = {"seconds": 0, "products": [*NETWORK] if step in homes else []}
        note |= json.loads(path.read_text()) if path.is_file() else {}
        products = [product for product in note["products"] if (home / product).is_file()]
        # What somebody wrote in a live notebook is not what make asked for.
        outputs = [home / p for p in products] + [run.submission] * (step == "04_predict")
        if not path.is_file() or any(o.stat().st_mtime > path.stat().st_mtime for o in outputs):
            note["made_from"] = ""
        folder = home.relative_to(run.output).as_posix()
        for product in products:
            _place(home / product, target / folder / product)
        if path.with_suffix(".ipynb").is_file():
            _place(path.with_suffix(".ipynb"), target / "notebooks" / f"{step}.ipynb")
        note |= {"folder": folder, "products": products}
        (target / "notebooks" / f"{step}.json").write_text(json.dumps(note) + "\n")
    _place(run.output / "networks.json", target / "networks.json")
    _place(run.submission, target / "submission.csv")


def _place(source: Path, target: Path) -> None:
    """Put a file in another place: a network, which is never written to, as a link, all else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if source.suffix == ".keras":
        try:
            os.link(source, target)
            return
        except OSError:  # a file system without links
            pass
    shutil.copyfile(source, target)


def _is_current(output: Path, folder: Path) -> bool:
    """Whether the products in output are those of a kept run."""
    noted = output / "settings" / "run.txt"
    if not noted.is_file() or noted.read_text().strip() != folder.name:
        return False
    pairs = {folder / "submission.csv": files.ROOT / "submissions" / f"{output.name}.csv"}
    for path in (folder / "networks.json", folder / "scores.json", *folder.rglob("trained.json")):
        pairs[path] = output / path.relative_to(folder)
    return all(now.is_file() and now.read_bytes() == then.read_bytes() for then, now in pairs.items())


def _read_inputs(output: Path) -> dict[str, str]:
    """What the input was at the last make: {part: its line}."""
    found = output.glob("settings/inputs/*")
    return {path.name: path.read_text() for path in sorted(found) if path.name != "manifest.json"}


def _name(difference: Mapping[str, Any]) -> str:
    words = "-".join(f"{key.rpartition('.')[2]}-{_tell(value)}" for key, value in difference.items())
    return re.sub(r"[^a-z0-9]+", "-", words.lower())[:40].strip("-") or "as-the-file"


def _tell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
