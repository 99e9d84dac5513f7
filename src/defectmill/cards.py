"""Cards: what a dataset is, as data. No pictures are needed to read one."""

from pydantic import BaseModel, ConfigDict, field_validator


class DefectClass(BaseModel):
    """One kind of defect: the competition's class id (from 1), a name, a colour 0..255 RGB."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: int
    name: str
    colour: tuple[int, int, int]


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
        shape: (height, width) of every picture, where the dataset promises one.
        partial: train.csv labels more pictures than train_images holds, and may.
        slug: the competition's name in its address at Kaggle, where it has one.
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
    shape: tuple[int, int] | None = None
    partial: bool = False
    slug: str = ""
    notes: tuple[str, ...] = ()

    @field_validator("classes")
    @classmethod
    def _ids_run_from_one(cls, classes: tuple[DefectClass, ...]) -> tuple[DefectClass, ...]:
        ids = [c.id for c in classes]
        if ids != list(range(1, len(ids) + 1)) or not ids:
            raise ValueError(f"class ids must run from 1 without a gap, not {ids}")
        return classes

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
            licence="academic research; not redistributed",
            citation="Huang, Qiu, Yuan: Surface defect saliency of magnetic tile, "
            "The Visual Computer, 2018",
            source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        ),
    )
}
