"""Census: a label table compared with what is published of the whole dataset."""

from collections.abc import Iterator

import pandas as pd

from defectmill.audit.findings import Finding
from defectmill.cards import Card

CHANCE = 3  # standard deviations of a share, beyond which a part is no random one


def compare_published(written: pd.DataFrame, image_ids: pd.Series, card: Card) -> Iterator[Finding]:
    """Compare train.csv as it stands; nothing where the card has no published numbers.

    Shares are those of the images with a defect: a file of the current layout lists no others.

    Args:
        written: ImageId, ClassId, EncodedPixels; image_ids: the files there are.
    """
    whole = card.published
    if not whole:
        return
    files = set(image_ids)
    has = written[written["EncodedPixels"] != ""]
    n_images = len(files | set(written["ImageId"]))
    masks = [int((has["ClassId"] == kind.id).sum()) for kind in card.classes]
    of_each = ", ".join(f"{m} of {w}" for m, w in zip(masks, whole.masks, strict=True))
    yield Finding(
        "published images that train.csv lacks",
        f"{n_images} of {whole.images} are here; masks by class: {of_each}", [],
        whole.images - n_images,
    )  # fmt: skip
    counts = has["ImageId"].value_counts(sort=False)
    several = counts[counts > 1]
    share, n_defects = len(several) / max(1, len(counts)), sum(whole.by_classes[1:])
    expected = sum(whole.by_classes[2:]) / n_defects
    spread = (expected * (1 - expected) / max(1, len(counts))) ** 0.5
    is_many = share > expected + CHANCE * spread
    yield Finding(
        "images with several classes, more than published",
        f"{len(several)} of {len(counts)} images with a defect ({share:.1%}); published "
        f"{expected:.1%} of {n_defects}{': no random part, trust no share of it' * is_many}",
        [("train" if i in files else "", i, n, "") for i, n in several.items()] if is_many else [],
    )  # fmt: skip
