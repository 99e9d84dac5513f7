"""What a dataset is, as data: classes, licence, which file names belong together. No picture is needed.

The built-in ones are the YAML files in dataset_infos/.
"""

import difflib
import os
import re
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable
from functools import cache
from glob import escape
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from defectmill import files
from defectmill.files import SUFFIXES, DefectmillError

ALL_CLASSES, BACKGROUND = "all classes", "background"  # rows of tables beside the classes
ATTACHED = "DEFECTMILL_KAGGLE_INPUT"  # may name another folder than /kaggle/input
LISTED, DEEPEST = 30, 50  # names in a message; lists in lists of YAML
TEXTS = (".json", ".xml", ".txt", ".csv")  # they stand beside images, and are none

_Part = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[_Part, _Part, _Part]


class DefectClass(BaseModel):
    """One kind of defect: the competition's class id (from 1), a name, a colour 0..255 RGB.

    value: its number in mask files that hold numbers, where that is not the id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: int
    name: str
    colour: Colour
    value: Annotated[int, Field(ge=0)] | None = None

    @property
    def title(self) -> str:
        """Id and name, or the name alone where it tells the id."""
        is_told = self.name.endswith(f" {self.id}") and not self.name.startswith("_")  # Matplotlib hides it
        return self.name if is_told else f"{self.id} {self.name}"


class Published(BaseModel):
    """Published counts of a dataset: images; masks of each class; images with no class, one, two, ..."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: int
    masks: tuple[int, ...]
    by_classes: tuple[int, ...]


class DatasetInfo(BaseModel):
    """A dataset.

    Attributes:
        group_pattern: regular expression with one capture group, the part that a file name tells; images of
            one part stay together. Empty: names say nothing.
        group_gap: the captured part is a running number, and numbers at most this far apart are one part.
        near_duplicate: images whose fingerprints (`curation.duplicates.fingerprint`) correlate above this
            show one part. The default joins copies that were saved anew, brightened or shifted by a
            hundredth; mirrored, turned or warped ones are found by their names only.
        bits: a channel that the camera gives, where its files hold 16; 0: see `images.read_image`.
        format: in which the raw files are annotated, see `formats`; empty: mask files beside images.
        masks: how mask files are read, see `formats.masks`; empty: found out by looking at them.
        without_mask: what an image without a mask file is, where others have one.
        undo_rims: the masks were once resized with interpolation; thin rims of wrong classes between a defect
            and what it borders are given to the nearest of the two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    classes: tuple[DefectClass, ...]  # by class id, from 1 without a gap
    exclusive: bool = True  # no pixel ever belongs to two classes
    layout: Literal["2019", "current"] = "2019"  # of its CSV files, "current" lists defects only
    group_pattern: str = ""
    group_gap: int = 0
    licence: str = "not stated"
    citation: str = ""
    source: str = ""
    near_duplicate: float = 0.9
    shape: tuple[int, int] | None = None  # (height, width) of every image, where the dataset promises one
    partial: bool = False  # train.csv may label images that train_images lacks
    undo_rims: bool = False
    bits: Annotated[int, Field(ge=0, le=16)] = 0
    format: str = ""
    masks: Literal["", "colours", "index", "binary", "inverted", "instances", "alpha"] = ""
    without_mask: Literal["refused", "clean", "left out"] = "refused"
    slug: str = ""  # the competition's name in its address at Kaggle
    published: Published | None = None  # of its whole training part
    notes: tuple[str, ...] = ()  # how input/<dataset> was made and what the adapter saw

    @field_validator("classes")
    @classmethod
    def _ids_run_from_one(cls, classes: tuple[DefectClass, ...]) -> tuple[DefectClass, ...]:
        ids = [c.id for c in classes]
        if ids != list(range(1, len(ids) + 1)) or not ids:
            raise ValueError(f"class ids must run from 1 without a gap, not {ids}")
        names, reserved = [c.name for c in classes], (ALL_CLASSES, BACKGROUND)
        if len({*names, *reserved}) < len(names) + len(reserved):
            raise ValueError(f"class names must differ, and not be {reserved}: {names}")
        if odd := [name for name in names if not (name.strip() and name.isprintable() and len(name) <= 200)]:
            raise ValueError(f"a class name is a line of letters, 200 at most: {odd}")
        values = [c.id if c.value is None else c.value for c in classes]
        if len(set(values)) < len(values):
            raise ValueError(f"values (else the ids) of the classes must differ: {values}")
        colours = [c.colour for c in classes]
        if len({(0, 0, 0), *colours}) <= len(colours):
            raise ValueError(f"colours must differ, and not be black, the background's: {colours}")
        return classes

    @field_validator("group_pattern")
    @classmethod
    def _pattern_has_one_group(cls, pattern: str) -> str:
        if len(pattern) > 500:
            raise ValueError(f"group_pattern {pattern!r:.60} is too long: {len(pattern)} letters, 500 may be")
        try:
            with warnings.catch_warnings(action="ignore"):  # of what later versions may read otherwise
                groups = re.compile(pattern).groups
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"group_pattern {pattern!r}: {error}") from error
        if pattern and groups != 1:
            raise ValueError(f"group_pattern {pattern!r} needs one capture group (...), and has {groups}")
        return pattern

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the channels."""
        return [c.name for c in self.classes]

    @property
    def colours(self) -> list[Colour]:
        """Colours in the order of the channels, 0..255 RGB."""
        return [c.colour for c in self.classes]

    @property
    def shades(self) -> list[tuple[float, ...]]:
        """The colours as Matplotlib takes them, 0..1."""
        return [tuple(part / 255 for part in colour) for colour in self.colours]


