from __future__ import annotations

import math

import pytest
import torch

from physml import exact
from physml.errors import ShapeError, StabilityError
from physml.lattice import Lattice

# shape, m^2, G at three sites, ln det K / V
TABLE = [
    ((10,), 4.0, {(0,): 0.1767767031, (1,): 0.0303301093, (2,): 0.0052039529}, 1.7627471696),
    ((4, 4), 1.0, {(0, 0): 0.2634920635, (0, 1): 0.0793650794, (1, 1): 0.0444444444}, 1.5019963627),
    (
        (8, 8),
        0.25,
        {(0, 0): 0.3855011891, (0, 1): 0.1595950134, (1, 1): 0.1061762766},
        1.2801459657,
    ),
]


@pytest.mark.parametrize(("shape", "mass2", "propagator", "log_det"), TABLE)
def test_table_of_propagators_and_determinants(shape, mass2, propagator, log_det):
    spectrum = Lattice(shape).free_spectrum(mass2)
    green = exact.free_propagator(spectrum)
    for site, value in propagator.items():
        assert float(green[site]) == pytest.approx(value, abs=6e-11)
    assert exact.free_log_det(spectrum) == pytest.approx(log_det, abs=6e-11)
    assert exact.free_phi2(spectrum) == pytest.approx(float(green.reshape(-1)[0]), rel=1e-13)
    assert exact.free_chi(spectrum) == pytest.approx(1 / mass2, rel=1e-13)
    assert float(green.sum()) == pytest.approx(1 / mass2, rel=1e-12)


def test_everything_follows_from_the_matrix():
    lattice = Lattice((3, 4, 2))
    matrix, spectrum = lattice.kinetic_matrix(0.7), lattice.free_spectrum(0.7)
    green = exact.free_propagator(spectrum)
    torch.testing.assert_close(green.reshape(-1), torch.linalg.inv(matrix)[0], rtol=1e-11, atol=0)
    torch.testing.assert_close(green, lattice.free_propagator(0.7), rtol=1e-12, atol=0)
    log_det = float(torch.linalg.slogdet(matrix).logabsdet)
    assert exact.free_log_det(spectrum) == pytest.approx(log_det / 24, rel=1e-12)
    want = 12 * math.log(2 * math.pi) - log_det / 2
    assert exact.free_log_z(spectrum) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(
    ("sites", "mass2"), [(10, 4.0), (7, 0.3), (2, 1.0), (400, 1e-4), (50, 9e2)]
)
def test_chain_propagator_in_closed_form(sites, mass2):
    want = exact.free_propagator(Lattice(sites).free_spectrum(mass2))
    got = exact.free_chain_propagator(sites, mass2)
    # the Fourier sum has an absolute error of a few last digits of G(0)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-15 * float(want[0]))
    torch.testing.assert_close(
        Lattice(sites).free_spectrum(mass2).sort().values, exact.chain_spectrum(sites, mass2)
    )


def test_hopping_form_by_its_action():
    """The kernel read off the action S(phi) = sum [-2 kappa phi phi' + phi^2] itself."""
    lattice, kappa = Lattice((4, 3)), 0.2
    unit = torch.eye(12, dtype=torch.float64).reshape(12, 4, 3)

    def action(phi):
        hop = sum((phi * phi.roll(-1, mu)).sum((-2, -1)) for mu in (-2, -1))
        return -2 * kappa * hop + phi.square().sum((-2, -1))

    diagonal = action(unit)
    pairs = action(unit[:, None] + unit)  # S(e_x + e_y) = S(e_x) + S(e_y) + K_xy
    kernel = pairs - diagonal[:, None] - diagonal
    kernel[range(12), range(12)] = 2 * diagonal
    spectrum = exact.hopping_spectrum(lattice, kappa)
    torch.testing.assert_close(
        spectrum.reshape(-1).sort().values, torch.linalg.eigvalsh(kernel), rtol=1e-12, atol=1e-13
    )
    want = torch.linalg.inv(kernel)[0].reshape(4, 3)
    torch.testing.assert_close(exact.free_propagator(spectrum), want, rtol=1e-11, atol=0)


def test_hopping_form_at_the_books_point():
    spectrum = exact.hopping_spectrum(Lattice((32, 32)), 0.21)
    assert exact.free_phi2(spectrum) == pytest.approx(0.6632626658, abs=6e-11)
    assert exact.free_chi(spectrum) == pytest.approx(3.125, rel=1e-13)
    # the same theory as m^2 - Laplacian, times 2 kappa
    mass2 = 1 / 0.21 - 4
    rescaled = 0.42 * Lattice((32, 32)).free_spectrum(mass2)
    torch.testing.assert_close(spectrum, rescaled, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(8,), (4, 6), (4, 4, 4)])
def test_hopping_form_is_stable_below_its_bound(shape):
    lattice, bound = Lattice(shape), 1 / (2 * len(shape))
    for sign in (1, -1):
        exact.hopping_spectrum(lattice, sign * bound * 0.999)
        with pytest.raises(StabilityError, match=r"choose \|kappa\| below"):
            exact.hopping_spectrum(lattice, sign * bound * 1.001)


def test_odd_lengths_frustrate_a_negative_hopping():
    """On a triangle -1/2 is not the bound: the lowest cosine is -1/2, and kappa > -1."""
    exact.hopping_spectrum(Lattice(3), -0.99)
    with pytest.raises(StabilityError, match=r"kappa=-1\.01"):
        exact.hopping_spectrum(Lattice(3), -1.01)


def test_bad_spectra_are_refused():
    with pytest.raises(StabilityError, match="eigenvalue 0"):
        exact.free_propagator(Lattice((4, 4)).free_spectrum(0.0))
    with pytest.raises(ShapeError, match="empty"):
        exact.free_log_det(torch.empty(0))


def test_float32_spectra():
    spectrum = Lattice((8, 8)).free_spectrum(0.25)
    green = exact.free_propagator(spectrum.float())
    assert green.dtype == torch.float32
    torch.testing.assert_close(
        green.double(), exact.free_propagator(spectrum), rtol=1e-5, atol=1e-6
    )
