"""The viewer without a browser: a control is set, the picture that it shows is read back."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from defectmill.images import write_image
from defectmill.labels import masks_to_labels
from defectmill.viz.viewer import SHAPE, Viewer, find_part, fit_mask, view_images
from fake_competition import COLOURS, make_info


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Grey pictures: a.png with class 1 top left and class 2 bottom right, b.png clean, c.png
    with class 2."""
    monkeypatch.setenv("DEFECTMILL_UNATTENDED", "")
    masks = {name: np.zeros((40, 100, 2), np.uint8) for name in ("a.png", "b.png", "c.png")}
    masks["a.png"][4:16, 8:40, 0] = 1
    masks["a.png"][25:38, 60:95, 1] = 1
    masks["c.png"][10:20, 10:20, 1] = 1
    for level, name in enumerate(masks):
        write_image(tmp_path / name, np.full((40, 100), 90 + 20 * level, np.uint8))
    return tmp_path, masks_to_labels(masks.items()), make_info()


def shown(viewer: Viewer) -> np.ndarray:
    """(H, W, 3) red-green-blue int."""
    picture = cv2.imdecode(np.frombuffer(viewer.picture.value, np.uint8), cv2.IMREAD_COLOR)
    return picture[:, :, ::-1].astype(int)


def shares(viewer: Viewer) -> list[float]:
    """How much of the picture each class's colour covers, with opacity at 1."""
    return [float((np.abs(shown(viewer) - colour).max(axis=2) < 40).mean()) for colour in COLOURS[:2]]


def test_each_control_changes_the_picture(data):
    viewer = Viewer(*data)
    before = viewer.picture.value
    for control, value in (
        (viewer.number, 3),
        (viewer.opacity, 0.9),
        (viewer.zoom, 2),
        (viewer.across, 0.0),
        (viewer.down, 0.0),
        (viewer.classes[1], False),
    ):
        control.value = value
        assert viewer.picture.value != before, control
        before = viewer.picture.value


def test_a_class_switched_off_takes_its_colour_and_no_other(data):
    viewer = Viewer(*data)
    viewer.opacity.value = 1.0
    whole = 40 * 100
    assert shares(viewer) == pytest.approx([12 * 32 / whole, 13 * 35 / whole], abs=0.01)
    viewer.classes[0].value = False
    assert shares(viewer) == pytest.approx([0, 13 * 35 / whole], abs=0.01)
    viewer.classes[0].value, viewer.classes[1].value = True, False
    assert shares(viewer) == pytest.approx([12 * 32 / whole, 0], abs=0.01)


def test_zoom_enlarges_a_part_and_keeps_the_size_on_the_screen(data):
    viewer = Viewer(*data)
    viewer.opacity.value, viewer.zoom.value = 1.0, 2
    viewer.down.value = viewer.across.value = 0.0
    assert shown(viewer).shape == (440, 1100, 3)
    assert shares(viewer) == pytest.approx([12 * 32 / (20 * 50), 0], abs=0.02)
    assert viewer.caption.value == "a.png: 40 x 100, rows 0 to 19, columns 0 to 49"
    viewer.down.value = viewer.across.value = 1.0
    assert shares(viewer)[0] == 0
    assert viewer.caption.value == "a.png: 40 x 100, rows 20 to 39, columns 50 to 99"


def test_images_can_be_those_of_a_class_or_clean(data):
    viewer = Viewer(*data)
    assert [name for name, _ in viewer.kind.options] == ["all", "bar 1", "bar 2", "clean"]
    viewer.number.value = 3
    assert viewer.caption.value.startswith("c.png")
    viewer.kind.label = "bar 2"
    assert (viewer.number.value, viewer.number.max) == (1, 2)
    assert viewer.caption.value.startswith("a.png")
    viewer.number.value = 2
    assert viewer.caption.value.startswith("c.png")
    viewer.kind.label = "clean"
    assert viewer.caption.value.startswith("b.png")


def test_a_class_nobody_has_is_not_offered(data):
    folder, labels, _ = data
    viewer = Viewer(folder, labels, make_info(n_classes=3))
    assert "bar 3" not in [name for name, _ in viewer.kind.options]


def test_a_picture_that_cannot_be_read_says_so_and_the_next_is_shown(data):
    viewer = Viewer(*data)
    (data[0] / "b.png").write_bytes(b"no picture")
    viewer.number.value = 2
    assert "b.png: not a readable image" in viewer.caption.value
    viewer.number.value = 3
    assert viewer.caption.value.startswith("c.png: 40 x 100")


def test_large_pictures_are_shrunk_to_the_screen(data, tmp_path):
    write_image(tmp_path / "b.png", np.full((2048, 2560), 50, np.uint8))
    viewer = Viewer(*data)
    viewer.number.value = 2
    assert shown(viewer).shape == (SHAPE[0], 800, 3)


@pytest.mark.parametrize(
    ("zoom", "down", "across", "part"),
    [
        (1, 0.7, 0.2, (slice(0, 5), slice(0, 9))),
        (2, 0.0, 1.0, (slice(0, 3), slice(4, 9))),
        (4, 1.0, 0.5, (slice(3, 5), slice(3, 6))),
        (16, 0.0, 0.0, (slice(0, 1), slice(0, 1))),
    ],
)
def test_part_lies_inside_the_picture(zoom, down, across, part):
    assert find_part((5, 9), zoom, down, across) == part


def test_a_defect_of_one_pixel_survives_shrinking():
    mask = np.zeros((600, 1500), np.uint8)
    mask[333, 777] = 1
    small = fit_mask(mask, (20, 50))
    assert small.shape == (20, 50)
    assert small.sum() == small[11, 25] == 1


def test_a_mask_grown_has_whole_pixels():
    mask = np.array([[1, 0, 1], [0, 1, 0]], np.uint8)
    np.testing.assert_array_equal(fit_mask(mask, (4, 9)), mask.repeat(2, 0).repeat(3, 1))


def test_live_it_is_a_widget_and_by_make_a_figure(data, monkeypatch):
    from ipywidgets import VBox

    assert isinstance(view_images(*data), VBox)
    monkeypatch.setenv("DEFECTMILL_UNATTENDED", "1")
    figure = view_images(*data)
    assert isinstance(figure, Figure)
    assert [axes.get_title() for axes in figure.axes] == ["a.png", "c.png", "b.png"]
    assert plt.get_fignums() == []
