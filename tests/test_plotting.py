from __future__ import annotations

import base64
import io
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from physml import plotting
from physml.errors import ShapeError

matplotlib.use("agg")

KAPPA = torch.tensor([4.0, 4.4, 4.4, 5.4])


@pytest.fixture
def ax():
    with plotting.style():
        figure, ax = plt.subplots()
        yield ax
        figure.canvas.draw()
    plt.close("all")


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def horizontal(ax):
    """Lines right across, as (height, style)."""
    lines = [line for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    return [(float(line.get_ydata()[0]), line.get_linestyle()) for line in lines]


# --- style


def test_style_ends_with_its_block():
    before = dict(matplotlib.rcParams)
    with plotting.style(figure_dpi=77):
        assert matplotlib.rcParams["figure.dpi"] == 77
        assert matplotlib.rcParams["figure.constrained_layout.use"]
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(RuntimeError), plotting.style():
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


def test_style_decorates_a_function():
    @plotting.style()
    def size():
        return matplotlib.rcParams["font.size"]

    before = matplotlib.rcParams["font.size"]
    assert size() == size() == 12
    assert matplotlib.rcParams["font.size"] == before


def test_style_does_not_depend_on_the_readers_settings():
    with plotting.style():
        plain = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 40, "text.color": "red"}):
        with plotting.style():
            assert dict(matplotlib.rcParams) == plain
        assert matplotlib.rcParams["font.size"] == 40


def test_unknown_setting_is_named():
    with pytest.raises(ValueError, match="no_such_thing"), plotting.style(no_such_thing=1):
        pass


def test_figures_are_opaque_and_white():
    with plotting.style():
        figure = plt.figure()
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())
    plt.close(figure)
    assert (pixels == 255).all()
    assert pixels.shape == (345, 614, 4)


def test_import_brings_no_matplotlib():
    code = "import sys, physml.plotting, physml.flipbook; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_colours_are_legible_on_white_and_differ_in_grey():
    grey = {
        role: np.dot(to_rgb(c), (0.2126, 0.7152, 0.0722)) for role, c in plotting.COLOURS.items()
    }
    assert max(grey.values()) < 0.75
    lines = sorted(grey[role] for role in ("exact", "learned", "cutoff"))
    assert min(np.diff(lines)) > 0.05
    with pytest.raises(TypeError):
        plotting.COLOURS["exact"] = "red"


# --- spectrum


def test_spectrum_marks_levels_over_dashes_and_a_solid_cutoff(ax):
    levels = torch.tensor([4.1, 4.3, 4.5, 9.0], requires_grad=True)
    plotting.spectrum(ax, levels, exact=KAPPA, cutoff=torch.tensor(9.0), error=[0.1] * 4)
    markers = next(line for line in ax.lines if line.get_marker() == "o")
    assert list(markers.get_xdata()) == [1, 2, 3, 4]
    np.testing.assert_array_equal(markers.get_ydata(), levels.detach().numpy().astype(float))
    dashes = next(c for c in ax.collections if c.get_label().startswith("exact"))
    segments = np.array(dashes.get_segments())
    np.testing.assert_allclose(segments[:, :, 1], KAPPA[:, None].expand(4, 2), rtol=1e-7)
    np.testing.assert_allclose(segments[:, :, 0].mean(1), [1, 2, 3, 4])
    assert dashes.get_linestyle()[0][1] is not None, "the exact levels are dashed"
    assert horizontal(ax) == [(9.0, "-")]
    assert labels(ax) == [r"exact $\kappa_\alpha$", r"cut-off $\mu^2$", r"learned $\lambda_\alpha$"]


def test_spectrum_takes_several_sets(ax):
    plotting.spectrum(ax, [1, 2, 3], label="a")
    plotting.spectrum(ax, np.array([1.5, 2.5]), label="b", colour="#009E73", marker="s")
    assert labels(ax) == ["a", "b"]
    assert [to_hex(line.get_color()).upper() for line in ax.lines] == ["#0072B2", "#009E73"]


