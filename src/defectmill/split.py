"""Which images a network learns from and which validate it, by the tables that 02 wrote."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.config import Experiment
from defectmill.labels import read_image_table, read_labels
from defectmill.products.manifest import check_tables


@dataclass(frozen=True)
class Split:
    """Label and image table of all training images; image tables of those that train and that validate.

    Image ids are names of files in `folder`.
    """

    labels: pd.DataFrame
    images: pd.DataFrame
    train: pd.DataFrame
    validation: pd.DataFrame
    folder: Path

    def labels_of(self, images: pd.DataFrame) -> pd.DataFrame:
        """The label table of some of the images, in their order."""
        rows = self.labels.set_index("ImageId").loc[images["ImageId"].drop_duplicates()]
        return rows.reset_index()


def load_split(run: Experiment, network: str = "") -> Split:
    """Read output/<experiment>/images.csv and labels.csv.

    ConfigError: 02 has not written them, or not as they are now; see `manifest.check_tables`.

    Args:
        network: the one that is to train, of `Experiment.networks`, on as many groups as `data.parts` says;
            "": as all of them together see it, with every image that one of them leaves out in the
            validation part, fold by fold. The last one is shown all images there are labels for, those of
            test_images among them, and validates on none.
    """
    check_tables(run, network)
    folder, solution, n_classes = run.input / "train_images", run.input / "solution.csv", run.info.n_classes
    images = read_image_table(run.require(run.output / "images.csv", "labels"))
    labels = read_labels(run.require(run.output / "labels.csv", "labels"), images["ImageId"], n_classes)
    if network == "last":
        tables = {folder.name: (labels, images)}
        if solution.is_file():
            tested = read_image_table(run.require(run.output / "test_images.csv", "labels"))
            tables["test_images"] = read_labels(solution, tested["ImageId"], n_classes), tested
        named = ([t.assign(ImageId=f"{f}/" + t["ImageId"]) for t in pair] for f, pair in tables.items())
        labels, images = (pd.concat(parts, ignore_index=True) for parts in zip(*named, strict=True))
        return Split(labels, images, _draw_parts(images, run), images[:0], run.input)
    if not network and len(run.fold_networks) > 1:
        held = images[images["fold"] >= 0].sort_values("fold", kind="stable")
        return Split(labels, images, images, held, folder)
    inside = images["fold"] == int((network or run.fold_networks[0]).removeprefix("fold_"))
    return Split(labels, images, _draw_parts(images[~inside], run), images[inside], folder)


def _draw_parts(images: pd.DataFrame, run: Experiment) -> pd.DataFrame:
    """Keep the images of `data.parts` of all groups; what a small share keeps, a larger one keeps, too."""
    groups = images["group"].unique()
    drawn = np.random.default_rng(run.labels.seed).permutation(groups)
    return images[images["group"].isin(drawn[: max(1, round(run.data.parts * len(groups)))])]
