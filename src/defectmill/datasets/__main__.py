"""Make input/<dataset> from what the dataset ships."""

import argparse
import importlib
import sys
from pathlib import Path

from defectmill.cards import CARDS, Card
from defectmill.config import ROOT, ConfigError, load_card
from defectmill.datasets.competition import DatasetError, write_competition
from defectmill.images import ImageError

DRAWN = ("sample",)


def prepare(dataset: str, raw: str) -> Path:
    """Run a dataset's adapter.

    Raises:
        DatasetError, ImageError: the raw folder is missing, empty or wrong.
        ConfigError: unknown dataset.
    """
    folder, card = ROOT / "input" / dataset, load_card(dataset)
    if dataset not in CARDS:
        raise DatasetError(f"{dataset} is your own dataset: put train.csv and train_images "
                           f"into {folder}; see input/README.md")  # fmt: skip
    if dataset not in DRAWN:
        if not raw:
            raise DatasetError(f"{dataset}: say where its files are: make ... RAW=<folder>; "
                               f"they come from {card.source}")  # fmt: skip
        if not Path(raw).is_dir() or not any(Path(raw).iterdir()):
            raise DatasetError(f"RAW={raw}: no such folder, or an empty one")
    adapter = importlib.import_module(f"defectmill.datasets.{dataset.replace('-', '_')}")
    source = Path(raw).resolve()
    notes = adapter.find_oddities(source, card)
    described = card.model_copy(update={"notes": tuple(notes)})
    write_competition(adapter.read_raw(source, card), described, folder)
    written = Card.model_validate_json((folder / "dataset.json").read_text())
    print("\n".join(written.notes))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--raw", default="", help="folder of the files as their source ships them")
    arguments = parser.parse_args()
    try:
        prepare(arguments.dataset, arguments.raw)
    except (DatasetError, ImageError, ConfigError) as error:
        sys.exit(f"error: {error}")