@cache
def builtin_datasets() -> dict[str, DatasetInfo]:
    """The datasets that the project knows, by name."""
    texts = {p.stem: p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("dataset_infos/*.yml")}
    return {name: DatasetInfo.model_validate(read_yaml(texts[name])) for name in sorted(texts)}


def find_input(dataset: str) -> Path:
    """Find a dataset's competition folder: input/<dataset>, or where there is none what Kaggle attached."""
    own, attached = files.ROOT / "input" / dataset, Path(os.environ.get(ATTACHED, "/kaggle/input"))
    names = {dataset, getattr(builtin_datasets().get(dataset), "slug", dataset)}
    found = (p.parent for depth in range(1, 5) for p in attached.glob("*/" * depth + "train_images"))
    return own if own.exists() else next((p for p in found if names & {*p.parts}), own)


def load_dataset_info(dataset: str) -> DatasetInfo:
    """Find what is known of a dataset: the built-in description, else input/<dataset>/dataset.json.

    Of a built-in one, only what its adapter found out is taken from the file (notes, partial, layout). Before
    an adapter has run, the description of a dataset of yours is input/<dataset>/info.json.

    Raises:
        DefectmillError: there is neither, or the file does not describe a dataset.
    """
    folder, known = find_input(dataset), builtin_datasets()
    path = folder / "dataset.json"
    if dataset in known:
        found = read_dataset_info(path) if path.is_file() else known[dataset]
        return known[dataset].model_copy(update=found.model_dump(include={"notes", "partial", "layout"}))
    if path.is_file():
        return read_dataset_info(path)
    if not (folder / "info.json").is_file():
        wanted = f"your own needs {path} first, or info.json, which make new writes"
        raise DefectmillError(f"no dataset {dataset!r}{nearest(dataset, known)}; {wanted}")
    return read_dataset_info(folder / "info.json")


def read_dataset_info(path: Path) -> DatasetInfo:
    """Read a description from its JSON file; DefectmillError where it is none."""
    try:
        return DatasetInfo.model_validate_json(path.read_bytes().removeprefix(BOM_UTF8))
    except ValidationError as error:
        offences = "; ".join(map(_explain, error.errors()))
        raise DefectmillError(f"{path}: does not describe a dataset: {offences}") from error


