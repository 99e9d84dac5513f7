"""Cards: what a dataset is, as data. No pictures are needed to read one."""

import re

from pydantic import BaseModel, ConfigDict, field_validator

RESERVED = ("all classes", "background")  # rows of tables beside the classes


class DefectClass(BaseModel):
    """One kind of defect: the competition's class id (from 1), a name, a colour 0..255 RGB."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: int
    name: str
    colour: tuple[int, int, int]

    @property
    def title(self) -> str:
        """Id and name, or the name alone where it tells the id."""
        return self.name if self.name.endswith(f" {self.id}") else f"{self.id} {self.name}"


class Published(BaseModel):
    """What is known of a whole dataset, to compare a part of it with.

    Attributes:
        images: how many there are.
        masks: of each class, in the order of the channels.
        by_classes: images with no class, one, two, ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: int
    masks: tuple[int, ...]
    by_classes: tuple[int, ...]


class Card(BaseModel):
    """A dataset.

    Attributes:
        classes: ordered by class id, which run from 1 without a gap.
        exclusive: no pixel ever belongs to two classes.
        layout: of train.csv and sample_submission.csv, "2019" (ImageId_ClassId) or "current"
            (ImageId, ClassId; defects only).
        group_pattern: regular expression with one bracket, the part that a file name tells;
            images with the same part stay together. Empty: names say nothing.
        group_gap: where parts are running numbers of shots, numbers at most this far apart
            are shots of one part.
        near_duplicate: pictures whose fine structure correlates above this show one part; see
            `images.picture_print`. The default joins copies that were saved anew, brightened or
            shifted by a hundredth; it finds no mirrored, turned or warped ones: names must.
        shape: (height, width) of every picture, where the dataset promises one.
        partial: train.csv labels more pictures than train_images holds, and may.
        slug: the competition's name in its address at Kaggle, where it has one.
        published: numbers of its whole training part, where they are known.
        notes: how input/<dataset> was made and what was odd, written by its adapter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    classes: tuple[DefectClass, ...]
    exclusive: bool = True
    layout: str = "2019"
    group_pattern: str = ""
    group_gap: int = 0
    licence: str = "not stated"
    citation: str = ""
    source: str = ""
    near_duplicate: float = 0.9
    shape: tuple[int, int] | None = None
    partial: bool = False
    slug: str = ""
    published: Published | None = None
    notes: tuple[str, ...] = ()

    @field_validator("classes")
    @classmethod
    def _ids_run_from_one(cls, classes: tuple[DefectClass, ...]) -> tuple[DefectClass, ...]:
        ids = [c.id for c in classes]
        if ids != list(range(1, len(ids) + 1)) or not ids:
            raise ValueError(f"class ids must run from 1 without a gap, not {ids}")
        names = [c.name for c in classes]
        if len({*names, *RESERVED}) < len(names) + len(RESERVED):
            raise ValueError(f"class names must differ, and not be {RESERVED}: {names}")
        return classes

    @field_validator("group_pattern")
    @classmethod
    def _pattern_has_one_bracket(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"group_pattern {pattern!r}: {error}") from error
        if pattern and groups != 1:
            raise ValueError(f"group_pattern {pattern!r} needs one bracket, and has {groups}")
        return pattern

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the channels."""
        return [c.name for c in self.classes]

    @property
    def colours(self) -> list[tuple[int, int, int]]:
        """Colours in the order of the channels."""
        return [c.colour for c in self.classes]

    @property
    def shades(self) -> list[tuple[float, ...]]:
        """The colours as Matplotlib takes them, 0..1."""
        return [tuple(part / 255 for part in colour) for colour in self.colours]


def _classes(*pairs: tuple[str, tuple[int, int, int]]) -> tuple[DefectClass, ...]:
    return tuple(DefectClass(id=i, name=n, colour=c) for i, (n, c) in enumerate(pairs, 1))


