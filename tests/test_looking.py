"""What is drawn, what is said of it, and that nobody's settings change it."""

import base64
import io
from unittest.mock import Mock

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.testing import assert_allclose, assert_array_equal

import mf_solutions as mf


@pytest.fixture
def shown(monkeypatch):
    """Return what is shown: figures, and what they say."""
    shown = []
    monkeypatch.setattr(mf, "show_figure", lambda *figure_and_text: shown.append(figure_and_text))
    return shown


@pytest.fixture
def displayed(monkeypatch):
    """Return what a notebook is given: the data of each output, and what is said about them."""
    calls = []
    monkeypatch.setattr("IPython.get_ipython", Mock())
    monkeypatch.setattr("IPython.display.display", lambda data, **how: calls.append((data, how)))
    return calls


def pictures(figure):
    """Return the images of each row, left to right, and the axes of the first."""
    axes = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    grid = axes[0].get_gridspec()
    drawn = []
    for axis in axes:
        drawn.append(axis.images[0] if axis.images else None)
    rows = [drawn[i : i + grid.ncols] for i in range(0, len(drawn), grid.ncols)]
    return rows, axes[: grid.ncols]


def colours(image):
    return image.cmap(image.norm(image.get_array()))


# Faces


def test_faces_are_drawn_row_by_row_on_one_scale(shown):
    wide, small = np.arange(12.0).reshape(3, 4), np.array([[0.0, 22, 11, np.nan]])
    mf.show_faces({"wide": wide, "small": small}, "Faces", names="abc")
    ((figure, text),) = shown
    (top, bottom), first = pictures(figure)
    for image, expected in zip(top, wide.reshape(3, 2, 2)):
        assert_array_equal(image.get_array(), expected)
        assert image.get_clim() == (0, 22) and image.cmap.name == "gray"
    assert_allclose(colours(bottom[0])[0, :, 0], [0, 1], atol=0.01)
    red, green, blue, _ = colours(bottom[0])[1, 1]
    assert red > 0.8 > green > blue  # orange: no face has it
    assert bottom[1:] == [None, None]
    assert [text.get_text() for text in figure.texts] == ["Faces"]
    assert [axis.get_title() for axis in first] == ["a", "b", "c"]
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["wide", "small"]
    assert text == (
        "Faces: a, b, c. wide: 3 of 2 x 2 pixels, values 0.00 to 11.00. "
        "small: 1 of 2 x 2 pixels, values 0.00 to 22.00."
    )


def test_signed_faces_are_blue_below_zero_and_red_above(shown):
    mf.show_faces([[-2.0, 0, 0, 1]], "E", signed=True)
    ((figure, _),) = shown
    ((image,),), _ = pictures(figure)
    red, _, blue, _ = np.moveaxis(colours(image), -1, 0)
    redder = np.round(red - blue, 1)
    assert_array_equal(np.sign(redder), [[-1, 0], [0, 1]])
    assert figure.axes[-1].get_ylim() == (-2, 2)


def test_rounding_below_zero_is_written_as_zero(shown):
    mf.show_faces([[-1e-4, 2, 3, 4]], "Basis")
    ((_, text),) = shown
    assert text == "Basis. Images: 1 of 2 x 2 pixels, values 0.00 to 4.00."


def test_zero_is_white_where_all_is_zero(shown):
    mf.show_faces(np.zeros((1, 4)), "Nothing", signed=True)
    ((figure, _),) = shown
    ((image,),), _ = pictures(figure)
    assert colours(image).min() > 0.9


def test_what_is_masked_is_not_shown(shown):
    mf.show_faces(np.ma.array([[1.0, 2, 3, 9]], mask=[[0, 0, 0, 1]]), "Masked")
    ((figure, text),) = shown
    assert text.endswith("values 1.00 to 3.00.")


STACK = np.random.RandomState(0).rand(3, 16, 16)


@pytest.mark.parametrize("rows", [STACK, STACK.reshape(3, 256), STACK.reshape(3, 256).tolist()])
def test_a_stack_may_be_flat_or_not(shown, rows):
    mf.show_faces(rows, "Three")
    ((figure, _),) = shown
    (images,), _ = pictures(figure)
    for image, expected in zip(images, STACK, strict=True):
        assert_array_equal(image.get_array(), expected)


@pytest.mark.parametrize("one", [STACK[0], STACK[0].ravel(), STACK[:1]])
def test_one_image_is_one_image(shown, one):
    mf.show_faces({"one": one}, "One")
    ((figure, _),) = shown
    ((image,),), _ = pictures(figure)
    assert_array_equal(image.get_array(), STACK[0])


NO_STACKS = [(256, 1), (256, 2), (256, 4), (256, 9), (100, 256), (3, 15), (3, 4, 5), (1, 1), (5,)]


@pytest.mark.parametrize("shape", [*NO_STACKS, (), (0, 4)])
def test_what_is_no_stack_of_squares_is_refused_with_a_way_out(shown, shape):
    rows = {"basis": np.zeros(shape)}
    message = "^basis must hold .* images.*pass Q.T"
    with pytest.raises(ValueError, match=message) as caught:
        mf.show_faces(rows, "t")
    assert f"got shape {shape}" in str(caught.value)
    assert not shown


# Curves


