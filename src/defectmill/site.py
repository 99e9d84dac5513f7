"""The index over all experiments that were run here, and the README's table of results.

python -m defectmill.site [readme]
"""

import sys
from pathlib import Path

from defectmill.config import ROOT, ConfigError, Experiment, list_experiments, load_experiment
from defectmill.pages import render, write_page
from defectmill.provenance import read_usage
from defectmill.results import ALL, read_result

BEGIN, END = "<!-- results: make results -->", "<!-- end of results -->"
CELLS = (
    ("score", 4), ("floor", 4), ("gain", 4), ("pooled_dice", 3), ("boundary_f1", 3),
    ("image_recall", 3), ("false_alarm_rate", 3),
)  # fmt: skip


def collect_results() -> list[dict]:
    """Read what every experiment reached here, largest gain first.

    Returns:
        For each experiment with a scores.json: name, data, network, part, images, groups,
        minutes, gain, and cells (text and span of each measure of CELLS).
    Raises:
        ConfigError: no experiment was run here, or by an older version.
    """
    results = [
        _describe(load_experiment(name), result)
        for name in list_experiments()
        if (result := read_result(name))
    ]
    if not results:
        raise ConfigError("no experiment was run here yet: make EXPERIMENT=sample")
    return sorted(results, key=lambda r: -r["gain"])


def write_site() -> Path:
    """Write output/index.html."""
    page = render("site.html.j2", rows=collect_results())
    return write_page(ROOT / "output" / "index.html", page)


def write_readme_table(readme: Path = ROOT / "README.md") -> Path:
    """Write the results between the README's two marks.

    Raises:
        ConfigError: a mark is missing.
    """
    rows, text = collect_results(), readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ConfigError(f"{readme}: needs the marks {BEGIN!r} and {END!r} once each")
    head, rest = text.split(BEGIN)
    lines = [
        "| experiment | score [95 %] | floor | Dice of the defect classes [95 %] | images, "
        "groups | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        score, floor, _, dice, *_ = row["cells"]
        shown = [f"{c['text']} [{c['span']}]" if c["span"] else c["text"] for c in (score, dice)]
        size = f"{row['images']}, {row['groups']} ({row['part']})"
        lines.append(f"| `{row['name']}` | {shown[0]} | {floor['text']} | {shown[1]} | {size} | "
                     f"{row['minutes']} |")  # fmt: skip
    readme.write_text("\n".join([head + BEGIN, *lines, END]) + rest.split(END)[1])
    return readme


def _describe(experiment: Experiment, result: dict) -> dict:
    seconds = sum(used["seconds"] for used in read_usage(experiment.output).values())
    return {
        "name": experiment.name, "data": experiment.card.title, "network": experiment.model.name,
        "part": result["part"], "images": result["images"], "groups": result["groups"],
        "minutes": round(seconds / 60), "gain": result["gain"],
        "cells": [_tell(result["rows"][ALL, measure], digits) for measure, digits in CELLS],
    }  # fmt: skip


def _tell(row: dict, digits: int) -> dict:
    if row["value"] is None:
        return {"text": "none", "span": ""}
    span = "" if row["low"] is None else f"{row['low']:.{digits}f} to {row['high']:.{digits}f}"
    return {"text": f"{row['value']:.{digits}f}", "span": span}


if __name__ == "__main__":
    try:
        write = write_readme_table if sys.argv[1:] == ["readme"] else write_site
        print(write().relative_to(ROOT))
    except ConfigError as problem:
        sys.exit(f"error: {problem}")