CARDS = {
    card.name: card
    for card in (
        Card(
            name="sample",
            title="Drawn rolled steel",
            classes=_classes(
                ("pitted specks", (250, 200, 40)),
                ("thin cracks", (60, 200, 120)),
                ("scratches", (70, 150, 255)),
                ("patches", (240, 80, 160)),
            ),
            licence="MIT (drawn by this project)",
            source="defectmill.datasets.sample",
        ),
        Card(
            name="severstal",
            title="Severstal: Steel Defect Detection",
            # Kaggle gives no names. Four shades of viridis, as the capstone's figures.
            classes=_classes(
                ("class 1", (59, 82, 139)),
                ("class 2", (33, 145, 140)),
                ("class 3", (94, 201, 98)),
                ("class 4", (253, 231, 37)),
            ),
            shape=(256, 1600),
            slug="severstal-steel-defect-detection",
            # Counted in the competition's train.csv of 2019.
            published=Published(
                images=12568, masks=(897, 247, 5150, 801), by_classes=(5902, 6239, 425, 2)
            ),
            licence="competition rules; not redistributed",
            citation="PAO Severstal: Steel Defect Detection, Kaggle, 2019",
            source="https://www.kaggle.com/competitions/severstal-steel-defect-detection",
        ),
        Card(
            name="magnetic-tile",
            title="Magnetic tiles",
            classes=_classes(
                ("blowhole", (250, 200, 40)),
                ("break", (60, 200, 120)),
                ("crack", (70, 150, 255)),
                ("fray", (240, 80, 160)),
                ("uneven", (255, 130, 50)),
            ),
            # exp3_num_4764: six exposures of a part have close frame numbers. Measured on 1,212
            # pictures: neighbours up to 120 apart correlate at 0.83-0.97, beyond 200 at 0.4.
            group_pattern=r"exp\d+_num_(\d+)",
            group_gap=200,
            # By eye: a pair at 0.858 is one part, one at 0.850 two; of 720,158 pairs of different
            # parts one in a hundred is above 0.53.
            near_duplicate=0.855,
            licence="academic research; not redistributed",
            citation="Huang, Qiu, Yuan: Surface defect saliency of magnetic tile, "
            "The Visual Computer, 2018",
            source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        ),
        Card(
            name="mvtec-tile",
            title="MVTec AD: tile",
            classes=_classes(
                ("crack", (0, 0, 255)),
                ("glue_strip", (255, 0, 0)),
                ("gray_stroke", (0, 255, 0)),
                ("oil", (255, 255, 0)),
                ("rough", (0, 255, 255)),
            ),
            # Distorted copies carry the name of their picture: barrdistorted_1001_0.3_0.3_crack_5.
            group_pattern=r"((?:crack|glue_strip|gray_stroke|oil|rough|good)_(?:\w+_)?\d+)\.",
            licence="CC BY-NC-SA 4.0; not redistributed",
            citation="Bergmann et al.: MVTec AD, CVPR 2019",
            source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        ),
        Card(
            name="aluminum",
            title="Aluminum surface defects",
            # Overlapping photographs of one edge are at 0.43 to 0.70, all other pairs below 0.25.
            near_duplicate=0.35,
            classes=_classes(
                ("defect 1", (255, 0, 0)),
                ("defect 2", (0, 255, 0)),
                ("defect 3", (0, 0, 255)),
                ("defect 4", (255, 255, 0)),
                ("defect 5", (0, 255, 255)),
                ("defect 6", (255, 0, 255)),
            ),
            licence="CC BY 4.0",
            source="https://doi.org/10.6084/m9.figshare.27778473",
        ),
        Card(
            name="crack",
            title="Road cracks",
            classes=_classes(("crack", (255, 90, 60))),
            # CRACK500's crops of one photograph: 20160222_081102_1281_721, IMG_2930_1297_969.
            group_pattern=r"(\d{8}_\d{6}|IMG_\d+)_\d+_\d+",
            licence="non-commercial research (CrackForest), not stated (CRACK500)",
            citation="Shi et al., IEEE T-ITS 2016; Zhang et al., ICIP 2016",
            source="https://github.com/cuilimeng/CrackForest-dataset and "
            "https://github.com/fyangneil/pavement-crack-detection",
        ),
    )
}