def test_each_curve_has_its_numbers_in_the_text_and_its_own_look(shown):
    curves = {"dips": [4.0, 1, 2], "peaks": ([10, 20, 30], [1.0, 9, 5])}
    curves["long"] = np.linspace(1, 3, 201)
    mf.show_curves(curves, "Race", "step", "error", yscale="log")
    ((figure, text),) = shown
    (axis,) = figure.axes
    dips, peaks, long = axis.lines
    assert dips.get_xydata().tolist() == [[0, 4], [1, 1], [2, 2]]
    assert peaks.get_xydata().tolist() == [[10, 1], [20, 9], [30, 5]]
    assert dips.get_marker() and peaks.get_marker()
    assert not long.get_marker()
    lines = dips, peaks, long
    assert len({line.get_color() for line in lines}) == 3
    assert len({line.get_linestyle() for line in lines}) == 3
    assert axis.get_title() == "Race" and axis.get_yscale() == "log"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("step", "error")
    assert text == (
        "Race: error against step. dips: 4 at 0, 1 at 1, 2 at 2. "
        "peaks: 1 at 10, 9 at 20, 5 at 30. long: 1 at 0, 1.02 at 2, 1.2 at 20, 3 at 200."
    )


def test_a_series_is_drawn_in_its_order_whatever_its_index(shown):
    pandas = pytest.importorskip("pandas")
    mf.show_curves({"a": pandas.Series([3.0, 1, 2], index=[2, 1, 0])}, "t", "x", "y")
    ((figure, text),) = shown
    assert "a: 3 at 0, 1 at 1, 2 at 2." in text
    assert figure.axes[0].lines[0].get_ydata().tolist() == [3, 1, 2]


def test_a_legend_names_the_curves_in_their_own_order(shown):
    curves = {"up": [0, 1, 9], "down": [9, 4, 0]}
    mf.show_curves(curves, "t", "x", "y")
    ((figure, _),) = shown
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["up", "down"]


def test_a_single_point_is_a_marker_without_a_line(shown):
    curves = {"point": ([4], [2.0]), "curve": np.arange(30.0)}
    mf.show_curves(curves, "t", "x", "y")
    ((figure, _),) = shown
    point, curve = figure.axes[0].lines
    assert point.get_linestyle() == "None"
    assert point.get_marker() not in ("", "None")
    (legend,) = figure.legends
    for handle, line in zip(legend.get_lines(), (point, curve), strict=True):
        assert handle.get_linestyle() == line.get_linestyle()


def test_numbers_are_written_as_in_prose(shown):
    curves = {"a": [1e-5, 1e-4, 123456.7], "b": ([1, 20000, 12345678], [0.5, 1 / 3, np.inf])}
    scales = {"xscale": "log", "yscale": "log"}
    mf.show_curves(curves, "t", "x", "y", **scales)
    ((figure, text),) = shown
    assert "a: 0.00001 at 0, 0.0001 at 1, 123500 at 2." in text
    assert "b: 0.5 at 1, 0.3333 at 20000, inf at 12345678." in text
    (axis,) = figure.axes
    for side in (axis.xaxis, axis.yaxis):
        assert side.get_major_formatter()(0.01) == "0.01"
        assert side.get_major_formatter()(1000) == "1000"


# The picture


def draw_all():
    half = np.where(STACK > 0.5, np.nan, STACK)
    rows = {"faces": STACK[:2], "half": half}
    mf.show_faces(rows, "Faces", names=["a", "b", "c"])
    mf.show_faces(STACK - 0.5, "Signed", signed=True)
    curves = {"up": [0, 1, 9], "level": ([0, 2], [5, 5])}
    mf.show_curves(curves, "Curves", "step", "error")


SETTINGS = {
    "savefig.format": "pdf",
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "image.origin": "lower",
    "image.cmap": "hot",
    "axes.grid": True,
    "text.usetex": True,
    "font.family": "serif",
    "figure.facecolor": "black",
}


@pytest.mark.parametrize("style", [SETTINGS, "dark_background", "ggplot", "seaborn-v0_8-whitegrid"])
def test_nobodys_settings_change_a_figure(displayed, style):
    draw_all()
    expected = displayed.copy()
    displayed.clear()
    with matplotlib.style.context(style):
        before = dict(matplotlib.rcParams)
        draw_all()
        assert dict(matplotlib.rcParams) == before
    assert displayed == expected


def test_larger_letters_are_followed(shown):
    for size in (8, 20):
        with matplotlib.rc_context({"font.size": size}):
            draw_all()
    sizes = [figure.axes[0].yaxis.label.get_size() for figure, _ in shown]
    assert sizes == [10, 10, 10, 20, 20, 20]


def test_a_figure_is_shown_twice_as_dense_as_the_page_and_with_its_text(displayed):
    mf.show_figure(Figure((3, 2)), "Nothing < yet.")
    (data, how), (below, _) = displayed
    words = "<details><summary>The figure in words</summary>Nothing &lt; yet.</details>"
    assert below == {"text/html": words}
    assert data.keys() == {"image/png", "text/plain"}
    assert data["text/plain"] == "Nothing < yet."
    content = base64.b64decode(data["image/png"])
    picture = imread(io.BytesIO(content))
    assert picture.shape == (400, 600, 4)
    about = {"alt": "Nothing < yet.", "width": 300}
    assert how == {"metadata": {"image/png": about}, "raw": True}


def test_in_a_plain_script_a_figure_is_its_text(capsys):
    mf.show_faces(STACK, "Three")
    assert capsys.readouterr().out == "Three. Images: 3 of 16 x 16 pixels, values 0.00 to 1.00.\n"
