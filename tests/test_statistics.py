"""`physml.statistics` against AR(1) chains, where all is known, and against emcee and pyerrors.

An AR(1) chain x' = a x + sqrt(1 - a^2) xi has variance 1, rho(t) = a^t, hence
tau_int = (1 + a) / (2 (1 - a)), and the mean of T values has the variance
[1 + 2 sum_t (1 - t/T) a^t] / T exactly. Statistical tests have fixed seeds and accept 4 sigma.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
import warnings

import emcee
import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from physml.errors import ShapeError
from physml.statistics import (
    Estimate,
    JackknifeEstimate,
    MeanEstimate,
    ShortChainError,
    ShortChainWarning,
    autocorrelation,
    function_of_means,
    jackknife,
    mean,
    split_rhat,
)

with warnings.catch_warnings():  # it loads parts of scipy that are to be removed
    warnings.simplefilter("ignore", DeprecationWarning)
    import pyerrors


def ar1(a: float, time: int, chains: int | None = None, seed: int = 0) -> torch.Tensor:
    """Stationary AR(1) chains of variance 1, ``(time,)`` or ``(chains, time)``."""
    noise = np.random.default_rng(seed).standard_normal((chains or 1, time))
    noise[:, 1:] *= math.sqrt(1 - a * a)
    series = torch.from_numpy(lfilter([1.0], [1.0, -a], noise))
    return series if chains else series[0]


def assert_same(got: Estimate, want: Estimate) -> None:
    """Equal but for the order of the sums; biases, nearly zero, on the scale of the error."""
    for field in dataclasses.fields(want):
        scale = abs(want.error if field.name == "bias" else getattr(want, field.name))
        assert getattr(got, field.name) == pytest.approx(
            getattr(want, field.name), rel=0, abs=1e-10 * scale
        )


def exact_tau(a: float) -> float:
    return (1 + a) / (2 * (1 - a))


def exact_error(a: float, time: int, chains: int = 1) -> float:
    t = np.arange(1, time)
    return math.sqrt((1 + 2 * np.sum((1 - t / time) * a**t)) / (time * chains))


# --- numbers with errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.762, 0.003, "0.762(3)"),
        (0.76243, 0.0123, "0.762(12)"),  # two digits after a leading 1
        (1.5, 0.00196, "1.5000(20)"),
        (1.0, 0.0096, "1.000(10)"),  # 0.0096 rounds to 0.010
        (5.0, 0.95, "5.0(1.0)"),
        (4.0, 0.5, "4.0(5)"),
        (16250.4, 30.0, "16250(30)"),
        (16250.4, 1.2, "16250.4(1.2)"),
        (16250.4, 12.0, "16250(12)"),
        (16254.0, 300.0, "16300(300)"),
        (-3.14159, 0.02, "-3.14(2)"),
        (0.01, 0.3, "0.0(3)"),  # error above the value
        (-0.01, 0.3, "0.0(3)"),  # and no negative zero
        (123.0, 456.0, "100(500)"),
        (0.0, 5.0, "0(5)"),
        (1.602e-19, 3e-22, "1.602(3)e-19"),
        (1.6e10, 3e8, "1.60(3)e10"),
        (0.00012, 0.00003, "0.00012(3)"),
        (1e-7, 0.2, "0.0(2)"),
        (3.5, 0.0, "3.5(0)"),
        (0.0, 0.0, "0(0)"),
        (1.0, math.nan, "1(nan)"),
        (math.nan, 1.0, "nan(1)"),
        (1.0, math.inf, "1(inf)"),
        (1.0, 1e-30, "1(1e-30)"),
    ],
)
def test_estimate_prints_its_error_in_brackets(value, error, text):
    estimate = Estimate(value, error)
    assert str(estimate) == repr(estimate) == f"{estimate}" == text


def test_estimate_formats():
    x = Estimate(0.76243, 0.0123)
    assert f"{x:.1}" == "0.76(1)"
    assert f"{x:.3}" == "0.7624(123)"
    assert f"{x:>12.2}" == "   0.762(12)"
    assert f"{x:*<11}" == "0.762(12)**"
    with pytest.raises(ValueError, match=r"'\.2' gives two digits"):
        f"{x:.3f}"


def test_estimate_is_frozen_checked_and_plain():
    x = Estimate(torch.tensor(0.5), np.float64(0.25))
    assert type(x.value) is float and type(x.error) is float and float(x) == 0.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        x.value = 1.0
    with pytest.raises(ValueError, match="error must not be negative"):
        Estimate(1.0, -0.1)


def test_estimate_scales():
    x = Estimate(3.0, 0.5)
    assert x * -2 == -2 * x == Estimate(-6.0, 1.0)
    assert x / 2 == Estimate(1.5, 0.25)
    assert -x == Estimate(-3.0, 0.5)
    m = mean(ar1(0.5, 4000))
    scaled = -3 * m
    assert isinstance(scaled, MeanEstimate)
    assert scaled.tau_int == m.tau_int and scaled.window == m.window
    assert scaled.error_of_error == pytest.approx(3 * m.error_of_error, rel=1e-14)
    j = jackknife(lambda m: m**2, ar1(0.5, 4000))
    assert (-2 * j).bias == -2 * j.bias and (-2 * j).error == 2 * j.error
    with pytest.raises(TypeError):
        x * x


def test_independent_estimates_add_in_quadrature():
    a, b = Estimate(5.0, 0.3), Estimate(2.0, 0.4)
    assert (a + b, a - b, b - a) == (Estimate(7.0, 0.5), Estimate(3.0, 0.5), Estimate(-3.0, 0.5))
    assert (a + 1, 1 + a, a - 1, 1 - a) == (
        Estimate(6.0, 0.3), Estimate(6.0, 0.3), Estimate(4.0, 0.3), Estimate(-4.0, 0.3))
    assert (a - b).value / (a - b).error == a.z(b)
    assert sum([a, b]) == a + b
    m = mean(ar1(0.5, 4000))
    assert type(m - a) is Estimate and float(-m) == -m.value  # tau_int of a sum means nothing
    for wrong in ("1", None, [1.0], True):
        with pytest.raises(TypeError):
            a + wrong
        with pytest.raises(TypeError):
            a - wrong


def test_errors_of_a_difference_cover_the_truth():
    g = torch.Generator().manual_seed(5)
    x, y = torch.randn(2, 4000, generator=g, dtype=torch.float64).tolist()
    hits = [abs((Estimate(a, 1.0) - 2 * Estimate(b, 1.0)).z(0.0)) < 1
            for a, b in zip(x, y, strict=True)]
    assert abs(sum(hits) / 4000 - 0.6827) < 4 * math.sqrt(0.6827 * 0.3173 / 4000)


def test_z_is_the_difference_in_combined_errors():
    assert Estimate(2.0, 3.0).z(Estimate(7.0, 4.0)) == -1.0
    assert Estimate(2.0, 0.5).z(1.0) == 2.0
    assert Estimate(2.0, 0.0).z(2.0) == 0.0
    assert Estimate(2.0, 0.0).z(3.0) == -math.inf
    assert math.isnan(Estimate(2.0, math.nan).z(3.0))


# --- autocorrelation -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (2,), (37,), (3, 50), (5, 1), (2, 1009), (1, 4096)])
@pytest.mark.parametrize("lags", ["none", "one", "some", "all"])
def test_autocorrelation_is_the_direct_sum(shape, lags):
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape).cumsum(-1) + 100
    time = shape[-1]
    max_lag = {"none": 0, "one": min(1, time - 1), "some": time // 3, "all": time - 1}[lags]
    d = np.atleast_2d(x - x.mean())
    direct = [
        (d[:, : time - t] * d[:, t:]).sum() / (len(d) * (time - t)) for t in range(max_lag + 1)
    ]
    got = autocorrelation(torch.from_numpy(x), max_lag, normalised=False)
    np.testing.assert_allclose(got, direct, atol=1e-12 * max(direct[0], 1))
    if direct[0] > 0:
        rho = autocorrelation(torch.from_numpy(x), max_lag)
        np.testing.assert_allclose(rho, np.array(direct) / direct[0], atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "max_lag"),
    [((1, 200_003), 5), ((3, 70_001), 100), ((300, 1024), 511), ((64, 400), 9)],
)
def test_autocorrelation_of_series_that_are_cut_into_pieces(shape, max_lag):
    x = np.random.default_rng(4).standard_normal(shape)
    got = autocorrelation(torch.from_numpy(x), max_lag, normalised=False)
    d, time = x - x.mean(), shape[-1]
    for t in (0, 1, max_lag // 2, max_lag):
        direct = (d[:, : time - t] * d[:, t:]).sum() / (len(d) * (time - t))
        assert float(got[t]) == pytest.approx(direct, abs=1e-12)


def test_autocorrelation_of_everything_by_default_and_by_observable():
    x = torch.stack([ar1(0.3, 500, 4, seed=1), ar1(0.8, 500, 4, seed=2)], dim=-1)
    both = autocorrelation(x)
    assert both.shape == (2, 500)
    for got, series in zip(both, x.unbind(-1), strict=True):
        torch.testing.assert_close(got, autocorrelation(series), rtol=0, atol=1e-13)


def test_autocorrelation_of_ar1_is_a_power():
    # 200 chains give an independent rho(t) each: their scatter is the error
    a = 0.7
    rho = torch.stack([autocorrelation(x, 8) for x in ar1(a, 20000, 200, seed=5)])
    # E rho is lower by about 2 tau_int (1 - rho) / T + O(1/T): two orders below what is tested
    z = (rho.mean(0) - a ** torch.arange(9.0))[1:] / (rho.std(0)[1:] / math.sqrt(200))
    assert rho[:, 0].eq(1).all() and float(z.abs().max()) < 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_autocorrelation_keeps_the_type(dtype):
    assert autocorrelation(ar1(0.5, 64).to(dtype), 5).dtype is dtype
    assert autocorrelation(torch.arange(10), 5).dtype is torch.float64


def test_autocorrelation_of_a_constant():
    flat = torch.full((2, 30), 0.1)
    assert autocorrelation(flat, 3).tolist() == pytest.approx([1, 0, 0, 0], abs=0)
    assert autocorrelation(flat, 3, normalised=False).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("bad", [-1, 10, 1.5, True])
def test_autocorrelation_refuses_impossible_lags(bad):
    with pytest.raises(ValueError, match="max_lag must be an integer from 0 to time - 1 = 9"):
        autocorrelation(torch.arange(10.0), bad)


# --- mean and error --------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["gamma", "sokal"])
@pytest.mark.parametrize("a", [0.0, 0.5, 0.9, -0.5])
def test_mean_of_ar1_over_many_replicas(a, window):
    """The quoted errors are the true ones: of the mean, of tau_int, and of the error."""
    count, time = 300, 10000
    estimates = [mean(x, window=window) for x in ar1(a, time, count, seed=11)]
    cut = round(np.mean([e.window for e in estimates]))

    z = np.array([e.value / e.error for e in estimates])
    assert abs(z.mean()) * math.sqrt(count) < 4
    assert abs(z.var() - 1) / math.sqrt(2 / count) < 4

    tau = np.array([e.tau_int for e in estimates])
    error = np.array([e.error for e in estimates])
    scatter_tau, scatter_error = exact_scatter(a, time, cut)
    # the cut at W leaves out a^(W+1) / (1 - a) of tau_int, and W moves by one or two
    left_out = abs(a) ** (cut - 1) / (1 - abs(a))
    assert abs(tau.mean() - exact_tau(a)) < left_out + 4 * tau.std() / math.sqrt(count)
    truth = exact_error(a, time)
    missed = truth * left_out / (2 * exact_tau(a))
    assert abs(error.mean() - truth) < missed + 4 * error.std() / math.sqrt(count)

    # the scatter is that of Bartlett's formula at this W; that W itself moves adds up to 15 %
    assert tau.std() / scatter_tau == pytest.approx(1, abs=4 / math.sqrt(2 * count) + 0.15)
    assert error.std() / scatter_error == pytest.approx(1, abs=4 / math.sqrt(2 * count) + 0.15)
    # the quoted errors are those formulas for W >> tau_int: good to a quarter
    assert np.mean([e.error_of_error for e in estimates]) == pytest.approx(scatter_error, rel=0.25)
    if a > 0:
        quoted = np.mean([e.tau_int_error for e in estimates])
        assert quoted == pytest.approx(scatter_tau, rel=0.25)


def exact_scatter(a: float, n: int, window: int) -> tuple[float, float]:
    """Standard errors of tau_int and of the error of an AR(1) chain, cut at a fixed window.

    M. S. Bartlett, J. R. Stat. Soc. Suppl. 8 (1946) 27: n cov[Gamma(s), Gamma(t)] is the sum over
    all u of Gamma(u) Gamma(u + t - s) + Gamma(u + t) Gamma(u - s), then linear propagation.
    """
    t = np.arange(window + 1)
    u = np.arange(-60 - 12 * window, 61 + 12 * window)

    def rho(lag):
        return np.where(lag == 0, 1.0, float(a) ** np.abs(lag)) if a else (lag == 0) * 1.0

    shift = np.array([np.sum(rho(u) * rho(u + d)) for d in range(window + 1)])
    cov = shift[np.abs(t[:, None] - t)] + rho(u + t[:, None]) @ rho(u - t[:, None]).T
    weight = np.where(t == 0, 1.0, 2.0)
    tau = weight @ rho(t) / 2
    of_tau = weight / 2 - tau * (t == 0)  # d(C / 2 Gamma(0))
    of_error = weight / (2 * math.sqrt(2 * tau * n))  # d sqrt(C / n)
    return math.sqrt(of_tau @ cov @ of_tau / n), math.sqrt(of_error @ cov @ of_error / n)


def test_coverage_is_that_of_a_normal_distribution():
    """tau_int +- error covers the truth in 68 % of cases; 4 sigma of a binomial and 5 % bias."""
    a, count = 0.8, 400
    estimates = [mean(x) for x in ar1(a, 10000, count, seed=23)]
    for inside in (
        [abs(e.tau_int - exact_tau(a)) < e.tau_int_error for e in estimates],
        [abs(e.value) < e.error for e in estimates],
    ):
        assert abs(np.mean(inside) - 0.683) < 0.05 + 4 * math.sqrt(0.683 * 0.317 / count)


@pytest.mark.parametrize("a", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("chains", [1, 3])
def test_mean_agrees_with_pyerrors(a, chains):
    x = ar1(a, 30000, chains, seed=31)
    x = x - x.mean(-1, keepdim=True) + 2.5  # it subtracts each chain's own mean: make them equal
    obs = pyerrors.Obs(list(x.numpy()), [f"e|{i}" for i in range(chains)])
    obs.gamma_method(S=1.5)
    ours = mean(x)
    assert ours.window == obs.e_windowsize["e"]
    assert ours.value == pytest.approx(obs.value, rel=1e-12)
    assert ours.error == pytest.approx(obs.dvalue, rel=1e-9)
    assert ours.error_of_error == pytest.approx(obs.ddvalue, rel=1e-9)
    # its Gamma(0) is corrected by the factor 1 + 1 / n, ours by 1 + 2 tau_int / n
    rel = 2 * ours.tau_int / ours.n
    assert ours.tau_int == pytest.approx(obs.e_tauint["e"], rel=rel)
    # and the factor 1 + (2 W + 1) / n of tau_int is left out of its error there
    assert ours.tau_int_error == pytest.approx(
        obs.e_dtauint["e"], rel=rel + 2 * (2 * ours.window + 1) / ours.n
    )


@pytest.mark.parametrize("a", [0.3, 0.6, 0.95])
def test_sokal_window_agrees_with_emcee(a):
    x = ar1(a, 30000, seed=37)
    theirs = float(emcee.autocorr.integrated_time(x.numpy(), c=5)[0])
    ours = mean(x, window="sokal", c=10)
    biased = ours.tau_int * (1 + 1 / ours.n) / (1 + (2 * ours.window + 1) / ours.n)
    # emcee divides the sum of T - t pairs by T: relatively lower by at most W / n
    assert 2 * biased == pytest.approx(theirs, rel=ours.window / ours.n)
    assert ours.tau.z(exact_tau(a)) == pytest.approx(0, abs=4)


def test_one_long_chain_equals_many_short_ones():
    a, n = 0.8, 240_000
    for chains in (1, 60, 2400):  # the shortest are 100 long, 22 tau_int
        estimate = mean(ar1(a, n // chains, chains, seed=chains))
        assert estimate.n == n and estimate.window < 60
        assert abs(estimate.z(0.0)) < 4
        assert abs(estimate.tau.z(exact_tau(a))) < 4
        # the edges of short chains are neglected: conservative by tau_int / time in the variance
        truth = exact_error(a, n // chains, chains)
        assert -4 * estimate.error_of_error < estimate.error - truth
        assert estimate.error - truth < 4 * estimate.error_of_error + truth * 4.5 * chains / n


def test_chains_at_different_means_show_up_in_the_error():
    """With each chain's own mean subtracted, stuck chains would look perfect."""
    x = ar1(0.5, 5000, 8, seed=2) + 3 * torch.arange(8.0)[:, None]
    with pytest.warns(ShortChainWarning) as caught:
        estimate = mean(x)
    assert caught[0].message.estimate == estimate
    # eight frozen values: their own standard error is 3 sqrt(63/12) / sqrt(7) = 2.6
    assert estimate.error > 1.3


