"""What the experiments reached here, read back from their scores.json: printed, as a page, in the README."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from defectmill import files
from defectmill.config import ConfigError, Experiment, list_experiments, load_experiment
from defectmill.dataset_info import ALL_CLASSES
from defectmill.products.provenance import is_pretrained, judge_training, read_usage

# pandas and Jinja are imported where they are used: `make list` must be quick.
BEGIN, END = "<!-- results: make results -->", "<!-- end of results -->"
PRINTED = {"micro_dice": "micro Dice", "image_recall": "images found", "false_alarm_rate": "false alarms"}


def read_result(name: str) -> dict | None:
    """Read an experiment's scores.json, and by class and metric as `rows`; None where it has not run here.

    Raises:
        ConfigError: an older version wrote it.
    """
    path = files.ROOT / "output" / name / "scores.json"
    if not path.is_file():
        return None
    scores = json.loads(path.read_text())
    if "metrics" not in scores:
        raise ConfigError(f"{path}: an older version wrote it; make report EXPERIMENT={name}")
    return {**scores, "rows": {(row["class"], row["metric"]): row for row in scores["metrics"]}}


def print_summary(name: str) -> None:
    """Print what a run reached, how long it took, where its products are and what to try next.

    Raises:
        ConfigError: it has not run.
    """
    run, result = load_experiment(name), read_result(name)
    if result is None:
        raise ConfigError(f"{name} has not run here: make EXPERIMENT={name}")
    low, high = result["intervals"]["score"]
    shown = f"{result['score']:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low is not None else "")
    print(f"\n{name}: {result['images']} images of the {result['part']}; groups: {result['groups']}")
    print(f"  score {shown}   floor {result['floor']:.4f}   gain {result['gain']:+.4f}")
    for kind in [*run.info.class_names, ALL_CLASSES]:
        values = {title: result["rows"][kind, metric]["value"] for metric, title in PRINTED.items()}
        cells = [f"{title} {'  none' if v is None else f'{v:6.3f}'}" for title, v in values.items()]
        print("  " + "   ".join([*cells, kind]))
    usage = read_usage(run)
    steps = "  ".join(f"{step} {used['seconds']:.0f} s" for step, used in usage.items())
    total, peak = (f(u[k] for u in usage.values()) for f, k in ((sum, "seconds"), (max, "peak_mb")))
    print(f"  {steps}  = {total:.0f} s, peak memory {peak} MB")
    print(f"  {run.submission.relative_to(files.ROOT)}")
    print(f"  {(run.output / 'report.html').relative_to(files.ROOT)}: open it in a browser")
    print(f"Next: make infer EXPERIMENT={name} IMAGES=<folder> OUT=<folder>    masks of your own images")
    if not run.members:
        print(
            f'      make EXPERIMENT={name} SET="training.epochs={2 * run.training.epochs}"    longer training'
        )
    print("      make site, make list    all runs side by side; all experiments")
    for weakness in find_weaknesses(run, result["score"], result["floor"]):
        print(f"WARNING: {weakness}")


def find_weaknesses(run: Experiment, score: float, floor: float) -> list[str]:
    """Say what is weak about a run, the worst first.

    Args:
        score: what it reached.
        floor: what an empty submission reaches on the same images.
    Returns:
        A sentence each: no gain; a class that is never predicted; a network that trained too few steps.
    """
    import pandas as pd

    from defectmill.evaluation.metrics import class_table

    said, path = list[str](), run.output / "evaluation.csv"
    if score <= floor:
        ways = [f"`make plan EXPERIMENT={run.name}` for settings that fit a time", "more training steps"]
        ways += [] if run.members or is_pretrained(run) else ["a pretrained encoder, model.name=encoder_unet"]
        useless = f"finds nothing useful yet: score {score:.4f} is not above {floor:.4f}"
        said.append(f"{useless}, the score of an empty submission; try {', '.join(ways)}")
    if path.is_file():
        # A class may be called NA.
        measured = pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})
        table = class_table(measured, ["precision", "recall"]).drop(index=ALL_CLASSES)
        for kind, recall in table["recall"][table["precision"].isna()].items():
            shown = "and none of them shows it" if pd.isna(recall) else "though they show it"
            said.append(f"{kind} is predicted nowhere in the validation images, {shown}")
    for part in run.load_parts():
        notes = part.output / "networks.json"
        for name, note in (json.loads(notes.read_text()) if notes.is_file() else {}).items():
            doubts = judge_training(part.model_copy(update={"network": name}), note.get("steps", math.inf))
            said += [f"network {name} of {part.name}: {doubt}" for doubt in doubts]
    return said


def print_list() -> None:
    """Print every experiment with dataset, model, cost and its last score here."""
    import pandas as pd

    rows = []
    for name in list_experiments():
        run, result = load_experiment(name), read_result(name)
        here = f"{result['score']:.4f} (floor {result['floor']:.4f})" if result else "not run here"
        here += f"; we got {run.score}" if run.score else ""
        model = f"mean of {', '.join(run.members)}" if run.members else run.model.name
        rows.append((name, run.dataset, model, run.cost, here))
    table = pd.DataFrame(rows, columns=["experiment", "dataset", "model", "cost", "last score"])
    print(table.to_string(index=False))


def write_site(runs: Mapping[str, Sequence[Any]] = MappingProxyType({})) -> Path:
    """Write output/index.html, all experiments side by side; ConfigError where none has run here.

    Args:
        runs: finished runs of experiments by name, as `products.history` reads them; those of an experiment
            that has several are shown side by side, with their curves.
    """
    path = files.ROOT / "output" / "index.html"
    several = {name: runs[name] for name in runs if len(runs[name]) > 1}
    files.write_if_changed(path, _render("site.html.j2", runs=several, top=path.parent))
    return path


def write_readme_table() -> Path:
    """Write the results between the README's two marks; ConfigError where one is missing."""
    readme = files.ROOT / "README.md"
    text, table = readme.read_text(), _render("results.md.j2")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ConfigError(f"{readme}: needs the marks {BEGIN!r} and {END!r} once each")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    files.write_if_changed(readme, f"{head}{BEGIN}\n{table}\n{END}{tail}")
    return readme


def _render(template: str, **values: Any) -> str:
    """Fill a template with what every experiment reached here, largest gain over its floor first."""
    from defectmill.evaluation.report import load_template

    rows = []
    for name in list_experiments():
        if result := read_result(name):
            run = load_experiment(name)
            total = {metric: row for (kind, metric), row in result["rows"].items() if kind == ALL_CLASSES}
            seconds = sum(used["seconds"] for used in read_usage(run).values())
            rows.append({"run": run, "result": result, "total": total, "minutes": round(seconds / 60)})
    if not rows:
        raise ConfigError("no experiment was run here yet: make EXPERIMENT=sample")
    rows.sort(key=lambda row: -row["result"]["gain"])
    return load_template(template).render(rows=rows, **values)
