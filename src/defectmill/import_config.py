"""make import-config: a FlexUNet configuration file becomes an experiment."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from defectmill.cards import Card, DefectClass
from defectmill.catalog import CARDS
from defectmill.config import ROOT, ConfigError, load_experiment
from defectmill.flexunet_config import compare_readme, translate
from defectmill.literal_ini import read_literal_ini


def import_config(path: Path, name: str = "") -> str:
    """Write notebooks/experiments/<name>.yml, and the card of a dataset that is not known yet.

    Args:
        path: train_eval_infer.config; a README.md beside it is compared with it.
        name: of the experiment; "" takes the folder's.
    Returns:
        What became of every key, to print.
    Raises:
        ConfigError: see `read_literal_ini` and `translate`; or the experiment exists.
    """
    config = read_literal_ini(path)
    try:
        knobs, colours, fates = translate(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    name = name or re.sub(r"[^a-z0-9]+", "-", path.resolve().parent.name.lower()).strip("-")
    target = ROOT / "notebooks" / "experiments" / f"{name}.yml"
    if target.exists():
        raise ConfigError(f"{target} exists; give another name: make import-config EXPERIMENT=...")
    known = [card.name for card in CARDS.values() if card.colours == colours]
    dataset = known[0] if known else name
    said = [f"{key}: {fate}" for key, fate in fates.items()]
    if not known:
        card = _describe(name, colours)
        card_file = ROOT / "input" / name / "card.json"
        card_file.parent.mkdir(parents=True, exist_ok=True)
        card_file.write_text(json.dumps(card.model_dump(exclude_defaults=True), indent=1) + "\n")
        said.append(f"classes: {card_file} gives them names; change those to yours")
    header = f"# What: {path.name} of {path.resolve().parent.name}, imported.\n"
    text = yaml.safe_dump(_nest({"dataset": dataset, **knobs}), sort_keys=False)
    target.write_text(header + text)
    try:
        load_experiment(name)
    except ConfigError:
        target.unlink()
        raise
    readme = path.parent / "README.md"
    if readme.is_file():
        said += compare_readme(config, readme.read_text(encoding="utf-8", errors="replace"))
    raw = "<folder of images and masks>"
    return "\n".join([*said, f"{target}: make EXPERIMENT={name} RAW={raw}"])


def _describe(name: str, colours: list[tuple[int, int, int]]) -> Card:
    kinds = [DefectClass(id=i, name=f"class {i}", colour=c) for i, c in enumerate(colours, 1)]
    return Card(name=name, title=name, classes=tuple(kinds))


def _nest(knobs: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in knobs.items():
        *sections, last = key.split(".")
        section = nested
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value
    return nested
