"""Contact sheets: the pictures of an inspection on one page that needs no other file and asks for none."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from jinja2 import StrictUndefined, Template

from defectmill.dataset_info import Colour, DatasetInfo, DefectClass
from defectmill.images import encode_image, overlay, resize_image
from defectmill.viz.viewer import fit_mask

MOST = 500  # cards
MOST_BYTES = 14_000_000  # of a page
CARD_BYTES = 1500  # of a card's words
SIDE = 256  # pixels of the longer side of a thumbnail; more where the shorter would fall below LEAST
LEAST, LONGEST = 96, 640
WIDE = 2  # width over height
QUALITY = 80
TINY = 8  # pixels of a thumbnail; smaller defects get a ring of this radius
OTHERS = 100  # names of files that were not read


class Thumbnail(NamedTuple):
    """A small tinted picture: its JPEG, its size in pixels, and the name, without suffix, of its products."""

    data: bytes
    height: int
    width: int
    name: str

    @property
    def is_wide(self) -> bool:
        """Whether its card is to be as wide as two."""
        return self.width >= WIDE * self.height

    @property
    def address(self) -> str:
        """As a data: address."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode()}"


def draw_thumbnail(image: np.ndarray, masks: np.ndarray, colours: Sequence[Colour], name: str) -> Thumbnail:
    """Draw a picture small, its defects tinted, and those too small to be seen ringed.

    Args:
        image: (H, W, 3) uint8. masks: (H, W, C) uint8 in {0, 1}.
        colours: of the classes, in the order of the channels.
        name: of its products, without suffix.
    """
    height, width = image.shape[:2]
    scale = min(1, LONGEST / max(height, width), max(SIDE / max(height, width), LEAST / min(height, width)))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.dstack([fit_mask(mask, shape) for mask in np.moveaxis(masks, 2, 0)]).astype(np.uint8)
    tinted = overlay(resize_image(image, shape), small, colours)
    for mask, colour in zip(np.moveaxis(small, 2, 0), colours, strict=True):
        _, _, boxes, centres = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask), connectivity=8)
        is_tiny = boxes[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1, initial=0) < TINY
        for across, down in centres[1:][is_tiny].round().astype(int).tolist():
            cv2.circle(tinted, (across, down), TINY, colour, 1, cv2.LINE_AA)
    return Thumbnail(encode_image(tinted, ".jpg", QUALITY), *shape, name)


def render_sheet(
    pictures: pd.DataFrame,
    defects: pd.DataFrame,
    thumbnails: Mapping[str, Thumbnail],
    info: DatasetInfo,
    about: Mapping[str, str],
) -> str:
    """Render a contact sheet as an HTML page.

    Cards are as many as MOST and MOST_BYTES allow, and the page says how many are left out.

    Args:
        pictures: `prediction.inspection`'s table, in the order of the page.
        defects: its table of defects.
        thumbnails: by image id; a picture that was read and has none is left out.
        about: title, model, totals and hint, for the head.
    """
    asked = pictures[pictures["verdict"] != "skipped"]
    cards = _fill_page(asked, thumbnails)
    found = dict(iter(defects.groupby("ImageId")))
    rows = [
        (row, thumbnail, _sum_areas(found.get(row.ImageId, defects[:0]), info)) for row, thumbnail in cards
    ]
    kinds = [
        (kind, defects.loc[defects["ClassId"] == kind.id, "ImageId"].nunique(), area)
        for kind, area in _sum_areas(defects, info, 0)
    ]
    rest = asked["verdict"][len(cards) :].value_counts(sort=False).to_dict()
    others = pictures.loc[pictures["verdict"] == "skipped", ["ImageId", "reason"]].to_numpy().tolist()
    template = Template(
        Path(__file__).with_name("contact_sheet.html.j2").read_text(encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return template.render(
        about=about,
        cards=rows,
        kinds=kinds,
        rest=rest,
        others=others,
        limit=OTHERS,
        mostly_wide=2 * sum(bool(thumbnail and thumbnail.is_wide) for _, thumbnail in cards) > len(cards),
    )


def _fill_page(
    pictures: pd.DataFrame, thumbnails: Mapping[str, Thumbnail]
) -> list[tuple[Any, Thumbnail | None]]:
    """Pair the first pictures with their thumbnails, as many as fit."""
    cards: list[tuple[Any, Thumbnail | None]] = []
    room = MOST_BYTES
    for row in pictures.itertuples():
        thumbnail = thumbnails.get(row.ImageId)
        room -= CARD_BYTES + len(thumbnail.address if thumbnail else "")
        is_left_out = thumbnail is None and row.verdict != "unreadable"
        if len(cards) == MOST or room < 0 or is_left_out:
            break
        cards.append((row, thumbnail))
    return cards


def _sum_areas(defects: pd.DataFrame, info: DatasetInfo, least: int = 1) -> list[tuple[DefectClass, int]]:
    """Each class with the pixels of its defects, where there are at least so many."""
    areas = defects.groupby("ClassId")["area"].sum().to_dict()
    return [(kind, n) for kind in info.classes if (n := int(areas.get(kind.id, 0))) >= least]
