from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, special

from physml import exact
from physml.exact import phi4

# mu2, g: Z, <phi^2>, <phi^4>, <phi^6>, <|phi|>, kappa_4, kappa_6, each with half its last digit
TABLE = {
    (1.0, 0.4): ["2.4061017748", "0.8620965893", "2.0685511600", "7.7660791197", "0.7484950919",
                 "-0.1610804280", "0.2382934960"],
    (-1.0, 0.4): ["162.0531616", "13.6730337539", "220.0955063", "3916.719114", "3.5913316502",
                  "-340.760050", "35462.0893"],
}  # fmt: skip
COUPLINGS = [(1.0, 0.4), (-1.0, 0.4), (0.0, 0.4), (3.0, 0.01), (-2.0, 0.1), (0.01, 50.0),
             (-0.01, 50.0), (-5.0, 0.1), (40.0, 1.0)]  # fmt: skip


def trapezoid(mu2: float, g: float, f=lambda x: 1.0) -> float:
    """An independent quadrature: the trapezoidal rule converges exponentially here."""
    wide = 3 * math.sqrt(6 * abs(mu2) / g) + 12 * min(g**-0.25 * 3, 1 / math.sqrt(abs(mu2) + 1e-9))
    x = torch.linspace(-wide, wide, 20001, dtype=torch.float64)
    value = f(x) * torch.exp(-mu2 / 2 * x**2 - g / 24 * x**4)
    return float(value.sum()) * 2 * wide / 20000


@pytest.mark.parametrize("point", TABLE)
def test_table(point):
    solved = exact.phi4_quadrature(*point)
    kappa = solved.cumulants(6)
    got = [exact.phi4_z(*point), *exact.phi4_moments(*point, 3), exact.phi4_abs(*point),
           kappa[3], kappa[5]]  # fmt: skip
    for value, text in zip(got, TABLE[point], strict=True):
        digits = len(text.partition(".")[2])
        assert value == pytest.approx(float(text), abs=0.51 * 10**-digits)
    assert kappa[1] == pytest.approx(got[1], rel=1e-13)


@pytest.mark.parametrize(("mu2", "g"), COUPLINGS)
def test_bessel_quadrature_and_trapezoid_agree(mu2, g):
    z = trapezoid(mu2, g)
    assert exact.phi4_log_z(mu2, g) == pytest.approx(math.log(z), rel=1e-12, abs=1e-12)
    solved = exact.phi4_quadrature(mu2, g)
    assert solved.log_z == pytest.approx(math.log(z), rel=1e-12, abs=1e-12)
    for n, moment in enumerate(exact.phi4_moments(mu2, g, 4), start=1):
        want = trapezoid(mu2, g, lambda x, n=n: x ** (2 * n)) / z
        assert moment == pytest.approx(want, rel=1e-11)
    assert exact.phi4_abs(mu2, g) == pytest.approx(solved.mean(torch.abs), rel=1e-12)


@pytest.mark.parametrize(("mu2", "g"), COUPLINGS)
def test_schwinger_dyson(mu2, g):
    m = [1.0, *exact.phi4_moments(mu2, g, 6)]
    for k in range(5):  # <phi^(2k+1) S'> = (2k+1) <phi^2k>
        terms = mu2 * m[k + 1], g / 6 * m[k + 2]
        assert sum(terms) == pytest.approx(
            (2 * k + 1) * m[k], rel=1e-11 * max(map(abs, terms)) + 1e-11
        )


def test_against_scipy():
    value, error = integrate.quad(lambda x: math.exp(x**2 / 2 - x**4 / 60), -15, 15, epsabs=1e-10)
    assert exact.phi4_z(-1, 0.4) == pytest.approx(value, abs=10 * error)
    for x in (1e-8, 0.01, 1.0, 1.875, 20.0, 29.9, 30.1, 700.0, 1e5):
        assert phi4._scaled_k(0.25, x) == pytest.approx(special.kve(0.25, x), rel=1e-13)
        assert phi4._scaled_i(0.25, x) == pytest.approx(special.ive(0.25, x), rel=1e-13)


def test_continuous_through_zero_mass():
    for mu2 in (1e-200, 1e-9, -1e-9, -1e-200):
        assert exact.phi4_log_z(mu2, 0.4) == pytest.approx(exact.phi4_log_z(0, 0.4), abs=1e-8)


def test_weak_coupling_is_a_gaussian():
    """ln Z = (1/2) ln(2 pi / mu2) - g / (8 mu2^2) + O(g^2), by Wick's theorem."""
    g = 1e-6
    want = 0.5 * math.log(2 * math.pi / 2.0) - g / 8 / 4
    assert exact.phi4_log_z(2.0, g) == pytest.approx(want, abs=1e-12)


def test_deep_wells_do_not_overflow():
    assert exact.phi4_z(-1.0, 1e-4) == math.inf
    log_z = exact.phi4_log_z(-1.0, 1e-4)
    # two Gaussians of curvature 2|mu2|, on top of a barrier of 3/(2g)
    assert log_z == pytest.approx(15000 + math.log(2 * math.sqrt(math.pi)), abs=1e-4)
    assert exact.phi4_abs(-1.0, 1e-4) == pytest.approx(math.sqrt(6e4), rel=1e-4)
    assert exact.phi4_abs(1.0, 1e-12) == pytest.approx(math.sqrt(2 / math.pi), rel=1e-9)


def test_bad_couplings():
    with pytest.raises(ValueError, match="g must be"):
        exact.phi4_log_z(1.0, 0.0)
    with pytest.raises(ValueError, match="mu2 must be"):
        exact.phi4_moments(math.nan, 0.4)