def test_independent_measurements_of_many_chains():
    x = ar1(0.0, 4000, seed=41)
    apart = mean(x[:, None])  # 4000 chains of one measurement
    assert apart.tau_int == pytest.approx(0.5, abs=1e-15) and apart.window == 0
    assert apart.error == pytest.approx(float(x.std()) / math.sqrt(4000), rel=1e-6)


def test_float32_and_other_inputs_give_the_float64_result():
    x = ar1(0.9, 50000, seed=43).float() + 1000  # a large offset costs single precision dear
    wide, narrow = mean(x.double()), mean(x)
    assert narrow == wide
    assert mean(x.tolist()) == wide and mean(x.numpy()) == wide
    assert mean(x.clone().requires_grad_()) == wide
    coins = torch.randint(2, (1000,), generator=torch.Generator().manual_seed(3))
    assert mean(coins) == mean(coins.double())
    low = mean(ar1(0.9, 50000, seed=43).bfloat16())
    assert low.tau_int == pytest.approx(mean(ar1(0.9, 50000, seed=43)).tau_int, rel=1e-2)


def test_a_series_that_only_alternates_is_told_apart_from_uncorrelated_data():
    # its sum of correlations is zero, and on one machine rounding made it a little more
    for offset in (0.0, 0.1, 1 / 3):
        with pytest.warns(ShortChainWarning):
            series = torch.tensor([0.0, 1.0] * 500) + offset
            assert mean(series).tau_int == pytest.approx(0.5, rel=0.01)