# --- trajectories


def test_trajectories_are_one_line_a_mode(ax):
    times = torch.linspace(0, 1, 7)
    values = torch.rand(7, 4, generator=torch.Generator().manual_seed(1))
    plotting.trajectories(ax, times, values, exact=KAPPA, cutoff=9)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 7]
    drawn = np.array([line.get_ydata() for line in curves])
    np.testing.assert_array_equal(drawn, values.T.double().numpy())
    assert horizontal(ax) == [*((pytest.approx(float(k)), "--") for k in KAPPA), (9.0, "-")]
    assert labels(ax) == [r"exact $\kappa_\alpha$", r"cut-off $\mu^2$", r"learned $\lambda_\alpha$"]
    light = [np.dot(to_rgb(line.get_color()), (0.2126, 0.7152, 0.0722)) for line in curves]
    assert light == sorted(light), "dark is first"


def test_one_mode_is_drawn(ax):
    plotting.trajectories(ax, [0, 1], [[1.0], [2.0]])
    assert len(ax.lines) == 1


# --- images


def test_images_share_a_scale():
    stack = torch.arange(5 * 6 * 4, dtype=torch.float64).reshape(5, 6, 4)
    figure = plotting.images(stack, 3, labels=list("abcde"))
    pictures = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(figure.axes) == 6 and len(pictures) == 5
    for picture, expected in zip(pictures, stack, strict=True):
        np.testing.assert_array_equal(picture.get_array(), expected)
        assert picture.get_clim() == (0, 119)
        assert picture.cmap.name == "Greys"
    assert [ax.get_title() for ax in figure.axes] == [*"abcde", ""]
    figure.canvas.draw()
    plt.close(figure)


def test_signed_images_have_zero_in_white():
    figure = plotting.images(torch.tensor([[[-1.0, 0.0]], [[0.5, 3.0]]]))
    picture = figure.axes[0].images[0]
    assert picture.get_clim() == (-3, 3)
    assert min(picture.to_rgba(np.zeros((1, 1)))[0, 0]) > 0.95
    figure = plotting.images(torch.ones(1, 2, 2), signed=True, limits=(-2, 2))
    assert figure.axes[0].images[0].get_clim() == (-2, 2)
    plt.close("all")


def test_bytes_of_a_data_set_are_drawn():
    figure = plotting.images(torch.zeros(12, 28, 28, dtype=torch.uint8))
    assert figure.axes[0].get_subplotspec().get_gridspec().ncols == 10
    figure.canvas.draw()
    plt.close(figure)


# --- fields


def test_fields_share_one_signed_scale_with_a_bar():
    stack = torch.zeros(3, 5, 5)
    stack[1, 2, 2], stack[2] = -1.0, 0.5
    figure = plotting.fields(stack, labels=list("abc"), limit=2)
    pictures = [ax.images[0] for ax in figure.axes if ax.images]
    assert {p.get_clim() for p in pictures} == {(-2, 2)}
    assert {p.cmap.name for p in pictures} == {plotting.FIELD_MAP}
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == [r"$\phi$"]
    figure = plotting.fields(torch.linspace(0, 1, 200).reshape(2, 10, 10), bar=None)
    low, high = figure.axes[0].images[0].get_clim()
    assert -low == high == pytest.approx(0.99, abs=0.01)
    assert len(figure.axes) == 2
    plt.close("all")


# --- show


@pytest.fixture
def shown(monkeypatch):
    """What a notebook is given to show."""
    import IPython
    import IPython.display

    given = []
    monkeypatch.setattr(IPython, "get_ipython", object)
    monkeypatch.setattr(IPython.display, "display", lambda data, **how: given.append((data, how)))
    return given