def _explain(offence: Any) -> str:
    """Say in one line what is wrong where, from one error of pydantic's."""
    place, last = ".".join(map(str, offence["loc"])), str(offence["loc"][-1]) if offence["loc"] else ""
    if offence["type"] == "value_error":
        return f"{place}: {offence['ctx']['error']}"
    if offence["type"] == "extra_forbidden":
        kind = DefectClass if "classes" in offence["loc"] else DatasetInfo
        return f"unknown key {place!r}{nearest(last, kind.model_fields)}"
    if "colour" in offence["loc"] and (last, offence["type"]) != ("colour", "missing"):
        return f"{place} = {offence['input']!r}: a colour is [red, green, blue], whole numbers from 0 to 255"
    if isinstance(offence["input"], dict | bytes):  # all of it
        return f"{place}: {offence['msg']}".removeprefix(": ")
    return f"{place} = {offence['input']!r}: {offence['msg']}".removeprefix(" = ")


def read_yaml(text: str | bytes, as_text: bool = False) -> Any:
    """Read YAML: plain values, each written where it stands.

    as_text: all values are text: YAML takes a class called "no" for a truth value.

    Raises:
        DefectmillError: not YAML, an alias (a few lines of them mean gigabytes), a tag of a program's, a key
            twice, a value that is none, such as the date 2020-13-45, or brackets in brackets without end.
    """
    try:
        return yaml.load(text, Loader=_TextLoader if as_text else _ValueLoader)
    except Exception as error:  # its makers of dates and numbers raise nearly anything
        raise DefectmillError(f"not YAML: {' '.join(str(error).split())}") from error


class _ValueLoader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias, *{self.peek_event().anchor}: write the value itself")
        if self.depth == DEEPEST:  # its time grows with the square
            raise yaml.YAMLError("brackets in brackets without end")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node, first = super().compose_mapping_node(anchor), dict[str, Any]()
        for key, _ in node.value:
            if first.setdefault(str(key.value), key) is not key:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: {key.value!r} is there twice")
        return node

    def make_int(self, node: Any) -> int:
        number = super().construct_yaml_int(node)
        if abs(number) > 1 << 63:
            raise yaml.YAMLError("a number too large")
        return number

    yaml_constructors: ClassVar = {**yaml.SafeLoader.yaml_constructors, "tag:yaml.org,2002:int": make_int}


class _TextLoader(_ValueLoader, yaml.BaseLoader):
    yaml_constructors = yaml.BaseLoader.yaml_constructors
    yaml_implicit_resolvers = yaml.BaseLoader.yaml_implicit_resolvers


def explain_missing(name: str, image_ids: Iterable[str], home: Path) -> str:
    """Say, for the end of an error message, what there is in place of the image that a table names.

    That is a file of this name, or with another suffix, in `home` or up to two folders below; else the image
    id most like it.
    """
    last, kinds = Path(name.strip().replace("\\", "/")), " ".join(SUFFIXES)
    levels = ("", "*/", "*/*/") if last.stem.strip(".") and len(last.name) < 200 else ()
    patterns = [level + escape(last.stem) for level in levels]
    paths = [path for p in patterns for path in (*home.glob(p), *home.glob(f"{p}.*")) if path.is_file()]
    for path in sorted(paths, key=lambda path: (len(path.parts), path)):
        shown = path.relative_to(home).as_posix()
        if path.suffix.lower() not in (*SUFFIXES, *TEXTS):
            return f"; {shown} is there, but of a kind that is not read; {kinds} are"
        if last.name in (path.name, path.stem):
            return f"; {shown} is there, but it is looked for elsewhere"
    return nearest(name, image_ids)


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name, for the end of an error message; else list what is known."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    listed = ", ".join(known[:LISTED]) + ", ..." * (len(known) > LISTED)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {listed or 'none'}"
