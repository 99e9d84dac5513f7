"""What the sections of a report hold: plain lists and dictionaries for its template."""

import json

import numpy as np
import pandas as pd

from defectmill.cards import Card
from defectmill.charts import draw_curves
from defectmill.config import Experiment
from defectmill.panel import ALL

COLUMNS = {
    "pooled_dice": "Dice", "pooled_iou": "IoU", "precision": "precision", "recall": "recall",
    "boundary_f1": "boundary F1", "image_recall": "images found",
    "false_alarm_rate": "false alarms", "mean_dice": "Dice per image",
    "mean_iou": "IoU per image",
}  # fmt: skip

SECTIONS = (
    ("worth", "Result"), ("classes", "Classes"), ("confusion", "Confusion"),
    ("gallery", "Pictures"), ("learning", "Learning"), ("thresholds", "Thresholds"),
    ("leaks", "Leaks"), ("audit", "Audit"), ("provenance", "Provenance"),
)  # fmt: skip


def rows_of(panel: pd.DataFrame) -> dict[str, dict[str, dict]]:
    """{class: {measure: {value, low, high}}}."""
    rows: dict[str, dict[str, dict]] = {}
    for row in panel.to_dict("records"):
        rows.setdefault(row["class"], {})[row["measure"]] = row
    return rows


def place_answers(naive: pd.DataFrame, score: dict) -> list[dict]:
    """Places on a line from 0 to 1, in percent; the run last."""
    answers = [
        {"name": name, "score": value, "place": round(100 * value, 2), "ours": False}
        for name, value in zip(naive["answer"], naive["score"], strict=True)
    ]
    ours = {"name": "this run", "score": score["value"], "ours": True}
    ours["place"] = round(100 * score["value"], 2)
    if np.isfinite(score["low"]):
        ours["left"] = round(100 * score["low"], 2)
        ours["width"] = round(100 * (score["high"] - score["low"]), 2)
    return [*answers, ours]


def list_classes(rows: dict, card: Card) -> list[dict]:
    """Rows of the table of classes, their mean last; a cell is a row of the panel or None."""
    mean = {"name": "mean", "colour": None, "of": ALL}
    kinds = [{"name": k.name, "colour": k.colour, "of": k.name} for k in card.classes]
    return [
        {**kind, "cells": [rows[kind["of"]].get(c) for c in COLUMNS]} for kind in [*kinds, mean]
    ]


def share_confusion(matrix: np.ndarray, truth: np.ndarray, class_names: list[str]) -> dict:
    """Shares of each true class, background last.

    Args:
        matrix: (C + 1, C + 1) of `tally.Tally`. truth: (C,) true pixels of each class.
    """
    names, rows = [*class_names, "background"], []
    for name, counts, pixels in zip(names, matrix, [*truth, matrix[-1].sum()], strict=True):
        total = int(pixels)
        shares = counts / max(1, total)
        cells = [{"share": s, "text": f"{s:.1%}" if n else "0"}
                 for s, n in zip(shares, counts, strict=True)]  # fmt: skip
        rows.append({"name": name, "cells": cells, "pixels": total})
    return {"names": names, "rows": rows}


def draw_history(history: pd.DataFrame) -> list[tuple[str, str]]:
    """Title and SVG of each curve of history.csv."""
    charts = []
    for title, key, ylim in (
        ("Loss", "loss", None),
        ("Mean pooled Dice of the defect classes", "foreground_dice", (0.0, 1.0)),
    ):
        series = {"training": history[key], "held-out fold": history[f"val_{key}"]}
        charts.append((title, draw_curves(series, title, ylim)))
    return charts


def list_surfaces(tried: pd.DataFrame, run: Experiment) -> list[dict]:
    """Best gain of each class by threshold and minimum area, and the rule that was chosen.

    Args:
        tried: of `rules.choose_rules`.
    """
    chosen = json.loads((run.output / "thresholds.json").read_text())
    surfaces = []
    for kind in run.card.classes:
        rule, mine = chosen[str(kind.id)], tried[tried["ClassId"] == kind.id]
        best = mine.pivot_table(
            index="area_share", columns="threshold", values="gain", aggfunc="max"
        )
        picked = mine[(mine["threshold"] == rule["threshold"]) & (mine["peak"] == rule["peak"])
                      & (mine["minimum_area"] == rule["minimum_area"])]["area_share"]  # fmt: skip
        low, high = best.to_numpy().min(), best.to_numpy().max()
        rows = [
            {"name": f"{share:g}", "cells": [
                {"value": gain, "share": (gain - low) / ((high - low) or 1),
                 "best": share in picked.to_numpy()[:1] and threshold == rule["threshold"]}
                for threshold, gain in gains.items()]}
            for share, gains in best.iterrows()
        ]  # fmt: skip
        said = (f"above {rule['threshold']:g}, peak {rule['peak']:g}, from {rule['minimum_area']} "
                "pixels on") if len(picked) else "says nothing: no rule gains"  # fmt: skip
        surfaces.append({"name": kind.name, "rule": said,
                         "columns": [f"{t:g}" for t in best.columns], "rows": rows})  # fmt: skip
    return surfaces


def tell_table(table: pd.DataFrame) -> dict:
    """A table as text: columns and rows."""

    def tell(cell: object) -> str:
        return f"{cell:.3f}" if isinstance(cell, float) else str(cell)

    rows = [[tell(cell) for cell in row] for row in table.itertuples(index=False)]
    return {"columns": [str(c) for c in table.columns], "rows": rows}