def test_a_large_offset_costs_no_digits():
    x = ar1(0.7, 5000, seed=47)
    far = mean(x + 1e9)  # x itself is then rounded at 1e-7
    near = mean((x + 1e9) - 1e9)
    assert far.error == pytest.approx(near.error, rel=1e-9)
    assert far.tau_int == pytest.approx(near.tau_int, rel=1e-9)


POWERS = (-700, -350, -1, 1, 350, 700)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("shape", [(2000,), (4, 500)])
def test_a_power_of_two_changes_only_the_unit(power, shape):
    """Squares of 2**-700 vanish and those of 2**700 overflow: the unit is taken out before."""
    x = ar1(0.6, shape[-1], shape[0] if len(shape) > 1 else None, seed=83) + 0.3
    size = 2.0**power
    for window in ("gamma", "sokal"):
        one, other = mean(x, window=window), mean(size * x, window=window)
        assert (one.tau_int, one.tau_int_error, one.window) == (
            other.tau_int, other.tau_int_error, other.window)
        assert (size * one.value, size * one.error, size * one.error_of_error) == (
            other.value, other.error, other.error_of_error)
    assert split_rhat(x) == split_rhat(size * x)
    assert torch.equal(autocorrelation(x), autocorrelation(size * x))
    y = x.square() + 1
    one = function_of_means(lambda a, b: a / b, x, y)
    assert function_of_means(lambda a, b: a / b, size * x, size * y) == one
    assert function_of_means(lambda a: a, size * x) == mean(size * x)
    one, other = jackknife(lambda m: m, x), jackknife(lambda m: m, size * x)
    assert (size * one.value, size * one.error, size * one.bias) == (
        other.value, other.error, other.bias)