def test_show_gives_a_drawing_and_a_picture_of_its_size_and_closes_it(shown):
    with plotting.style():
        figure, ax = plt.subplots(figsize=(3, 2))
        ax.plot([0, 1], [0, 1])
        plotting.show(figure)
    ((data, how),) = shown
    assert plt.get_fignums() == []
    assert how["raw"] and how["metadata"] == {"image/png": {"width": 288, "height": 192}}
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.size == (2 * 288, 2 * 192)
    assert 'width="216pt"' in data["image/svg+xml"]


def test_show_gives_the_same_bytes_again_and_no_date(shown):
    for _ in range(2):
        with plotting.style():
            figure, ax = plt.subplots()
            ax.imshow(np.eye(3))
            ax.set_xlabel(r"$\kappa$")
            plotting.show(figure)
    assert shown[0] == shown[1]
    assert "dc:date" not in shown[0][0]["image/svg+xml"]


def test_show_lays_a_figure_out_once(shown, monkeypatch):
    """A second layout differed from the first, and with an older matplotlib it failed."""
    with plotting.style():
        figure, _ = plt.subplots(layout="constrained")
        engine, calls = figure.get_layout_engine(), []
        execute = engine.execute
        monkeypatch.setattr(engine, "execute", lambda f: (calls.append(f), execute(f)))
        plotting.show(figure)
    assert "image/svg+xml" in shown[0][0]
    assert len(calls) == 1


def test_show_gives_no_drawing_of_very_many_marks(shown):
    with plotting.style():
        figure, ax = plt.subplots()
        ax.scatter(*np.random.default_rng(1).normal(size=(2, 9000)))
        plotting.show(figure)
    assert set(shown[0][0]) == {"text/plain", "image/png"}


def test_letters_are_nine_pixels_on_a_phone():
    """A column of 350 pixels, and the smallest size of letters that the style sets."""
    with plotting.style():
        rc = matplotlib.rcParams
        sizes = [rc[key] for key in ("font.size", "axes.labelsize", "legend.fontsize")]
        smallest = min(*sizes, rc["xtick.labelsize"], rc["ytick.labelsize"])
        assert smallest / 72 * 350 / rc["figure.figsize"][0] >= 9


# --- matrix


def test_matrix_has_zero_in_white_and_a_scale(ax):
    picture = plotting.matrix(ax, torch.tensor([[1.0, -4.0], [0.0, 2.0]]))
    assert picture.get_clim() == (-4, 4)
    assert min(picture.to_rgba(np.zeros((1, 1)))[0, 0]) > 0.95
    assert picture.colorbar is not None
    assert plotting.matrix(ax, torch.zeros(3, 3)).get_clim() == (-1, 1)
    assert plotting.matrix(ax, torch.eye(3), limit=0.5).get_clim() == (-0.5, 0.5)


# --- the door


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ax: plotting.spectrum(ax, torch.ones(2, 2)), "levels must have shape"),
        (lambda ax: plotting.spectrum(ax, [1.0], error=[1.0, 2.0]), "error must have shape"),
        (lambda ax: plotting.spectrum(ax, [float("nan")]), "levels holds 1 NaN"),
        (lambda ax: plotting.trajectories(ax, [0, 1], [[1.0]]), "values must have shape"),
        (lambda ax: plotting.trajectories(ax, [0], [[1.0]], exact=1.0), "exact must have shape"),
        (lambda ax: plotting.matrix(ax, [1.0]), "tensor must have shape"),
        (lambda ax: plotting.images(torch.ones(28, 28)), "tensor must have shape"),
        (lambda ax: plotting.images(torch.ones(0, 28, 28)), "at least one image"),
        (lambda ax: plotting.images(torch.ones(2, 2, 2), 0), "columns must be an integer"),
    ],
)
def test_bad_input_is_named(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)


def test_labels_must_be_one_an_image():
    with pytest.raises(ShapeError, match="labels must be one for each image"):
        plotting.images(torch.ones(2, 2, 2), labels=["a"])
