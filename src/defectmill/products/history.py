"""Finished runs of an experiment, kept in output/<experiment>/runs: listed, and brought back.

A run is kept as soon as its report is written, so that another never writes over it. What a step would make
once more of the same settings, code and input is brought back from there: hashes tell, see `provenance`.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from defectmill import files
from defectmill.config import ConfigError, Experiment, flatten, list_experiments, load_experiment
from defectmill.products import provenance
from defectmill.products.inputs import hash_file
from defectmill.products.manifest import LABELLED, PREDICTED, read_note, tell, tell_set

NAME = re.compile(r"(\d+)-[a-z0-9-]+")  # of a kept run's folder
WORDS = {"about", "cost", "score", "name", "variant", "network"}  # settings that make no other run
KEPT = ("04_predict", "05_report")  # and networks, see `stages.train`; the labels are made anew
NETWORK = ("model.keras", "trained.json", "history.csv", "curves.png")  # kept though no note names them
WHOLE = ("run.json", "scores.json", "settings.json")
ASIDE = "runs/networks"  # below output/<experiment>: networks that were replaced before a run was kept
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
        pairs = tell_set(self.difference)
        since = f"; made with another {', '.join(self.changed)}" if self.changed else ""
        return (pairs or "as in the experiment's file") + since


def stands(run: Experiment, name: str, made_from: str) -> bool:
    """Whether a notebook's products are all there, of the same, and by make: none is newer than the note."""
    path = run.output / "notebooks" / f"{name}.json"
    if read_note(path).get("made_from") != made_from:
        return False
    made = path.stat().st_mtime_ns
    return all(p.is_file() and p.stat().st_mtime_ns <= made for p in list_products(run, name))


def list_products(run: Experiment, name: str) -> list[Path]:
    """The files that 01, 02, 04 or 05 last wrote, by make's note of it and the notebook's own."""
    note = read_note(run.output / "notebooks" / f"{name}.json").get("products", [])
    own = read_note(run.output / {"02_labels": LABELLED, "04_predict": PREDICTED}.get(name, "none"))
    names = dict.fromkeys([*note, *(n for n, digest in own.get("products", {}).items() if digest)])
    paths = [run.output / n for n in names if n != "submission"]
    return [*paths, run.submission] if name == "04_predict" else paths


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
    found = find_kept(run, name, made_from)
    if not found:
        return False
    kept, path, sources = found
    if name == "03_train":
        set_aside(run)
    for top in {product.partition("/")[0] for product in sources if "/" in product}:
        shutil.rmtree(home / top, ignore_errors=True)
    (home / "checkpoint.keras").unlink(missing_ok=True)  # of a training that was stopped
    for product in sorted(sources, key=LAST.__contains__):
        place(sources[product], home / product)
    if name == "04_predict":
        place(kept / "submission.csv", run.submission)
    for suffix in (".ipynb", ".json"):
        if path.with_suffix(suffix).is_file():
            place(path.with_suffix(suffix), run.output / "notebooks" / f"{step}{suffix}")
    print(f"{step} {run.name}: the same as in run {kept.name}, brought back", flush=True)
    return True


def find_kept(run: Experiment, name: str, made_from: str) -> tuple[Path, Path, dict[str, Path]] | None:
    """Find the last kept run, or network set aside, that made a notebook's products of the same.

    Returns:
        Its folder, the notebook's note in it, and {product: file}; None where there is none.
    """
    for kept in reversed([*(run.output / ASIDE).glob("*"), *list_kept(run.output)]):
        for path in sorted(kept.glob(f"notebooks/{name}*.json")):
            note = read_note(path)
            sources = {product: kept / note["folder"] / product for product in note["products"]}
            if note.get("made_from") == made_from and all(source.is_file() for source in sources.values()):
                return kept, path, sources
    return None


def set_aside(run: Experiment) -> None:
    """Keep the network of `run.network`, which is about to be replaced, unless a kept run has it."""
    model = run.training_folder / "model.keras"
    digest = hash_file(model)
    same_size = (p for p in run.output.glob("runs/**/*.keras") if p.stat().st_size == model.stat().st_size)
    if not digest or any(hash_file(path) == digest for path in same_size):
        return
    folder = run.output / ASIDE / digest[:12]
    with files.write_atomically(folder) as part:
        _keep_step(run, provenance.step_of(run), run.training_folder, part)
    print(f"  the network of before is kept: {folder.relative_to(files.ROOT)}; its settings bring it back")


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
    for step, home in {**homes, **dict.fromkeys(KEPT, run.output)}.items():
        _keep_step(run, step, home, target)
    place(run.output / "networks.json", target / "networks.json")
    place(run.submission, target / "submission.csv")


def _keep_step(run: Experiment, step: str, home: Path, target: Path) -> None:
    """Copy a step's products, with its executed notebook and what they came from, to the folder of a run."""
    path = run.output / "notebooks" / f"{step}.json"
    note: dict[str, Any] = {"seconds": 0, "products": [*NETWORK] if step.startswith("03") else []}
    note |= read_note(path)
    products = [product for product in note["products"] if (home / product).is_file()]
    # What somebody wrote in a live notebook is not what make asked for.
    outputs = [home / p for p in products] + [run.submission] * (step == "04_predict")
    if not path.is_file() or any(o.stat().st_mtime > path.stat().st_mtime for o in outputs):
        note["made_from"] = ""
    folder = home.relative_to(run.output).as_posix()
    for product in products:
        place(home / product, target / folder / product)
    (target / "notebooks").mkdir(parents=True, exist_ok=True)
    if path.with_suffix(".ipynb").is_file():
        place(path.with_suffix(".ipynb"), target / "notebooks" / f"{step}.ipynb")
    note |= {"folder": folder, "products": products}
    (target / "notebooks" / f"{step}.json").write_text(json.dumps(note) + "\n")


def place(source: Path, target: Path) -> None:
    """Put a file in another place: a network, which is never written to, as a link, all else as a copy."""
    with files.write_atomically(target) as part:
        if source.suffix == ".keras":
            try:
                os.link(source, part)
                return
            except OSError:  # a file system without links, or another disk
                pass
        shutil.copyfile(source, part)


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
    words = "-".join(f"{key.rpartition('.')[2]}-{tell(value)}" for key, value in difference.items())
    return re.sub(r"[^a-z0-9]+", "-", words.lower())[:40].strip("-") or "as-the-file"
