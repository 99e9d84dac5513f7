"""Exports: folders that find defects without this package, compared with it before they get their names."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.export import bundle, graphs, parity
from defectmill.labels import draw_runs, runs_by_image
from defectmill.models import load_networks
from defectmill.prediction import line
from defectmill.prediction.inspection import check_model
from defectmill.prediction.postprocess import ClassThreshold
from defectmill.prediction.thresholds import read_thresholds
from defectmill.products.provenance import describe_machine
from defectmill.split import Split, load_split

GOLDEN = 4  # pictures with a defect, and one without
COMPARED = 100  # pictures at most
SECONDS = 240  # that comparing may take; fewer pictures are compared where it takes longer
SAMPLES = 32  # inputs of a network on which int8 is calibrated


@dataclass
class Work:
    """What all exports of one call share."""

    run: Experiment
    networks: list[tuple[Experiment, keras.Model]]
    thresholds: list[ClassThreshold]
    split: Split
    golden: list[str] = field(default_factory=list)

    @property
    def images(self) -> Path:
        return self.split.folder


def parse_choice(text: str, known: Sequence[str], what: str) -> list[str]:
    """Read one or several of the known words, parted by commas or spaces; ConfigError for another."""
    words = list(dict.fromkeys(text.replace(",", " ").split()))
    if not words or set(words) - set(known):
        raise ConfigError(f"{what}={text}: say one or more of {', '.join(known)}")
    return words


def export(run: Experiment, formats: str, precisions: str = "", out: str = "") -> list[Path]:
    """Write an experiment's networks, those of `make infer`, as folders for other runtimes.

    Args:
        formats: onnx, openvino, litert. precisions: float (if empty), int8; one or several of each.
        out: the folder to write, or of several the folder above; else output/<experiment>/export.
    Returns:
        The folders: <format>, and <format>-int8.
    Raises:
        ConfigError: no such format, missing packages, no network, or a folder that holds something else.
        DefectmillError: masks that differ from Keras's in float32.
    """
    kinds = parse_choice(formats, list(graphs.RUNTIMES), "FORMAT")
    exact = parse_choice(precisions or "float", graphs.PRECISIONS, "PRECISION")
    graphs.require_packages(kinds)
    check_model(run)
    pairs = [(kind, precision) for kind in kinds for precision in exact]
    names = {pair: "-".join([pair[0], *["int8"] * (pair[1] == "int8")]) for pair in pairs}
    home = files.ROOT / Path(out).expanduser() if out else run.output / "export"
    alone = bool(out) and len(pairs) == 1
    targets = {names[pair]: bundle.check_target(home if alone else home / names[pair]) for pair in pairs}
    chosen, split = read_thresholds(run.output / "thresholds.json"), load_split(run)
    work = Work(run, load_networks(run, "infer"), chosen, split)
    work.golden = pick_golden(split)
    with ExitStack() as stack:
        parts = {n: stack.enter_context(files.write_atomically(target)) for n, target in targets.items()}
        for pair, name in names.items():
            print(f"export {run.name}: {name}", flush=True)
            write_folder(work, parts[name], *pair)
        found, golden = compare(work, parts)
        refuse_wrong(found)
        for name, part in parts.items():
            bundle.write_golden(part, work.images, golden[parity.KERAS], golden[name])
        tell(work, parts, found, {name: pair for pair, name in names.items()})
    return list(targets.values())


def write_folder(work: Work, folder: Path, kind: str, precision: str) -> None:
    """Write the code and the networks of one export, of `graphs.RUNTIMES` and PRECISIONS."""
    folder.mkdir()
    rows = []
    for number, (part, model) in enumerate(work.networks):
        file = f"network_{number}{graphs.SUFFIXES[kind]}"
        rows.append(bundle.describe_network(part, file))
        samples = list(sample_inputs(work, part, rows[-1])) if precision == "int8" else []
        graphs.write_network(model, folder / file, samples)
    bundle.write_requirements(folder, graphs.RUNTIMES[kind])
    bundle.write_code(folder, kind, bundle.describe_settings(work.run, work.thresholds, rows), work.run)


def sample_inputs(work: Work, part: Experiment, shown: dict[str, Any]) -> Iterator[np.ndarray]:
    """Give SAMPLES inputs of a network, (1, h, w, channels) float32, of training pictures."""
    maps = bundle.load_module(bundle.TEMPLATES / "maps.py")
    pictures = load_split(work.run, part.network).train["ImageId"].drop_duplicates()
    folder = work.split.folder if part.network != "last" else work.run.input
    inputs: list[np.ndarray] = []

    def keep(shown: np.ndarray) -> np.ndarray:
        inputs.append(shown)
        return np.zeros((*shown.shape[:3], len(work.thresholds) + 1), np.float32)

    rng = np.random.default_rng(0)
    for name in rng.permutation(pictures)[:SAMPLES]:
        inputs.clear()
        maps.predict(keep, maps.read_picture(folder / name, shown["channels"], part.info.bits), shown)
        yield inputs[rng.integers(len(inputs))]


def pick_golden(split: Split) -> list[str]:
    """Name the golden pictures: of each class, GOLDEN at most, the one with the largest mask; one without."""
    held = split.labels_of(split.validation)
    areas = held.assign(area=held["EncodedPixels"].map(lambda text: sum(map(int, text.split()[1::2]))))
    largest = areas.sort_values("area", ascending=False, kind="stable").drop_duplicates("ClassId")
    defects = largest[largest["area"] > 0]["ImageId"].drop_duplicates()[:GOLDEN]
    clean = areas.groupby("ImageId", sort=False)["area"].sum()
    return [*defects, *clean[clean == 0].index[:1]]


def compare(
    work: Work, folders: dict[str, Path]
) -> tuple[dict[str, parity.Comparison], dict[str, dict[str, np.ndarray]]]:
    """Compare exports with Keras on validation pictures, the golden ones first.

    Returns:
        A comparison of each, and the golden masks of each and of Keras: {export: {picture: (H, W, C)}}.
    """
    everything = work.split.validation["ImageId"].drop_duplicates().tolist()
    others = [name for name in everything if name not in work.golden]
    spread = (
        np.linspace(0, len(others) - 1, min(len(others), COMPARED - len(work.golden))).round().astype(int)
    )
    runs = runs_by_image(work.split.labels)
    codes = {name: bundle.load_code(folder) for name, folder in folders.items()}
    finders = {name: code.Finder(folders[name]) for name, code in codes.items()}
    found = {name: parity.Comparison() for name in folders}
    golden: dict[str, dict[str, np.ndarray]] = {name: {} for name in (parity.KERAS, *folders)}
    start = time.monotonic()
    for image in [*work.golden, *(others[place] for place in spread)]:
        if time.monotonic() - start > SECONDS and image not in work.golden:
            break
        path = work.images / image
        probs, masks = parity.find_by_keras(work.run, work.networks, work.thresholds, path)
        truth = draw_runs(runs[image], probs.shape[:2], work.run.info.n_classes, image)
        truth = line.restrict(truth, work.run.line)
        given = {parity.KERAS: masks}
        for name, code in codes.items():
            theirs = finders[name].probabilities(path)
            given[name] = code.cut_masks(theirs, finders[name].settings)
            found[name].add((probs, theirs), (masks, given[name]), truth)
        if image in work.golden:
            golden |= {name: {**golden[name], image: own} for name, own in given.items()}
    return found, golden


def refuse_wrong(found: dict[str, parity.Comparison]) -> None:
    """Raise DefectmillError where a network in float32 gives other masks than Keras."""
    for name, one in found.items():
        if not name.endswith("int8") and one.share > parity.ALIKE:
            told = (
                f"{100 * one.share:.2f} % of the mask pixels differ from Keras's on {one.pictures} pictures"
            )
            raise files.DefectmillError(f"{name}: {told}, {100 * parity.ALIKE} % may: nothing is written")


def tell(
    work: Work,
    folders: dict[str, Path],
    found: dict[str, parity.Comparison],
    kinds: dict[str, tuple[str, str]],
) -> None:
    """Time all, write parity.json and README.md into each folder, and print the table."""
    timed = [work.images / name for name in work.golden[: parity.TIMED]]
    latency = parity.time_all(work.run, folders, timed)
    best = parity.choose_best(latency["all"], found)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = [(name, latency["one"][name], latency["all"][name]) for name in latency["all"]]
    for name, folder in folders.items():
        report = {
            **found[name].report(),
            "milliseconds": latency,
            "best": best,
            "machine": describe_machine(),
            "rule": f"best: the fastest on all cores of which at most {parity.CLOSE:.0%} of the mask pixels "
            f"differ from Keras's and that loses at most {parity.LOST} Dice",
        }
        (folder / "parity.json").write_text(json.dumps(report, indent=1) + "\n")
        kind, precision = kinds[name]
        about: dict[str, Any] = {
            "experiment": work.run.name,
            "runtime": graphs.RUNTIMES[kind],
            "precision": precision,
        }
        about |= {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "best": best, "cores": cores}
        about |= {"networks": ", ".join(part.network for part, _ in work.networks)}
        bundle.write_readme(folder, {**about, "parity": report, "latency": rows})
    print_table(rows, found, best)


def print_table(rows: Sequence[tuple[str, float, float]], found: dict[str, Any], best: str) -> None:
    """Print milliseconds, how many times as fast as Keras, and what differs, a runtime a line."""
    print(f"{'runtime':14} {'1 thread':>9} {'x':>5} {'all':>8} {'x':>5}", end=" ")
    print(f"{'largest':>8} {'equal':>8} {'pixels':>9} Dice")
    for name, one, every in rows:
        text = f"{name:14} {one:6.0f} ms {rows[0][1] / one:5.2f} {every:5.0f} ms {rows[0][2] / every:5.2f}"
        if name in found:
            mine = found[name]
            loss = "" if mine.dice_loss is None else f"{round(-mine.dice_loss, 4) + 0:+.4f}"
            equal = f"{mine.equal_masks}/{mine.pictures}"
            text += f" {mine.largest_difference:8.1e} {equal:>8} {100 * mine.share:7.3f} % {loss}"
        print(f"{text}{'  best' * (name == best)}", flush=True)
