"""The report: one page that stands alone, made from what the steps of a run left behind."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from defectmill.config import Experiment
from defectmill.gallery import DIFFERENCE, Case, draw_case
from defectmill.pages import render, write_page
from defectmill.panel import ALL, RESAMPLES, pick
from defectmill.provenance import describe_run
from defectmill.report_parts import (
    COLUMNS,
    SECTIONS,
    draw_history,
    list_classes,
    list_surfaces,
    place_answers,
    rows_of,
    share_confusion,
    tell_table,
)
from defectmill.tally import COUNTS, EDGE_TOLERANCE, Tally


def write_report(
    run: Experiment, part: str, panel: pd.DataFrame, n_images: int, n_groups: int,
    naive: pd.DataFrame, tally: Tally, cases: Sequence[Case],
) -> Path:  # fmt: skip
    """Write output/<experiment>/report.html.

    Args:
        part: what the numbers were measured on. panel: of `panel.score_panel`.
        naive: of `leaks.naive_answers`. tally: what `panel` was measured on.
        cases: for the gallery, in the order of showing.
    """
    out, card = run.output, run.card
    held = rows_of(pd.read_csv(out / "evaluation.csv"))[ALL]
    total, history = rows_of(panel), pd.read_csv(out / "history.csv")
    page = render(
        "report.html.j2", run=run, card=card, part=part, n_images=n_images, n_groups=n_groups,
        sections=SECTIONS, resamples=RESAMPLES, tolerance=EDGE_TOLERANCE, columns=COLUMNS,
        total=total[ALL], held=held, answers=place_answers(naive, total[ALL]["score"]),
        classes=list_classes(total, card), confusion=share_confusion(
            tally.confusion, tally.counts[..., COUNTS.index("truth")].sum(axis=0), card.class_names
        ),
        soft=[held[k] for k in ("soft_pixel_accuracy", "soft_pixel_accuracy_of_background")],
        class_colours=[(kind.name, kind.colour) for kind in card.classes],
        difference=list(DIFFERENCE.items()), cases=[draw_case(case, card) for case in cases],
        curves=draw_history(history),
        kept_epoch=run.training.kept_epoch(history["val_foreground_dice"]) + 1,
        surfaces=list_surfaces(pd.read_csv(out / "rules.csv"), run),
        leaks=tell_table(pd.read_csv(out / "leaks.csv")),
        audit=tell_table(pd.read_csv(out / "audit.csv", keep_default_na=False)),
        provenance=describe_run(run),
        knobs=yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False),
    )  # fmt: skip
    return write_page(out / "report.html", page)


def write_scores(
    path: Path, part: str, n_images: int, n_groups: int, panel: pd.DataFrame, naive: pd.DataFrame
) -> None:
    """Write scores.json: the headline as plain numbers, then every row of the panel."""
    known = panel.astype(object).where(panel.notna(), None)
    headline = {name: pick(known, name) for name in ("score", "floor", "gain", "pooled_dice")}
    scores = {
        "part": part, "images": n_images, "groups": n_groups,
        **{name: row["value"] for name, row in headline.items()},
        "intervals": {name: [row["low"], row["high"]] for name, row in headline.items()},
        "naive": naive.set_index("answer")["score"].to_dict(),
        "panel": known.to_dict("records"),
    }  # fmt: skip
    work = path.with_suffix(".json.part")
    work.write_text(json.dumps(scores, indent=1, allow_nan=False) + "\n")
    work.replace(path)