def test_each_observable_has_a_unit_of_its_own():
    x = torch.stack([ar1(a, 500, 2, seed=53) for a in (0.0, 0.5, 0.9)], dim=-1) + 2
    sizes = [2.0**-700, 1.0, 2.0**700]
    scaled = x * torch.tensor(sizes, dtype=torch.float64)
    for size, here, there in zip(sizes, mean(x), mean(scaled), strict=True):
        assert (size * here.value, size * here.error, here.tau_int) == (
            there.value, there.error, there.tau_int)
    assert split_rhat(x) == split_rhat(scaled)
    assert torch.equal(autocorrelation(x, 5), autocorrelation(scaled, 5))
    gamma = autocorrelation(x[..., 1] * 2.0**-400, 5, normalised=False)
    assert torch.equal(gamma, autocorrelation(x[..., 1], 5, normalised=False) * 2.0**-800)


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e160, 1e307])
def test_tiny_and_huge_weights_have_errors(size):
    """From 1e-174 on errors were 0 and R-hat NaN; from 1e155 on nothing could be said at all."""
    x = ar1(0.6, 3000, seed=83) / 4 + 2
    one, other = mean(x), mean(size * x)
    assert other.value / size == pytest.approx(one.value, rel=1e-7)
    assert other.error / size == pytest.approx(one.error, rel=1e-7)
    assert other.tau_int == pytest.approx(one.tau_int, rel=1e-7)
    assert split_rhat(size * x) == pytest.approx(split_rhat(x), rel=1e-7)
    other = jackknife(lambda m: m, size * x)
    assert other.error / size == pytest.approx(jackknife(lambda m: m, x).error, rel=1e-7)


