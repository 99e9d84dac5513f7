"""Results: what the experiments reached here, read back from scores.json."""

import json

from defectmill.cards import RESERVED
from defectmill.config import ROOT, ConfigError, list_experiments, load_experiment
from defectmill.provenance import read_usage

ALL = RESERVED[0]  # as panel.ALL, without its libraries: make list must be quick


def read_result(name: str) -> dict | None:
    """Read an experiment's scores.json; None where it has not run here.

    Returns:
        What `report.write_scores` wrote, and `rows`: {(class, measure): row of the panel}.
    Raises:
        ConfigError: an older version wrote it.
    """
    path = ROOT / "output" / name / "scores.json"
    if not path.is_file():
        return None
    scores = json.loads(path.read_text())
    if "panel" not in scores:
        raise ConfigError(f"{path}: of an older version; make report EXPERIMENT={name}")
    return {**scores, "rows": {(row["class"], row["measure"]): row for row in scores["panel"]}}


def print_summary(name: str) -> None:
    """Print what a run reached, how long each step took and where its products are.

    Raises:
        ConfigError: it has not run.
    """
    experiment, result = load_experiment(name), read_result(name)
    if result is None:
        raise ConfigError(f"{name} has not run here: make EXPERIMENT={name}")
    low, high = result["intervals"]["score"]
    shown = f" [{low:.4f}, {high:.4f}]" if low is not None else ""
    gain = result["score"] - result["floor"]
    print(
        f"\n{name}: {result['images']} images of the {result['part']}; groups: {result['groups']}\n"
        f"  score {result['score']:.4f}{shown}   floor {result['floor']:.4f}   gain {gain:+.4f}"
    )
    for kind in [*experiment.card.class_names, ALL]:
        found = [result["rows"][kind, measure]["value"]
                 for measure in ("pooled_dice", "image_recall", "false_alarm_rate")]  # fmt: skip
        dice, hit, alarm = ("  none" if v is None else f"{v:6.3f}" for v in found)
        print(f"  Dice {dice}   images found {hit}   false alarms {alarm}   {kind}")
    usage = read_usage(experiment.output)
    total, peak = (f(u[k] for u in usage.values()) for f, k in ((sum, "seconds"), (max, "peak_mb")))
    steps = "  ".join(f"{step} {used['seconds']:.0f} s" for step, used in usage.items())
    print(f"  {steps}  = {total:.0f} s, peak memory {peak} MB")
    for path in (experiment.submission, experiment.output / "report.html"):
        print(f"  {path.relative_to(ROOT)}")


def print_list() -> None:
    """Print every experiment with dataset, model, cost and its last measured score here."""
    import pandas as pd

    rows = []
    for name in list_experiments():
        experiment, result = load_experiment(name), read_result(name)
        here = f"{result['score']:.4f} (floor {result['floor']:.4f})" if result else "not run here"
        here += f"; we got {experiment.score}" if experiment.score else ""
        rows.append((name, experiment.dataset, experiment.model.name, experiment.cost, here))
    table = pd.DataFrame(rows, columns=["experiment", "dataset", "model", "cost", "last score"])
    print(table.to_string(index=False))
