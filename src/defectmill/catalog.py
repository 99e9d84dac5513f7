"""The catalog: the cards of the datasets that the project knows."""

from defectmill.cards import Card, DefectClass, Published


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