def test_observables_come_one_by_one():
    x = torch.stack([ar1(a, 3000, 2, seed=53) for a in (0.0, 0.5, 0.9)], dim=-1)
    for i, estimate in enumerate(mean(x)):
        assert_same(estimate, mean(x[..., i]))


def test_constant_series_have_no_error():
    for flat in (torch.full((100,), 0.1), torch.full((4, 25), 1 / 3, dtype=torch.float64)):
        estimate = mean(flat)
        assert estimate.value == pytest.approx(float(flat.flatten()[0]), rel=1e-15)
        assert (estimate.error, estimate.tau_int, estimate.tau_int_error) == (0, 0.5, 0)


def test_strong_anticorrelation_has_a_positive_variance():
    """A window closed at lag 1 would make 1 - 2 |a| of the variance, below zero here."""
    a = -0.9
    estimate = mean(ar1(a, 200_000, seed=59))
    assert estimate.window > 20
    assert abs(estimate.tau_int - exact_tau(a)) < 4 * 2 * exact_tau(a) * math.sqrt(
        estimate.window / estimate.n
    ) + 0.9 ** (estimate.window + 1)
    with pytest.warns(ShortChainWarning):  # a sum of noise: never NaN
        assert mean(torch.tensor([1.0, -1.0] * 4)).error > 0


