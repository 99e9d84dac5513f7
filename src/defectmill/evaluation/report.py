"""What notebook 05 shows beside its figures, and its executed copy as one page that needs no other file."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from defectmill.config import Experiment
from defectmill.dataset_info import ALL_CLASSES, DatasetInfo
from defectmill.evaluation.metrics import METRICS, RESAMPLES, pick
from defectmill.evaluation.results import find_weaknesses
from defectmill.files import write_atomically
from defectmill.products.manifest import check_predictions
from defectmill.products.provenance import describe_run

HEADLINE = ("score", "floor", "gain", "micro_dice")
COLUMNS: tuple[str, ...] = ("micro_dice", "micro_iou", "precision", "recall", "boundary_f1", "cldice")
COLUMNS += ("image_recall", "false_alarm_rate", "imagewise_dice")
METRICS_SAID = {"micro_dice": "Dice", "image_recall": "images found", "false_alarm_rate": "false alarms"}
COLOURS = {
    "#1d2129": "ink",
    "#5b6472": "soft",
    "#dde1e7": "line",
    "#ffffff": "ground",
}  # of the figures: names in style.css


def load_template(name: str) -> Template:
    """Load a template of this package; a name in it that is not given is an error."""
    loader = PackageLoader("defectmill.evaluation")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(name)


def show(macro: str, **values: object) -> Any:
    """Show a part of the report: fill a macro of templates/parts.html.j2 (values, audit, provenance)."""
    from IPython.display import HTML

    html = getattr(load_template("parts.html.j2").module, macro)(**values)
    return HTML(f'<div class="tex2jax_ignore">{html}</div>')  # a class called $x$ is no formula


def require_products(run: Experiment) -> None:
    """Refuse products of 04 that are missing, edited, or of other networks or tables (ConfigError)."""
    run.require(run.output / "thresholds.json", "predict")
    check_predictions(run, is_whole=True)


def show_provenance(run: Experiment) -> Any:
    """Show what a run's numbers come from."""
    return show("provenance", facts=describe_run(run))


def show_headline(run: Experiment, metrics: pd.DataFrame, part: str, images: pd.DataFrame) -> Any:
    """Show what is weak about a run, then score, floor, gain and micro Dice of a part of the data.

    The part is given with its image table and groups.
    """
    rows = {name: pick(metrics, name) for name in HEADLINE}
    weak = find_weaknesses(run, rows["score"]["value"], rows["floor"]["value"])
    values = {"rows": rows, "part": part, "groups": images["group"].tolist(), "resamples": RESAMPLES}
    return show("headline", weaknesses=weak, **values)


def show_classes(metrics: pd.DataFrame, info: DatasetInfo) -> Any:
    """Show the metrics of each class and their mean, with the colours of the classes and intervals."""
    rows = {name: [pick(metrics, m, name) for m in COLUMNS] for name in [*info.class_names, ALL_CLASSES]}
    extra = {"colours": dict(zip(info.class_names, info.colours, strict=True)), "digits": 3}
    return show("values", columns=COLUMNS, rows=rows, meanings={m: METRICS[m] for m in COLUMNS}, **extra)


def show_ablation(csv: Path) -> Any:
    """Show ablation.csv: an arm a row, with what it gains over the baseline."""
    table = pd.read_csv(csv, keep_default_na=False, na_values={"difference": [""], "low": [""], "high": [""]})
    rows = [
        f"{d:+.3f} [{low:+.3f}, {high:+.3f}]" if d == d else ""
        for d, low, high in table[["difference", "low", "high"]].to_numpy()
    ]
    shown = table.drop(columns=["difference", "low", "high"]).rename(columns=METRICS_SAID)
    shown.insert(6, "Dice - baseline's [95 %]", rows)
    return (
        shown.style.hide(axis="index").format(precision=3, escape="html").format("{:.0f}", subset=["minutes"])
    )


def write_scores(
    run: Experiment, part: str, images: pd.DataFrame, metrics: pd.DataFrame, baselines: pd.DataFrame
) -> None:
    """Write scores.json: the headline as plain numbers, the baselines' scores, every row of the metrics."""
    known = metrics.astype(object).where(metrics.notna(), None)
    headline = {name: pick(known, name) for name in HEADLINE}
    scores = {"part": part, "images": len(images), "groups": images["group"].nunique()}
    scores |= {name: row["value"] for name, row in headline.items()}
    scores["intervals"] = {name: [row["low"], row["high"]] for name, row in headline.items()}
    scores["baselines"] = baselines.set_index("baseline")["score"].to_dict()
    scores["metrics"] = known.to_dict("records")
    with write_atomically(run.output / "scores.json") as path:
        path.write_text(json.dumps(scores, indent=1, allow_nan=False) + "\n")


def export_report(executed: Path, run: Experiment) -> Path:
    """Write output/<experiment>/report.html: what an executed notebook 05 says and shows, without its code.

    The page asks for nothing from elsewhere and runs no script.
    """
    import nbformat
    from nbconvert import HTMLExporter

    folders, page = [str(Path(__file__).parent / "templates")], run.output / "report.html"
    found: Any = {"extra_template_basedirs": folders, "extra_template_paths": folders}
    exporter = HTMLExporter(template_name="report", exclude_anchor_links=True, **found)
    exporter.register_filter("inline_svg", _inline_svg)
    notebook = nbformat.read(executed, as_version=4)
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    sections = re.findall(r"^## (.+)$", texts, flags=re.MULTILINE)
    html, _ = exporter.from_notebook_node(notebook, {"run": run, "sections": sections})
    with write_atomically(page) as path:
        path.write_text(html, encoding="utf-8")
    return page


def _inline_svg(svg: str, alt: str | None) -> str:
    """Make a Matplotlib figure part of the page: its colours follow the page's, its ids clash with none."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    for colour, name in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt or "Figure")}" ', 1)
