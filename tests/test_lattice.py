"""`physml.lattice` against closed forms, dense matrices and the fast Fourier transform."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from physml.errors import ShapeError
from physml.lattice import Lattice

SHAPES = [(2,), (5,), (10,), (2, 2), (3, 4), (8, 8), (2, 3, 4)]


@pytest.mark.parametrize(
    ("shape", "mass2", "other", "expected"),
    [
        # G at the origin, one step away, at `other`; ln det K / V (independently computed)
        ((10,), 4.0, (2,), (0.1767767031, 0.0303301093, 0.0052039529, 1.7627471696)),
        ((4, 4), 1.0, (1, 1), (0.2634920635, 0.0793650794, 0.0444444444, 1.5019963627)),
        ((8, 8), 0.25, (1, 1), (0.3855011891, 0.1595950134, 0.1061762766, 1.2801459657)),
    ],
)
def test_free_field_by_matrix_and_by_momenta(shape, mass2, other, expected):
    lattice = Lattice(shape)
    kernel = lattice.kinetic_matrix(mass2)
    one = (1,) + (0,) * (lattice.dim - 1)
    origin = (0,) * lattice.dim
    log_det = float(torch.logdet(kernel)) / lattice.volume
    sum_of_logs = float(lattice.free_spectrum(mass2).log().mean())
    for g in (torch.linalg.inv(kernel)[0].reshape(shape), lattice.free_propagator(mass2)):
        for got, want in zip((g[origin], g[one], g[other]), expected[:3], strict=True):
            assert float(got) == pytest.approx(want, abs=6e-11)
    assert log_det == pytest.approx(expected[3], abs=6e-11)
    assert sum_of_logs == pytest.approx(expected[3], abs=6e-11)


@pytest.mark.parametrize(("sites", "mass2"), [(2, 1.0), (7, 0.3), (10, 4.0), (32, 0.01)])
def test_chain_propagator_is_a_cosh(sites, mass2):
    """G(x) = cosh[w (x - N/2)] / [2 sinh w sinh(w N/2)] with 2 cosh w = 2 + m^2."""
    w = math.acosh(1 + mass2 / 2)
    x = torch.arange(sites, dtype=torch.float64)
    closed = torch.cosh(w * (x - sites / 2)) / (2 * math.sinh(w) * math.sinh(w * sites / 2))
    torch.testing.assert_close(Lattice(sites).free_propagator(mass2), closed, rtol=1e-12, atol=0)


def test_spectrum_of_the_chain_of_ten():
    k = 2 * math.pi / 10
    closed = sorted(6 - 2 * math.cos(k * n) for n in range(10))
    lattice = Lattice((10,))
    got = torch.linalg.eigvalsh(lattice.kinetic_matrix(4.0))
    torch.testing.assert_close(got, torch.tensor(closed, dtype=torch.float64), rtol=1e-13, atol=0)
    golden = (1 + math.sqrt(5)) / 2  # in pairs between the ends, by the cosines of a decagon
    pairs = [6 - golden, 7 - golden, 5 + golden, 6 + golden]
    assert closed == pytest.approx([4, *sorted(2 * pairs), 8], abs=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_plane_waves_diagonalise_the_matrix(shape):
    lattice = Lattice(shape)
    k = lattice.momenta().reshape(-1, lattice.dim)
    waves = torch.exp(1j * (lattice.sites().double() @ k.T))  # one in each column
    kernel = lattice.kinetic_matrix(0.7).to(torch.complex128)
    spectrum = lattice.free_spectrum(0.7).reshape(-1)
    torch.testing.assert_close(kernel @ waves, waves * spectrum, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_matrix_is_the_stencil(shape):
    lattice = Lattice(shape)
    phi = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stencil = (0.5 + 2 * lattice.dim) * phi
    for mu in range(lattice.dim):
        stencil = stencil - phi.roll(1, mu) - phi.roll(-1, mu)
    kernel = lattice.kinetic_matrix(0.5)
    torch.testing.assert_close(kernel @ phi.reshape(-1), stencil.reshape(-1))
    torch.testing.assert_close(kernel, kernel.T, rtol=0, atol=0)
    # the same through the table of neighbours, links counted one by one
    flat = phi.reshape(-1)
    table = (0.5 + 2 * lattice.dim) * flat - flat[lattice.neighbours()].sum(-1)
    torch.testing.assert_close(table, stencil.reshape(-1))


def test_links_of_a_direction_of_length_two_count_twice():
    expected = torch.tensor([[3.0, -2.0], [-2.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(Lattice((2,)).kinetic_matrix(1.0), expected, rtol=0, atol=0)
    assert Lattice((2,)).neighbours().tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("shape", SHAPES)
def test_sites_and_neighbours(shape):
    lattice = Lattice(shape)
    sites = lattice.sites()
    everywhere = list(itertools.product(*(range(n) for n in shape)))
    assert [tuple(s) for s in sites.tolist()] == everywhere
    assert lattice.volume == len(everywhere) and lattice.dim == len(shape)
    table = lattice.neighbours()
    assert table.shape == (lattice.volume, 2 * lattice.dim) and table.dtype is torch.int64
    lengths = torch.tensor(shape)
    for mu in range(lattice.dim):
        step = torch.eye(lattice.dim, dtype=torch.int64)[mu]
        torch.testing.assert_close(sites[table[:, mu]], (sites + step) % lengths)
        torch.testing.assert_close(sites[table[:, lattice.dim + mu]], (sites - step) % lengths)


@pytest.mark.parametrize("shape", [(4,), (2, 6), (4, 2, 2)])
def test_parity_colours_neighbours_differently(shape):
    lattice = Lattice(shape)
    even = lattice.parity()
    assert even.shape == shape and even.dtype is torch.bool
    assert int(even.sum()) * 2 == lattice.volume and bool(even.reshape(-1)[0])
    flat = even.reshape(-1)
    assert bool((flat[lattice.neighbours()] != flat[:, None]).all())


@pytest.mark.parametrize("shape", [(4,), (2, 6), (4, 2, 6)])
def test_parity_classes_are_the_parities_of_the_coordinates(shape):
    lattice = Lattice(shape)
    number = (lattice.sites() % 2 * 2 ** torch.arange(len(shape))).sum(-1).reshape(shape)
    classes = lattice.parity_classes()
    assert classes.shape == (2 ** len(shape), *shape)
    assert torch.equal(classes.int().argmax(0), number) and bool((classes.sum(0) == 1).all())
    with pytest.raises(ShapeError, match="odd"):
        Lattice((4, 5)).parity_classes()


def test_parity_is_refused_where_it_does_not_close():
    with pytest.raises(ShapeError, match="direction 1 is odd; choose even lengths"):
        Lattice((4, 5)).parity()


@pytest.mark.parametrize("shape", SHAPES)
def test_momenta_stand_where_the_transform_puts_them(shape):
    lattice = Lattice(shape)
    k = lattice.momenta()
    assert k.shape == (*shape, lattice.dim)
    assert float(k.min()) >= -math.pi and float(k.max()) < math.pi
    # the transform of a plane wave is a single peak, at its own momentum
    index = tuple(n // 2 for n in shape)
    wave = torch.exp(1j * (lattice.sites().double() @ k[index])).reshape(shape)
    peak = torch.fft.fftn(wave).abs() / lattice.volume
    expected = torch.zeros(shape, dtype=torch.float64)
    expected[index] = 1
    torch.testing.assert_close(peak, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        lattice.p_hat_squared(), (2 - 2 * torch.cos(k)).sum(-1), rtol=0, atol=1e-13
    )


def test_single_precision_is_double_precision_rounded():
    lattice = Lattice((6, 4))
    for f in (
        lattice.momenta,
        lattice.p_hat_squared,
        lambda **k: lattice.free_spectrum(0.1, **k),
        lambda **k: lattice.free_propagator(0.1, **k),
        lambda **k: lattice.kinetic_matrix(0.1, **k),
    ):
        assert f().dtype is torch.float64
        single = f(dtype=torch.float32)
        assert single.dtype is torch.float32
        assert torch.equal(single, f().float())


def test_lattice_is_a_value():
    assert Lattice((4, 6)) == Lattice([4, 6]) and hash(Lattice(8)) == hash(Lattice((8,)))
    assert Lattice(torch.Size([3, 5])).shape == (3, 5)
    assert repr(Lattice((4, 6))) == "Lattice(shape=(4, 6))"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Lattice(4).shape = (5,)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), "shape is empty"),
        ((4, 1), "its own neighbour"),
        (1, "its own neighbour"),
        ((4, 0), "positive integers, not 0"),
        ((4, -2), "positive integers, not -2"),
        ((4, 2.5), "positive integers, not 2.5"),
        ((4, math.nan), "positive integers, not nan"),
        ((4, True), "positive integers, not True"),
        ((4, "x"), "positive integers, not 'x'"),
        ((4, None), "positive integers, not None"),
    ],
)
def test_impossible_lattices_are_refused(shape, message):
    with pytest.raises(ShapeError, match=message):
        Lattice(shape)


def test_masses_are_checked():
    lattice = Lattice((4,))
    assert float(lattice.kinetic_matrix(-1.0)[0, 0]) == 1.0  # a double well has one
    assert float(lattice.free_spectrum(0.0)[0]) == 0.0
    with pytest.raises(ValueError, match="mass2 must be a finite real number"):
        lattice.kinetic_matrix(math.nan)
    with pytest.raises(ValueError, match="mass2 must be a finite positive number"):
        lattice.free_propagator(0.0)