def test_slow_chains_need_more_than_the_first_lags():
    a = 0.998  # the window is far beyond the 512 lags of the first attempt
    estimate = mean(ar1(a, 400_000, seed=61))
    assert estimate.window > 2000
    assert abs(estimate.tau.z(exact_tau(a))) < 4


@pytest.mark.parametrize("length", [2, 5, 40, 400])
def test_short_chains_warn_or_raise_with_the_estimate(length):
    x = ar1(0.99, length, seed=67)
    with pytest.warns(ShortChainWarning, match="at least 50 tau_int") as caught:
        estimate = mean(x)
    assert caught[0].message.estimate == estimate
    assert caught[0].filename == __file__
    assert math.isfinite(estimate.error) and estimate.error > 0
    with pytest.raises(ShortChainError, match="too short") as raised:
        mean(x, strict=True)
    assert raised.value.estimate == estimate
    # as an error, by the filter that the tests run under
    with pytest.raises(ShortChainWarning):
        mean(x)


def test_one_warning_for_many_observables_is_about_the_worst():
    x = torch.stack([ar1(a, 500, seed=71)[None] for a in (0.0, 0.97, 0.99)], dim=-1)
    with pytest.warns(ShortChainWarning, match="2 of 3 observables") as caught:
        estimates = mean(x)
    assert len(caught) == 1 and caught[0].message.estimate == max(
        estimates, key=lambda e: e.tau_int
    )


def test_long_chains_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean(ar1(0.9, 20000, seed=73), strict=True)


def test_bad_series_are_refused_by_name():
    x = ar1(0.5, 100)
    x[3] = math.nan
    with pytest.raises(ValueError, match="series holds 1 NaN or infinite entries of 100"):
        mean(x)
    with pytest.raises(ValueError, match="series holds 1 NaN"):
        autocorrelation(x)
    with pytest.raises(ShapeError, match="at least 2 are needed"):
        mean(torch.ones(1))
    with pytest.raises(ShapeError, match="too few"):
        mean(torch.ones(3, 0))
    with pytest.raises(ShapeError, match="must have shape"):
        mean(torch.ones(2, 3, 4, 5))
    with pytest.raises(ShapeError, match="must have shape"):
        mean(torch.tensor(1.0))
    with pytest.raises(ValueError, match="is complex"):
        mean(torch.ones(10, dtype=torch.complex64))
    with pytest.raises(ValueError, match='window must be "gamma" or "sokal"'):
        mean(torch.ones(10), window="auto")
    with pytest.raises(ValueError, match="s_tau must be a finite positive number"):
        mean(torch.ones(10), s_tau=0)
    with pytest.raises(ValueError, match="c must be a finite positive number"):
        mean(torch.ones(10), window="sokal", c=-1)


def test_warnings_and_estimates_survive_pickling_where_they_can():
    estimate = mean(ar1(0.5, 2000))
    assert pickle.loads(pickle.dumps(estimate)) == estimate


# --- functions of means ----------------------------------------------------------------------


