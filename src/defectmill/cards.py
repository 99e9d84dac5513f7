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
