"""Any dataset of pictures and colour masks: images/ and masks/, or those in train, valid, test.

The layout of the FlexUNet datasets. Training and validation pictures become the training part:
the held-out fold is chosen by group, which a ready-made validation folder seldom is.
"""

from collections.abc import Iterator
from pathlib import Path

from defectmill.cards import Card
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.datasets.pairs import pair_files, read_colour_pair

NOTES = ("masks read by the colours of the classes",)
PARTS = {"train": "train", "valid": "train", "test": "test"}


def read_raw(raw: Path, card: Card) -> Iterator[Picture]:
    """Read every pair.

    Raises:
        DatasetError: neither layout is there, an orphan, sizes that differ, another palette.
    """
    if (raw / "images").is_dir():
        folders = {raw: ""}
    else:
        folders = {raw / name: part for name, part in PARTS.items() if (raw / name).is_dir()}
    if not folders:
        found = ", ".join(sorted(p.name for p in raw.iterdir())[:8]) or "nothing"
        raise DatasetError(f"{raw}: neither images and masks nor train, valid, test; holds {found}")
    for folder, part in folders.items():
        for image, mask in pair_files(folder / "images", folder / "masks"):
            yield read_colour_pair(image, mask, card.colours, part)