def correlated(n: int, seed: int, chains: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Two correlated series with means 2 and 5, unit variance and correlation 0.6."""
    x, y = ar1(0.7, n, chains, seed=seed), ar1(0.7, n, chains, seed=seed + 1)
    return x + 2, 0.6 * x + 0.8 * y + 5


def test_function_of_means_of_a_linear_function_is_the_mean():
    x, y = correlated(5000, 79)
    assert function_of_means(lambda m: m, x) == mean(x)
    assert_same(function_of_means(lambda a, b: 3 * a - 2 * b, x, y), mean(3 * x - 2 * y))


def test_function_of_means_agrees_with_pyerrors():
    x, y = correlated(20000, 83)
    a, b = (pyerrors.Obs([s.numpy()], ["e"]) for s in (x, y))
    theirs = np.log(a / b) * a
    theirs.gamma_method(S=1.5)
    ours = function_of_means(lambda a, b: torch.log(a / b) * a, x, y)
    assert ours.value == pytest.approx(theirs.value, rel=1e-12)
    assert ours.error == pytest.approx(theirs.dvalue, rel=1e-9)
    assert ours.error_of_error == pytest.approx(theirs.ddvalue, rel=1e-9)
    assert ours.window == theirs.e_windowsize["e"]


def test_function_of_means_covers_the_truth():
    """A ratio, whose linear error is exact to order 1/n, over many replicas."""
    count, n = 200, 4000
    z = []
    for i in range(count):
        x, y = correlated(n, 1000 + 2 * i)
        z.append(function_of_means(lambda a, b: a / b, x, y).z(0.4))
    assert abs(np.mean(z)) * math.sqrt(count) < 4
    assert abs(np.var(z) - 1) / math.sqrt(2 / count) < 4


def test_function_of_means_takes_vectors_and_returns_them():
    x, y = correlated(3000, 89, chains=3)
    both = torch.stack([x, y], dim=-1)
    one, two = function_of_means(lambda m: torch.stack([m[0] / m[1], m.sum()]), both)
    assert_same(one, function_of_means(lambda a, b: a / b, x, y))
    assert two.value == pytest.approx(float(x.mean() + y.mean()), rel=1e-14)


def test_function_of_means_refuses_what_it_cannot_derive():
    x, y = correlated(1000, 97)
    with pytest.raises(ValueError, match="write it in torch operations"):
        function_of_means(lambda m: torch.tensor(float(m.detach())), x)
    with pytest.raises(ShapeError, match="f must return a tensor"):
        function_of_means(lambda m: 3.0, x)
    with pytest.raises(ValueError, match="f at the means holds 1 NaN"):
        function_of_means(lambda m: torch.log(-m), x)
    with pytest.raises(ValueError, match="derivative of f"):
        function_of_means(lambda m: (m - m.detach()).abs().sqrt() * 1.0, x)
    with pytest.raises(ShapeError, match="same \\(chains, time\\)"):
        function_of_means(lambda a, b: a + b, x, y[:-1])
    with pytest.raises(TypeError, match="at least one series"):
        function_of_means(lambda: torch.tensor(0.0))


# --- jackknife -------------------------------------------------------------------------------


def leave_one_out(f, bins):
    """The definition, with numpy and no shortcut: mean over what is left, divided by its number."""
    n = len(bins)
    values = np.array([f(np.concatenate(bins[:b] + bins[b + 1 :]).mean(0)) for b in range(n)])
    error = math.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
    return error, (n - 1) * (values.mean() - f(np.concatenate(bins).mean(0)))


@pytest.mark.parametrize(("n", "bin_size", "bins"), [(60, 6, 10), (64, 6, 10), (61, 1, 61)])
def test_jackknife_is_its_definition(n, bin_size, bins):
    x, y = correlated(n, 101)
    both = torch.stack([x, y], -1).numpy()
    got = (
        jackknife(lambda a, b: a / b, x, y, bin_size=bin_size, strict=bins >= 20)
        if bins >= 20
        else _quiet(jackknife, lambda a, b: a / b, x, y, bin_size=bin_size)
    )
    edges = [n * b // bins for b in range(bins + 1)]
    pieces = [both[i:j] for i, j in itertools.pairwise(edges)]
    error, bias = leave_one_out(lambda m: m[0] / m[1], pieces)
    assert got.bins == bins and got.bin_size == bin_size
    assert got.error == pytest.approx(error, rel=1e-10)
    assert got.bias == pytest.approx(bias, rel=1e-6)


def test_jackknife_of_the_mean_is_the_standard_error_and_unbiased():
    x = ar1(0.0, 500, seed=103) + 1e6
    got = jackknife(lambda m: m, x, bin_size=1)
    assert got.error == pytest.approx(float((x - 1e6).std()) / math.sqrt(500), rel=1e-7)
    assert abs(got.bias) < 1e-6 * got.error


def test_jackknife_of_a_square_is_closed():
    """f = m^2: the bias is the variance of the mean, s^2 / n, to the last digit."""
    x = ar1(0.0, 400, seed=107) + 0.3
    got = jackknife(lambda m: m**2, x, bin_size=1)
    assert got.bias == pytest.approx(float(x.var()) / 400, rel=1e-9)
    assert got.value - got.bias == pytest.approx(
        (float(x.sum()) ** 2 - float((x**2).sum())) / (400 * 399), rel=1e-9
    )


def test_jackknife_agrees_with_linear_propagation_and_the_truth():
    x, y = correlated(200_000, 109)
    knife = jackknife(lambda a, b: a / b, x, y)
    linear = function_of_means(lambda a, b: a / b, x, y)
    # d(a/b) = (da - 0.4 db) / 5, with variance (1 - 2 * 0.4 * 0.6 + 0.16) * 2 tau_int / n / 25
    truth = math.sqrt(0.68 * 2 * exact_tau(0.7) / 200_000) / 5
    assert knife.value == pytest.approx(linear.value, rel=1e-12)
    assert abs(linear.error - truth) < 4 * linear.error_of_error
    # finite bins miss tau_int / bin_size of the variance
    missed = truth * exact_tau(0.7) / (2 * knife.bin_size)
    assert abs(knife.error - truth) < 4 * knife.error_of_error + missed
    assert abs(knife.z(0.4)) < 4


def test_jackknife_bins_see_the_autocorrelation():
    """Bins of one measurement give the error of uncorrelated data: too small by sqrt(2 tau)."""
    x = ar1(0.9, 100_000, seed=113)
    naive, binned = jackknife(lambda m: m, x, bin_size=1), jackknife(lambda m: m, x)
    assert naive.error * math.sqrt(2 * exact_tau(0.9)) == pytest.approx(
        exact_error(0.9, 100_000), rel=0.1
    )
    missed = binned.error * exact_tau(0.9) / (2 * binned.bin_size)
    assert abs(binned.error - exact_error(0.9, 100_000)) < 4 * binned.error_of_error + missed


def test_jackknife_of_vectors_chains_and_functions_that_branch():
    x, y = correlated(2000, 127, chains=4)
    both = torch.stack([x, y], -1)
    one, two = jackknife(lambda m: torch.stack([m[0] / m[1], m[0]]), both, bin_size=50)
    assert one.bins == 160 and isinstance(one, JackknifeEstimate)
    assert_same(one, jackknife(lambda a, b: a / b, x, y, bin_size=50))
    assert_same(two, jackknife(lambda a: a, x, bin_size=50))
    branching = jackknife(lambda a, b: a / b if a > 0 else b / a, x, y, bin_size=50)
    assert branching.error == pytest.approx(one.error, rel=1e-12)


def test_jackknife_bins_do_not_cross_chains():
    x = torch.tensor([[0.0] * 30, [1.0] * 30])  # frozen at two values
    got = _quiet(jackknife, lambda m: m, x, bin_size=100)
    # two bins, one a chain: the standard error of the two numbers 0 and 1
    assert (got.bins, got.bin_size) == (2, 30)
    assert got.error == pytest.approx(0.5, rel=1e-12)


def test_jackknife_warns_and_refuses():
    x = ar1(0.5, 100, seed=131)
    with pytest.warns(ShortChainWarning, match="only 5 bins") as caught:
        got = jackknife(lambda m: m, x, bin_size=20)
    assert caught[0].message.estimate == got and caught[0].filename == __file__
    with pytest.raises(ShortChainError, match="autocorrelation time is not known"):
        jackknife(lambda m: m, ar1(0.99, 300, seed=137), strict=True)
    with pytest.raises(ValueError, match="leaves a single bin"):
        jackknife(lambda m: m, x, bin_size=100)
    with pytest.raises(ValueError, match="bin_size must be an integer"):
        jackknife(lambda m: m, x, bin_size=0)
    with pytest.raises(ValueError, match="leave-one-out means"):
        jackknife(lambda m: torch.log(m - x.mean() + 1e-6), x, bin_size=1)


def _quiet(f, *args, **kwargs):
    with pytest.warns(ShortChainWarning):
        return f(*args, **kwargs)


# --- chains against each other -----------------------------------------------------------------


def test_split_rhat_is_its_definition():
    x = ar1(0.6, 201, 3, seed=139).numpy()
    halves = np.concatenate([x[:, :100], x[:, -100:]])
    within = halves.var(axis=1, ddof=1).mean()
    between = 100 * halves.mean(axis=1).var(ddof=1)
    want = math.sqrt((99 / 100 * within + between / 100) / within)
    assert split_rhat(torch.from_numpy(x)) == pytest.approx(want, rel=1e-12)


def test_split_rhat_sees_drift_and_stuck_chains():
    good = ar1(0.5, 5000, 4, seed=149)
    # half chains of T have means of variance 2 tau_int / T, so R - 1 is about tau_int / T
    assert abs(split_rhat(good) - 1) < 5 * exact_tau(0.5) / 2500
    assert split_rhat(good + torch.arange(4.0)[:, None]) > 1.2
    assert split_rhat(good[0] + torch.linspace(0, 5, 5000)) > 1.5
    assert split_rhat(torch.arange(3.0)[:, None].expand(3, 10)) == math.inf
    assert math.isnan(split_rhat(torch.ones(3, 10)))
    two = split_rhat(torch.stack([good, good + torch.arange(4.0)[:, None]], dim=-1))
    assert two[0] == pytest.approx(split_rhat(good), rel=1e-12) and two[1] > 1.2
    with pytest.raises(ShapeError, match="at least 4 times"):
        split_rhat(torch.ones(10, 3))
