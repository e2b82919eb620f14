from __future__ import annotations

import itertools
import math

import pytest
import torch

from physml import exact
from physml import observables as obs
from physml.actions import AutogradAction, InhomogeneousPhi4, LocalAction, Phi4
from physml.errors import ShapeError
from physml.lattice import Lattice
from physml.observables import Measurement, measure, summary
from physml.phi4_learning import NextNearestPhi4
from physml.statistics import ShortChainWarning

SHAPES = [(5,), (2,), (4, 3), (2, 5), (6, 6), (3, 2, 4)]


def free_field(spectrum: torch.Tensor, count: tuple[int, ...], seed: int) -> torch.Tensor:
    """Independent configurations of the free field, exactly: white noise over sqrt(K)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*count, *spectrum.shape, generator=generator, dtype=torch.float64)
    axes = tuple(range(-spectrum.dim(), 0))
    return torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) / spectrum.sqrt(), dim=axes).real


def random_field(shape: tuple[int, ...], dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(3, *shape, generator=generator, dtype=torch.float64).add(0.3).to(dtype)


def brute_force(phi: torch.Tensor) -> tuple[float, ...]:
    """The five numbers of one configuration by loops over sites."""
    shape = phi.shape
    volume = phi.numel()
    value = {x: float(phi[x]) for x in itertools.product(*map(range, shape))}
    hop = 0.0
    for x in value:
        for mu, length in enumerate(shape):
            y = (*x[:mu], (x[mu] + 1) % length, *x[mu + 1 :])
            hop += value[x] * value[y]
    longest = max(shape)
    low = []
    for mu in (mu for mu, length in enumerate(shape) if length == longest):
        k = 2 * math.pi / longest
        mode = [sum(v * f(k * x[mu]) for x, v in value.items()) for f in (math.cos, math.sin)]
        low.append((mode[0] ** 2 + mode[1] ** 2) / volume)
    moments = [sum(v**n for v in value.values()) / volume for n in (1, 2, 4)]
    return (*moments, hop / volume, sum(low) / len(low))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_measure_by_brute_force(shape, dtype):
    phi, lattice = random_field(shape, dtype), Lattice(shape)
    measured = measure(phi, lattice)
    # float32: the products are rounded, the sums are not
    tight = 1e-13 if dtype == torch.float64 else 1e-6
    for i in range(3):
        got = [float(column[i]) for column in measured]
        assert got == pytest.approx(brute_force(phi[i]), rel=tight, abs=tight)
    assert all(column.dtype == torch.float64 for column in measured)


@pytest.mark.parametrize("shape", SHAPES)
def test_single_functions_agree_with_measure(shape):
    phi, lattice = random_field(shape), Lattice(shape)
    measured = measure(phi, lattice)
    torch.testing.assert_close(obs.magnetisation(phi, lattice), measured.m)
    torch.testing.assert_close(obs.field_moment(phi, lattice, 2), measured.phi2)
    torch.testing.assert_close(obs.field_moment(phi, lattice, 4), measured.phi4)
    torch.testing.assert_close(obs.hopping(phi, lattice), measured.hopping)


def test_measure_keeps_all_leading_axes():
    """Also more configurations than fit a block, and a field that is not contiguous."""
    lattice = Lattice((16, 8))
    phi = random_field((300, 8, 16)).mT
    measured = measure(phi, lattice)
    assert all(column.shape == (3, 300) for column in measured)
    one = measure(phi[1, 299:], lattice)
    for all_of_them, single in zip(measured, one, strict=True):
        torch.testing.assert_close(all_of_them[1, 299:], single)
    record = torch.stack(measured, -1)
    again = Measurement(*record.unbind(-1))
    assert all(torch.equal(a, b) for a, b in zip(again, measured, strict=True))


def test_sums_of_float32_fields_do_not_drift():
    """A constant that float32 sums would lose digits on: 2^20 sites."""
    lattice = Lattice((1024, 1024))
    phi = torch.full((1, 1024, 1024), 1.1)
    value = float(phi[0, 0, 0])
    measured = measure(phi, lattice)
    assert float(measured.m) == pytest.approx(value, rel=1e-14)
    square = float(phi[0, 0, 0] * phi[0, 0, 0])
    assert float(measured.phi2) == pytest.approx(square, rel=1e-14)
    assert obs.magnetisation(phi, lattice).dtype == torch.float32


def test_half_precision_fields_are_widened():
    phi = random_field((4, 4), torch.bfloat16)
    got, want = measure(phi, Lattice((4, 4))), measure(phi.double(), Lattice((4, 4)))
    torch.testing.assert_close(got.phi4, want.phi4, rtol=1e-6, atol=0)


def test_z2():
    phi, lattice = random_field((4, 6)), Lattice((4, 6))
    plus, minus = measure(phi, lattice), measure(-phi, lattice)
    torch.testing.assert_close(minus.m, -plus.m, rtol=0, atol=0)
    for one, other in zip(plus[1:], minus[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-16)


@pytest.mark.parametrize("shape", SHAPES)
def test_two_point_functions_by_brute_force(shape):
    phi, lattice = random_field(shape), Lattice(shape)
    green = obs.two_point(phi, lattice)
    axes = tuple(range(1, phi.ndim))
    for x in itertools.product(*map(range, shape)):
        want = (phi * phi.roll([-c for c in x], axes)).mean(axes)
        torch.testing.assert_close(green[(slice(None), *x)], want)
    for axis in range(len(shape)):
        rest = tuple(a for a in axes if a != axis + 1)
        want = green.sum(rest) if rest else green
        torch.testing.assert_close(obs.time_slice_correlator(phi, lattice, axis), want)
    measured = measure(phi, lattice)
    torch.testing.assert_close(green[(slice(None), *[0] * len(shape))], measured.phi2)


@pytest.mark.parametrize("shape", SHAPES)
def test_structure_factor_over_all_momenta(shape):
    phi, lattice = random_field(shape), Lattice(shape)
    factor = obs.structure_factor(phi, lattice)
    count = obs.rfft_multiplicity(lattice)
    axes = tuple(range(1, phi.ndim))
    # Parseval
    torch.testing.assert_close((factor * count).sum(axes), phi.square().sum(axes))
    assert int(count.sum()) == shape[-1]
    # sum_k |phi_k|^2 cos(k_mu) = V sum_x phi_x phi_{x+mu}: the momenta stand where they should
    momenta = obs.rfft_momenta(lattice)
    assert momenta.shape == (*factor.shape[1:], len(shape))
    cosines = momenta.cos().sum(-1)
    hop = (factor * count * cosines).sum(axes) / lattice.volume
    torch.testing.assert_close(hop, measure(phi, lattice).hopping)


# --- the free field ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def free():
    lattice, kappa = Lattice((8, 8)), 0.2
    spectrum = exact.hopping_spectrum(lattice, kappa)
    phi = free_field(spectrum, (4, 5000), 11)
    return lattice, kappa, spectrum, phi


def test_summary_of_a_free_field(free):
    lattice, kappa, spectrum, phi = free
    found = summary(measure(phi, lattice), lattice, kappa, 0.0)
    green = exact.free_propagator(spectrum)
    phi2, chi = exact.free_phi2(spectrum), exact.free_chi(spectrum)
    want = {
        "m": 0.0,
        "abs_m": math.sqrt(2 * chi / (math.pi * 64)),
        "chi2": chi,
        "chi_abs": chi * (1 - 2 / math.pi),
        "binder": 0.0,
        "xi": 1 / math.sqrt(1 / kappa - 4),
        "phi2": phi2,
        "phi4": 3 * phi2**2,
        "hopping": float(green[0, 1] + green[1, 0]),
        "action": 0.5,
        "virial": 1.0,
    }
    for name, value in want.items():
        estimate = getattr(found, name)
        assert abs(estimate.z(value)) < 3.5, (name, estimate, value)
        assert estimate.n == 20000
        assert abs(estimate.tau_int - 0.5) < 5 * estimate.tau_int_error, name
    # errors that theory knows: Var M^2 = 2 <M^2>^2, and S has V/2 degrees of freedom
    assert found.chi2.error == pytest.approx(chi * math.sqrt(2 / 20000), rel=0.1)
    assert found.action.error == pytest.approx(math.sqrt(32 / 20000) / 64, rel=0.1)


def test_summary_of_an_action(free):
    """The action in place of its couplings, also with a source; others are refused."""
    lattice, kappa, _, phi = free
    measured = measure(phi[:, :500], lattice)
    couplings = summary(measured, lattice, kappa, 0.1)
    for found in (summary(measured, lattice, Phi4(kappa, 0.1)),
                  summary(measured, lattice, action=Phi4(kappa, 0.1))):
        for name in ("action", "virial"):
            assert getattr(found, name).value == pytest.approx(getattr(couplings, name).value)
            assert getattr(found, name).error == pytest.approx(getattr(couplings, name).error)

    class Tilted(LocalAction):
        hopping, quadratic, quartic, source = 0.3, 1.0, 0.2, 0.4

    found, flat = summary(measured, lattice, Tilted()), phi[:, :500].reshape(-1, 8, 8)
    assert found.action.value == pytest.approx(float(Tilted()(flat).mean()) / 64)
    assert found.virial.value == pytest.approx(-float((flat * Tilted().force(flat)).mean()))
    for other in (NextNearestPhi4(0.2, 0.1, 1.0, 0.2), AutogradAction(Phi4(kappa, 0.1)),
                  InhomogeneousPhi4.homogeneous(Phi4(kappa, 0.1), lattice)):
        with pytest.raises(ValueError, match=type(other).__name__):
            summary(measured, lattice, other)
    with pytest.raises(ValueError, match="not both"):
        summary(measured, lattice, 0.2, 0.1, action=Phi4(0.2, 0.1))


def test_derived_quantities_alone_agree_with_the_summary(free):
    lattice, kappa, _, phi = free
    measured = measure(phi[:, :500], lattice)
    found = summary(torch.stack(measured, -1), lattice)
    assert found.action is None and found.virial is None
    for alone, name in [
        (obs.susceptibility(measured.m, lattice), "chi2"),
        (obs.susceptibility(measured.m, lattice, absolute=True), "chi_abs"),
        (obs.binder(measured.m), "binder"),
        (obs.correlation_length(measured.m, measured.low_mode, lattice), "xi"),
    ]:
        together = getattr(found, name)
        assert alone.value == pytest.approx(together.value, rel=1e-12)
        assert alone.error == pytest.approx(together.error, rel=1e-9)
        assert alone.window == together.window
    # one chain of all times is the same data
    flat = summary(Measurement(*(c.reshape(-1) for c in measured)), lattice, kappa, 0.0)
    assert flat.phi2.value == pytest.approx(found.phi2.value, rel=1e-13)


def test_propagators_of_a_free_field(free):
    lattice, _, spectrum, phi = free
    n = 20000
    factor = obs.structure_factor(phi, lattice).flatten(0, 1)
    want = 1 / spectrum[:, :5]
    z = (factor.mean(0) - want) / (factor.std(0) / math.sqrt(n))
    assert float(z.abs().max()) < 4  # 25 independent momenta
    correlator = obs.time_slice_correlator(phi, lattice, 1).flatten(0, 1)
    # 2 kappa (m0^2 - Laplacian): a chain of mass m0 over 2 kappa
    want = exact.free_chain_propagator(8, 1.0) / 0.4
    z = (correlator.mean(0) - want) / (correlator.std(0) / math.sqrt(n))
    assert float(z.abs().max()) < 4


def test_correlation_length_is_exact_with_exact_moments():
    """1/m, from the propagator itself, on an anisotropic lattice too."""
    for shape in [(8, 8), (4, 10), (16,), (4, 4, 6)]:
        lattice, mass2 = Lattice(shape), 0.3
        spectrum = lattice.free_spectrum(mass2)
        m2 = 1 / spectrum.reshape(-1)[0] / lattice.volume
        axis = shape.index(max(shape))
        k = tuple(int(mu == axis) for mu in range(len(shape)))
        xi = obs._xi(m2, 1 / spectrum[k], lattice)
        assert float(xi) == pytest.approx(1 / math.sqrt(mass2), rel=1e-12)


# --- other laws ----------------------------------------------------------------------------------


def series_of(m: torch.Tensor) -> Measurement:
    one = torch.ones_like(m)
    return Measurement(m, one, one, one, one)


def test_two_frozen_phases():
    """M = +-2 at random: U = 2/3, chi_abs = 0, chi2 = 4 V."""
    generator = torch.Generator().manual_seed(1)
    m = 2 * torch.randint(0, 2, (4, 1000), generator=generator).double().mul(2).sub(1)
    found = summary(series_of(m), Lattice((4, 4)))
    assert found.binder.value == pytest.approx(2 / 3) and found.binder.error == pytest.approx(0)
    assert found.chi_abs.value == pytest.approx(0) and found.abs_m.value == 2
    # what is missing is V times the square of a mean with the error 2 / sqrt(4000)
    assert 0 <= 64 - found.chi2.value < 16 * 3.5**2 * 4 / 4000


def test_errors_know_autocorrelation():
    """An autoregressive Gaussian M: the error of chi2 grows as its square's autocorrelation.

    M^2 has the autocorrelation rho^{2t}, so tau_int = (1 + rho^2) / (2 (1 - rho^2)).
    """
    rho, generator = 0.9, torch.Generator().manual_seed(2)
    noise = torch.randn(16, 8000, generator=generator, dtype=torch.float64)
    m = [noise[:, 0]]
    for t in range(1, 8000):
        m.append(rho * m[-1] + math.sqrt(1 - rho**2) * noise[:, t])
    m = torch.stack(m, 1)
    lattice = Lattice((4, 4))
    chi = obs.susceptibility(m, lattice)
    tau = (1 + rho**2) / (2 * (1 - rho**2))
    assert abs(chi.tau_int - tau) < 4 * chi.tau_int_error
    want = 16 * math.sqrt(2 * 2 * tau / m.numel())
    assert abs(chi.error - want) < 4 * chi.error_of_error
    assert abs(chi.z(16.0)) < 3.5
    assert abs(obs.binder(m).z(0.0)) < 3.5


def test_more_fluctuation_at_the_lowest_momentum_gives_no_length():
    generator = torch.Generator().manual_seed(3)
    m = 0.01 * torch.randn(2, 500, generator=generator, dtype=torch.float64)
    xi = obs.correlation_length(m, torch.ones_like(m), Lattice((4, 4)))
    assert xi.value == 0 and xi.error == 0


# --- at the door -----------------------------------------------------------------------------


def test_bad_fields_and_series():
    lattice = Lattice((4, 4))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 4, 4\) with a leading axis, not \(4, 4\)"):
        measure(torch.zeros(4, 4), lattice)
    with pytest.raises(ShapeError, match="phi must have shape"):
        obs.structure_factor(torch.zeros(2, 4, 5), lattice)
    with pytest.raises(ValueError, match="floating point"):
        obs.magnetisation(torch.zeros(2, 4, 4, dtype=torch.int64), lattice)
    with pytest.raises(ValueError, match="direction from 0 to 1"):
        obs.time_slice_correlator(torch.zeros(2, 4, 4), lattice, 2)
    with pytest.raises(ShapeError, match="stacked"):
        summary(torch.zeros(3, 100, 4), lattice)
    with pytest.raises(ShapeError, match="one shape"):
        summary(Measurement(*torch.zeros(4, 2, 9), torch.zeros(9)), lattice)
    with pytest.raises(ValueError, match="both couplings"):
        summary(series_of(torch.randn(2, 100)), lattice, kappa=0.2)


def test_short_chains_warn_once():
    m = torch.randn(1, 40, generator=torch.Generator().manual_seed(4)).cumsum(1)
    with pytest.warns(ShortChainWarning) as caught:
        summary(series_of(m), Lattice((4, 4)))
    assert len(caught) == 1


def test_a_summary_is_a_table(free):
    lattice, kappa, _, phi = free
    found = summary(measure(phi, lattice), lattice, kappa, 0.0)
    told = found.to_dict()
    assert told["phi2"] == {"value": found.phi2.value, "error": found.phi2.error,
                            "tau_int": found.phi2.tau_int}
    assert list(told)[-2:] == ["action", "virial"]
    rows = {row[0]: row[1:] for row in found.table().rows}
    assert rows["⟨φ^2⟩"] == (str(found.phi2), str(found.phi2.tau))
    assert len(rows) == len(told) == 11
    assert str(found.binder) in repr(found)
    assert "U<sub>L</sub>" in found._repr_html_()
    without = summary(measure(phi, lattice), lattice)
    assert "virial" not in without.to_dict() and "∂" not in repr(without)
