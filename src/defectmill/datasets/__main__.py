"""Make input/<dataset> from what the dataset ships."""

import argparse
import importlib
import os
import sys
from itertools import chain
from pathlib import Path

from defectmill.cards import Card
from defectmill.catalog import CARDS
from defectmill.config import ROOT, ConfigError, load_card
from defectmill.datasets.competition import DatasetError, write_competition
from defectmill.images import ImageError
from defectmill.kaggle import KaggleError, download
from defectmill.labels import LabelError

DRAWN = ("sample",)


def prepare(dataset: str, raw: str) -> Path:
    """Run a dataset's adapter.

    Args:
        raw: its files as their source ships them; several folders are parted by ":".

    Raises:
        DatasetError, ImageError, LabelError: the raw folder is missing, empty or wrong.
        KaggleError: no raw folder, and none to be had from Kaggle.
        ConfigError: unknown dataset.
    """
    folder, card = ROOT / "input" / dataset, load_card(dataset)
    own = dataset not in CARDS
    if own and not raw:
        raise DatasetError(f"{dataset} is your own dataset: put train.csv and train_images into "
                           f"{folder}, or say where pictures and colour masks are: "
                           "make ... RAW=<folder>; see input/README.md")  # fmt: skip
    card, sources = CARDS.get(dataset, card), [Path(p).resolve() for p in raw.split(os.pathsep)]
    module = "colour_masks" if own else dataset.replace("-", "_")
    adapter = importlib.import_module(f"defectmill.datasets.{module}")
    for source in sources if raw else []:
        if not source.is_file() and not (source.is_dir() and any(source.iterdir())):
            raise DatasetError(f"RAW={source}: no such folder, or an empty one")
    if own and not (folder / "card.json").is_file():
        # What lies there is the user's own work, not an adapter's: never written over.
        raise DatasetError(f"RAW={raw}: {folder} was made by hand; to make it from pictures and "
                           f"colour masks, put card.json there in place of the rest")  # fmt: skip
    if card.slug and len(sources) > 1:
        raise DatasetError(f"RAW={raw}: {dataset} takes one folder or zip")
    if card.slug:
        # Already a competition as it is shipped.
        adapter.copy_raw(sources[0] if raw else download(card.slug, folder.parent), card, folder)
    elif raw or dataset in DRAWN:
        described = card.model_copy(update={"notes": adapter.NOTES})
        pictures = chain.from_iterable(adapter.read_raw(source, card) for source in sources)
        write_competition(pictures, described, folder)
    else:
        raise DatasetError(f"{dataset}: say where its files are: make ... RAW=<folder>; "
                           f"they come from {card.source}")  # fmt: skip
    written = Card.model_validate_json((folder / "dataset.json").read_text())
    print("\n".join(written.notes))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--raw", default="", help="the files as their source ships them")
    arguments = parser.parse_args()
    try:
        prepare(arguments.dataset, arguments.raw)
    except (DatasetError, ImageError, LabelError, KaggleError, ConfigError) as error:
        sys.exit(f"error: {error}")
