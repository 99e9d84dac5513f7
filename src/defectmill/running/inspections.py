"""Inspections: pictures in, an `Inspection` out, which tells what was found and can be saved.

Notebook 06 makes one step by step; `inspect` does it in one call.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from tqdm import tqdm

from defectmill.config import Experiment
from defectmill.curation import drift
from defectmill.dataset_info import DatasetInfo
from defectmill.files import is_text
from defectmill.images import ImageError, colours_from_masks, overlay, read_image, write_image
from defectmill.labels import draw_runs, masks_to_labels, runs_by_image, write_labels
from defectmill.prediction import inspection, line
from defectmill.prediction.postprocess import ClassThreshold, Maps, make_masks
from defectmill.prediction.thresholds import read_thresholds
from defectmill.prediction.tiles import shown_shape
from defectmill.products.stored import load_trained
from defectmill.viz import contact_sheet

ROWS = 25  # of the table on the terminal
NAME, WORDS = 32, 40  # letters of its first and last column
Images = str | Path | Sequence[str | Path] | Sequence[np.ndarray]


@dataclass(frozen=True, repr=False)
class Inspection:
    """What was found in some pictures.

    pictures: a row a picture, see `prediction.inspection.PICTURE_COLUMNS`. defects: a row a connected
    component, see its COLUMNS. labels: label table. hint: how the pictures differ from those of the training,
    "" where they do not. about: title of the pictures and what the model is. source: the folder of the
    pictures, if they are files. read: gives a picture by its id, (H, W, 3) uint8.
    """

    pictures: pd.DataFrame
    defects: pd.DataFrame
    labels: pd.DataFrame
    info: DatasetInfo
    hint: str
    about: tuple[str, str]
    source: Path | None
    read: Callable[[str], np.ndarray]

    def __repr__(self) -> str:
        return f"Inspection({self.totals})"

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """The masks of every picture that was read: {image id: (H, W, C) uint8 in {0, 1}}."""
        return dict(self.draw_masks())

    @property
    def totals(self) -> str:
        """How many pictures there are of each verdict, in one line."""
        counts = self.pictures["verdict"].value_counts()
        ok, found, unread, skipped = (
            int(counts.get(verdict, 0))
            for verdict in (inspection.OK, inspection.DEFECT, inspection.UNREADABLE, inspection.SKIPPED)
        )
        told = f"{_count(ok + found + unread, 'picture')}: {ok} OK, {found} with defects"
        told += f", {unread} unreadable" * bool(unread)
        if "ok_ng" in self.pictures:
            told += f"; {int((self.pictures['ok_ng'] == 'NG').sum())} NG"
        return told + f"; {_count(skipped, 'file')} skipped" * bool(skipped)

    def report(self) -> str:
        """The pictures as a table for a terminal, defects first, then totals and hint."""
        return "\n".join(filter(None, [format_table(self.pictures), self.totals, self.hint]))

    def draw_masks(self) -> Iterator[tuple[str, np.ndarray]]:
        """Draw the masks of one picture after the other."""
        runs = runs_by_image(self.labels)
        read = self.pictures.dropna(subset="height")
        for image_id, *shape in read[["ImageId", "height", "width"]].itertuples(index=False):
            yield image_id, draw_runs(runs.get(image_id, {}), shape, self.info.n_classes, image_id)

    def save(self, folder: str | Path) -> Path:
        """Write masks/, overlays/, runs.csv, defects.csv, pictures.csv and index.html; give the folder.

        ConfigError where `folder` holds what no inspection wrote and would be written over.
        """
        target = inspection.check_target(Path(folder).expanduser().absolute(), self.source)
        ordered, colours = inspection.order_pictures(self.pictures), self.info.colours
        names = inspection.name_products(ordered.dropna(subset="height")["ImageId"])
        shown, thumbnails = {*list(names)[: contact_sheet.MOST]}, {}
        with inspection.write_inspection(target) as work:
            for image_id, masks in self.draw_masks():
                image, name = self.read(image_id), names[image_id]
                write_image(work / "masks" / f"{name}.png", colours_from_masks(masks, colours))
                write_image(work / "overlays" / f"{name}.jpg", overlay(image, masks, colours))
                if image_id in shown:
                    thumbnails[image_id] = contact_sheet.draw_thumbnail(image, masks, colours, name)
            write_labels(self.labels, work / "runs.csv", self.info.layout)
            for table, stem in ((self.defects, "defects"), (self.pictures, "pictures")):
                table.round(4).to_csv(work / f"{stem}.csv", index=False, lineterminator="\n")
            title, model = self.about
            about = {
                "title": f"Inspection: {title}",
                "model": model,
                "totals": self.totals,
                "hint": self.hint,
            }
            page = contact_sheet.render_sheet(ordered, self.defects, thumbnails, self.info, about)
            (work / "index.html").write_text(page, encoding="utf-8")
        return target


def inspect(images: Images, model: str | Path) -> Inspection:
    """Find the defects in pictures; see `defectmill.inspect`."""
    run = load_trained(model)
    inspection.check_model(run)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with TemporaryDirectory() as spare:
        listing, arrays = _list_images(images, Path(spare))
        # They load TensorFlow, which a refusal must not wait for.
        from defectmill.models import load_networks
        from defectmill.prediction.inference import predict_folder

        networks = load_networks(run, "infer")
        maps = predict_folder(networks, listing.folder, listing.image_ids, listing.unreadable)
        found = collect(maps, read_thresholds(run.output / "thresholds.json"), listing, run)
    if not arrays:
        return found
    colour = {image_id: np.repeat(array, 3 // array.shape[2], axis=2) for image_id, array in arrays.items()}
    about = _count(len(arrays), "picture"), found.about[1]
    return replace(found, about=about, source=None, read=colour.__getitem__)


def collect(
    maps: Maps, thresholds: Sequence[ClassThreshold], listing: inspection.Listing, run: Experiment
) -> Inspection:
    """Turn probability maps into masks, and tell what they hold, one picture after the other.

    Args:
        maps: of the pictures of `listing`; whoever makes them names those that are unreadable there.
        thresholds: one a class.
    """
    info, data, differences = run.info, run.load_parts()[0].data, []
    training = drift.read_statistics(run.output / "training_statistics.json")
    rows, tables, defects = list[dict](), [masks_to_labels([])], list[dict]()
    for image_id, probs in _show_progress(maps, len(listing.image_ids)):
        try:  # it may be gone since
            image = read_image(listing.folder / image_id, data.channels, info.bits)
        except ImageError as error:
            listing.unreadable[image_id] = str(error)
            continue
        probs = line.restrict(probs, run.line)
        masks = make_masks(probs, thresholds, info.exclusive)
        found = inspection.list_defects(image_id, masks, probs, info, run.line.mm_per_pixel)
        rows.append(inspection.describe_picture(image_id, masks, probs, found))
        tables.append(masks_to_labels([(image_id, masks)]))
        defects += found.to_dict("records")
        if training:
            measures = drift.measure_image(image, data, shown_shape)
            differences.append(drift.find_differences(measures, training))
            rows[-1]["unlike_training"] = drift.describe_differences(differences[-1], training)
    missing = "whether the pictures are like those of the training is not known: "
    missing += f"training_statistics.json is missing, `make predict EXPERIMENT={run.name}` writes it"
    sizes = line.SIZES if run.line.mm_per_pixel else ()
    return Inspection(
        pictures=line.judge(inspection.make_picture_table(rows, listing), defects, run.line),
        defects=pd.DataFrame(defects, columns=[*inspection.COLUMNS, *sizes]),
        labels=pd.concat(tables, ignore_index=True),
        info=info,
        hint=drift.describe_folder(differences, training) if training else missing,
        about=(listing.folder.name, f"Experiment {run.name}: {info.title}"),
        source=listing.folder,
        read=lambda image_id: read_image(listing.folder / image_id, 3, info.bits),
    )


def format_table(pictures: pd.DataFrame, most: int = ROWS) -> str:
    """Format `most` pictures as a table for a terminal, defects and what could not be read first."""
    ordered = inspection.order_pictures(pictures)
    unread = ordered[ordered["verdict"] == inspection.UNREADABLE][: most // 5]
    shown = pd.concat([ordered.drop(unread.index)[: most - len(unread)], unread])
    lines = [("picture", "verdict", "pixels", "%", "probability", "defects", "")]
    for row in inspection.order_pictures(shown).itertuples():
        last = row.reason or f"{row.classes}{' (unlike the training)' * bool(row.unlike_training)}".strip()
        numbers = [""] * 4
        if not row.reason:
            share = f"{row.area_percent:.2f}" if row.area else ""
            numbers = [f"{row.area:,}", share, f"{row.largest_probability:.2f}", str(row.components)]
        lines.append((_shorten(row.ImageId, NAME, True), row.verdict, *numbers, _shorten(last, WORDS)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if place in (0, 1, 6) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    left = len(ordered) - most
    return "\n".join([*aligned, *[f"... and {left} more in pictures.csv"] * (left > 0)])


def _list_images(images: Images, spare: Path) -> tuple[inspection.Listing, dict[str, np.ndarray]]:
    """List pictures of whatever kind; arrays, which are given back by image id, are written to `spare`."""
    if isinstance(images, str | Path):
        path = Path(images).expanduser().absolute()
        if not path.is_file():
            return inspection.require_pictures(path), {}
        images = [path]
    some = list(images) if isinstance(images, Iterable) else []
    if isinstance(images, np.ndarray) or not some:
        raise ImageError("give a folder, a list of paths or a list of arrays, with a picture in it")
    for number, one in enumerate(some):
        if not isinstance(one, str | Path | np.ndarray):
            wanted = (
                "a path or an array is wanted, such as np.array(picture.convert('RGB')) of one of Pillow's"
            )
            raise ImageError(f"picture {number}: {wanted}, not {type(one).__name__}")
    if not any(isinstance(one, np.ndarray) for one in some):
        paths = [Path(one).expanduser().absolute() for one in some]  # type: ignore[arg-type]
        common = Path(os.path.commonpath([path.parent for path in paths]))
        ids = dict.fromkeys(path.relative_to(common).as_posix() for path in paths)
        if odd := [one for one in ids if not is_text(one)]:
            raise ImageError(f"{odd[0]!a}: its path is no line of text in UTF-8; rename it")
        return inspection.Listing(common, list(ids)), {}
    arrays = {}
    for number, one in enumerate(some):
        array = np.asarray(one)
        shaped = array[:, :, None] if array.ndim == 2 else array
        if shaped.dtype != np.uint8 or shaped.ndim != 3 or shaped.shape[2] not in (1, 3) or not shaped.size:
            told = f"{array.dtype} of shape {array.shape}"
            raise ImageError(f"picture {number}: (H, W), (H, W, 1) or (H, W, 3) uint8 is wanted, not {told}")
        image_id = f"picture_{number:0{len(str(len(some) - 1))}}.png"
        arrays[image_id] = shaped
        write_image(spare / image_id, shaped)
    return inspection.Listing(spare, list(arrays)), arrays


def _show_progress(maps: Maps, total: int) -> Iterator[tuple[str, np.ndarray]]:
    """Pass maps on and count them on the terminal, whose name make gives; where there is none, silently."""
    with ExitStack() as stack:
        file = sys.stderr
        with suppress(OSError):
            terminal = os.open(os.environ.get("DEFECTMILL_TERMINAL", ""), os.O_WRONLY | os.O_NOCTTY)
            file = stack.enter_context(os.fdopen(terminal, "w"))
        yield from tqdm(maps, total=total, unit="picture", file=file, disable=None, delay=5, leave=False)


def _shorten(text: str, most: int, keep_end: bool = False) -> str:
    if len(text) <= most:
        return text
    return f"...{text[3 - most :]}" if keep_end else f"{text[: most - 3]}..."


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
