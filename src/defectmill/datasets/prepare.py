"""Make input/<dataset> with the adapter that reads what the dataset ships.

An adapter has `read_raw(raw, info) -> Iterator[Picture]` and NOTES, what to know of its labels; or, where the
dataset is shipped as a competition, `copy_raw(raw, info, folder)`.
"""

import os
from itertools import chain
from pathlib import Path

from defectmill import files
from defectmill.dataset_info import builtin_datasets, load_dataset_info, read_dataset_info
from defectmill.datasets import crack, folder, magnetic_tile, severstal
from defectmill.datasets.competition import DatasetError, write_competition
from defectmill.datasets.download import download
from defectmill.datasets.sample import pictures

# All others, your own too, are read by `folder`.
ADAPTERS = {"crack": crack, "magnetic-tile": magnetic_tile, "sample": pictures, "severstal": severstal}


def prepare(dataset: str, raw: str) -> Path:
    """Make a dataset's competition folder and print the notes on it.

    Args:
        raw: the files as their source ships them, folders separated by ":"; "" to draw or download them.
    Returns:
        input/<dataset>.
    Raises:
        DefectmillError: unknown dataset; raw files are missing, empty or wrong; a folder made by hand.
    """
    target = files.ROOT / "input" / files.check_name(dataset, "DATASET")
    builtin = builtin_datasets().get(dataset)
    if not builtin:
        _check_own(target, raw)
    own = target / "info.json"  # it may have been edited since dataset.json was written
    info = builtin or (read_dataset_info(own) if own.is_file() else load_dataset_info(dataset))
    adapter = ADAPTERS.get(dataset, folder)
    parts = [raw] if Path(raw).expanduser().exists() else raw.split(os.pathsep)  # a path may hold a colon
    sources = [Path(source).expanduser().resolve() for source in parts if source]
    for source in sources:
        if not source.is_file() and not (source.is_dir() and any(source.iterdir())):
            raise DatasetError(f"RAW={source}: no such folder, or an empty one; say where the files are")
    if adapter is severstal:
        if len(sources) > 1:
            raise DatasetError(f"RAW={raw}: {dataset} takes one folder or zip")
        source = sources[0] if sources else download(info.slug, target.parent)
        severstal.copy_raw(source, info, target)
    elif sources or adapter is pictures:
        # The sample reads no folder, whichever is given.
        read = chain.from_iterable(adapter.read_raw(source, info) for source in sources or [target])
        write_competition(read, info.model_copy(update={"notes": adapter.NOTES}), target)
    else:
        wanted = f"make ... RAW=<folder>; they come from {info.source}"
        raise DatasetError(f"{dataset}: say where its files are: {wanted}")
    print("\n".join(load_dataset_info(dataset).notes))
    return target


def _check_own(target: Path, raw: str) -> None:
    """Refuse to make a dataset of the user's own of nothing, or over what was made by hand."""
    if (target / "card.json").is_file():
        raise DatasetError(f"{target / 'card.json'}: rename it to info.json")
    if not raw and target.is_dir():
        way_out = "or say where images and colour masks are: make ... RAW=<folder>; see input/README.md"
        offence = f"{target.name} is your own dataset: put train.csv and train_images into {target}"
        raise DatasetError(f"{offence}, {way_out}")
    if target.is_dir() and not (target / "info.json").is_file():
        way_out = "to make it from images and colour masks, put info.json there in place of the rest"
        raise DatasetError(f"RAW={raw}: {target} was made by hand; {way_out}")
