"""Learning with phi^4: gradients, bounds, reweighting and networks against exact answers."""

from __future__ import annotations

import itertools
import math
import re
import warnings

import pytest
import torch
from conftest import checks_only

from physml import exact, exercises, statistics
from physml.actions import FreeField, InhomogeneousPhi4, Phi4, lattice_sum
from physml.device import generator
from physml.errors import CheckpointError, ShapeError, StabilityError
from physml.lattice import Lattice
from physml.phi4_learning import (
    BlockGibbs,
    ComplexAction,
    NextNearestPhi4,
    Phi4Network,
    ProductGrid,
    ReweightingWarning,
    annealed_log_z,
    data_gradient,
    fit_action,
    fit_data,
    free_energy_gradient,
    from_vector,
    gaussian_moments,
    natural_direction,
    reweight,
    site_log_z,
    standard_errors,
    strip_log_z,
    sufficient_statistics,
    to_vector,
    train_network,
)
from physml.rbm import ScalarFieldRBM
from physml.sampling import HMC, CheckerboardGibbs, sample

RING = Lattice((4,))
SQUARE = Lattice((4, 4))
F64 = torch.float64


@pytest.fixture(scope="module")
def grid():
    return ProductGrid(RING, 4.0, 24)


def rand(g, *shape):
    return torch.rand(*shape, generator=g, dtype=F64)


def random_action(lattice, seed=1, source=False):
    g = generator(seed)
    return InhomogeneousPhi4(
        0.5 * rand(g, lattice.dim, *lattice.shape), rand(g, *lattice.shape) + 0.1,
        0.3 * rand(g, *lattice.shape) + 0.2, rand(g, *lattice.shape) - 0.5 if source else None)


def draws(sampler, phi, sweeps, seed, burn=50):
    state, g, out = sampler.init(phi), generator(seed), []
    for k in range(burn + sweeps):
        state, _ = sampler.step(state, g)
        if k >= burn:
            out.append(state.phi)
    return torch.stack(out, 1)


# --- couplings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("lattice", [RING, SQUARE, Lattice((2, 4))])
def test_the_action_is_linear_in_its_couplings(lattice, source):
    action = random_action(lattice, source=source)
    theta = to_vector(action)
    phi = torch.randn(5, *lattice.shape, generator=generator(2), dtype=F64)
    assert torch.allclose(sufficient_statistics(phi, source) @ theta, action(phi), rtol=1e-13)
    again = from_vector(theta, lattice, source)
    assert torch.equal(to_vector(again), theta) and (again.source is None) is not source
    with pytest.raises(ShapeError, match="theta"):
        from_vector(theta[1:], lattice, source)


def test_diagonal_links_by_brute_force():
    action = NextNearestPhi4(0.7, 0.4, 1.2, 0.3)
    phi = torch.randn(3, 4, 6, generator=generator(3), dtype=F64)
    total = (1.2 * phi**2 + 0.3 * phi**4).sum((1, 2))
    for x, y in itertools.product(range(4), range(6)):
        for dx, dy, w in ((1, 0, 0.7), (0, 1, 0.7), (1, 1, 0.4), (1, -1, 0.4)):
            total = total - w * phi[:, x, y] * phi[:, (x + dx) % 4, (y + dy) % 6]
    assert torch.allclose(action(phi), total, rtol=1e-13)


@pytest.mark.parametrize("shape", [(4, 4), (2, 4), (4, 2, 4)])
def test_next_nearest_force_and_local_field(shape):
    action = NextNearestPhi4(0.7, -0.4, 0.2, 0.3)
    phi = torch.randn(3, *shape, generator=generator(4), dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(action(phi).sum(), phi)
    assert torch.allclose(action.force(phi.detach()), -gradient, rtol=1e-12)
    site = phi.detach()
    field = action.local_field(site)
    assert torch.allclose(-gradient, field - 0.4 * site - 1.2 * site**3, rtol=1e-12)


def test_block_gibbs_against_quadrature():
    """On the 2 x 2 torus links count twice and diagonals four times: all is in the action."""
    lattice, action = Lattice((2, 2)), NextNearestPhi4(0.2, 0.1, 0.8, 0.4)
    table = ProductGrid(lattice, 3.5, 24)

    def observe(phi):
        flat = phi.flatten(1)
        return torch.stack([(flat**2).mean(1), (flat**4).mean(1), flat.mean(1) ** 2], 1)

    known = table.mean(action, observe)
    phi = draws(BlockGibbs(action), torch.zeros(400, 2, 2, dtype=F64), 100, seed=5)
    found = statistics.mean(observe(phi.flatten(0, 1)).reshape(400, 100, 3))
    assert all(abs(f.z(float(k))) < 3.5 for f, k in zip(found, known, strict=True)), found


def test_block_gibbs_and_hmc_agree():
    action = NextNearestPhi4(0.3, 0.2, 0.9, 0.3)
    gibbs = draws(BlockGibbs(action), torch.zeros(200, 4, 4, dtype=F64), 100, seed=6)
    run = sample(HMC(action, 0.15, 1.0), torch.zeros(100, 4, 4, dtype=F64), 150, burn_in=50,
                 generator=generator(7), progress=False, keep_fields=True)
    one, two = (statistics.mean((phi**2).mean((2, 3))) for phi in (gibbs, run.fields))
    assert abs(one.z(two)) < 3.5


def test_complex_action():
    action = ComplexAction(Phi4(0.2, 0.1), lambda phi: 0.3 * lattice_sum(phi**2))
    value = action(torch.ones(1, 4, 4))
    assert value.is_complex() and float(value.imag) == pytest.approx(4.8)


# --- exact answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "a", "b"), [
    (3.0, 1.0, 0.1), (-20.0, 0.5, 1e-3), (4.0, -3.0, 0.5), (50.0, 1.0, 1.0), (1.0, -19.0, 10.0),
    (0.0, 0.0, 1e-4), (-60.0, 2.0, 0.0), (0.3, -8.0, 0.5)])
def test_site_log_z_against_a_fine_grid(h, a, b):
    x = torch.linspace(-40, 40, 200_001, dtype=F64)
    fine = torch.logsumexp(h * x - a * x**2 - b * x**4, 0) + math.log(80 / 200_000)
    found = site_log_z(torch.tensor(h, dtype=F64), a, b)
    assert float(found - fine) == pytest.approx(0, abs=1e-10)
    short = site_log_z(torch.tensor(h), a, b)
    assert short.dtype == torch.float32
    assert float(short) == pytest.approx(float(fine), rel=1e-5, abs=1e-5)


def test_site_log_z_in_closed_form_and_its_gradient():
    zero = torch.zeros(1, dtype=F64)
    for mu2, g in ((1.0, 0.5), (-4.0, 1.0), (-20.0, 24.0)):
        assert float(site_log_z(zero, mu2 / 2, g / 24)) == pytest.approx(
            exact.phi4_log_z(mu2, g), abs=1e-11)
    x, a, b = (torch.tensor([v], dtype=F64, requires_grad=True) for v in (0.5, -1.0, 0.4))
    gradients = torch.autograd.grad(site_log_z(x, a, b).sum(), (x, a, b))
    solved = exact.quadrature(lambda p: -0.5 * p - p**2 + 0.4 * p**4)
    for found, power, sign in zip(gradients, (1, 2, 4), (1, -1, -1), strict=True):
        assert float(found) == pytest.approx(sign * solved.moment(power), abs=1e-9)
    with pytest.raises(StabilityError, match="b > 0"):
        site_log_z(zero, -1.0, 0.0)


def test_product_grid_against_the_ring_and_a_complex_gaussian():
    grid = ProductGrid(RING, 3.3, 26)
    known = exact.phi4_ring(4, 0.2, 0.3)
    action = Phi4(0.2, 0.3)
    assert float(grid.log_z(action)) == pytest.approx(known.log_z, abs=1e-8)
    phi2 = grid.mean(action, lambda phi: (phi**2).mean(1))
    assert float(phi2) == pytest.approx(known.phi2, abs=1e-8)
    grid = ProductGrid(RING, 5.0, 26)
    free = ComplexAction(lambda phi: lattice_sum(phi**2), lambda phi: 0.5 * lattice_sum(phi**2))
    want = 2 * torch.log(torch.tensor(math.pi / (1 + 0.5j)))
    assert abs(complex(grid.log_z(free)) - complex(want)) < 1e-6
    mean = complex(grid.mean(free, lambda phi: (phi**2).mean(1)))
    assert abs(mean - 0.5 / (1 + 0.5j)) < 1e-6
    with pytest.raises(ShapeError, match="take fewer"):
        ProductGrid(Lattice((8,)), 3.0, 20)


def test_strip_against_two_rings_and_quadrature():
    """Without links across, a strip is two rings; a complex mass rotates a Gaussian integral."""
    kappa, lam = 0.2, 0.3
    lattice = Lattice((5, 2))
    hopping = torch.zeros(2, 5, 2, dtype=F64)
    hopping[0] = 2 * kappa
    rings = InhomogeneousPhi4(hopping, torch.full((5, 2), 1 - 2 * lam, dtype=F64),
                              torch.full((5, 2), lam, dtype=F64))
    known = 2 * exact.phi4_ring(5, kappa, lam).log_z
    assert float(strip_log_z(rings, lattice, 3.6, 22)) == pytest.approx(known, abs=1e-6)
    free = ComplexAction(lambda phi: lattice_sum(phi**2), lambda phi: 0.5 * lattice_sum(phi**2))
    got = complex(strip_log_z(free, lattice, 5.5, 18))
    assert got.real == pytest.approx(5 * math.log(abs(math.pi / (1 + 0.5j))), abs=1e-5)
    with pytest.raises(ShapeError, match=r"\(N, 2\)"):
        strip_log_z(rings, Lattice((2, 2)), 3.0)


def test_annealing_against_exact_values(grid):
    inhomogeneous = random_action(RING, source=True)
    strip, diagonal = Lattice((4, 2)), NextNearestPhi4(0.3, 0.1, 0.6, 0.3)
    cases = [(inhomogeneous, RING, float(grid.log_z(inhomogeneous))),
             (Phi4(0.2, 0.3), RING, exact.phi4_ring(4, 0.2, 0.3).log_z),
             (FreeField(1.0, 2), Lattice((4, 4)),
              exact.free_log_z(Lattice((4, 4)).free_spectrum(1.0))),
             (diagonal, strip, float(strip_log_z(diagonal, strip, 3.8, 20)))]
    for seed, (action, lattice, known) in enumerate(cases):
        found = annealed_log_z(action, lattice, chains=1500, steps=40, generator=generator(seed))
        assert found.error < 0.03 and abs(found.z(known)) < 3.5, (action, found, known)


# --- gradients ----------------------------------------------------------------------------------


def test_free_energy_gradient_is_exact(grid):
    """The covariance against differentiation of the free energy itself, to 1e-6 and better."""
    target = NextNearestPhi4(0.8, 0.0, 0.7, 0.25)
    action = random_action(RING, source=True)
    theta = to_vector(action).requires_grad_(True)
    free_energy = grid.free_energy(target, from_vector(theta, RING, True))
    (known,) = torch.autograd.grad(free_energy, theta)

    def joint(phi):
        statistics_ = sufficient_statistics(phi, True)
        d = target(phi) - action(phi)
        return torch.cat([statistics_, d[:, None], d[:, None] * statistics_], 1)

    mean = grid.mean(action, joint)
    n = len(theta)
    covariance = mean[n + 1:] - mean[n] * mean[:n]
    assert float((known + covariance).abs().max()) < 1e-10
    assert float(free_energy.detach()) > -float(grid.log_z(target))
    for k in (0, 5, 9, 13):  # and against differences, which know nothing of autograd
        shifted = [grid.free_energy(target, from_vector(
            theta.detach() + s * 1e-4 * torch.eye(n, dtype=F64)[k], RING, True)) for s in (1, -1)]
        assert float(shifted[0] - shifted[1]) / 2e-4 == pytest.approx(float(known[k]), abs=1e-6)

    # the estimate from samples is unbiased: chi2 of 16 components
    phi = draws(CheckerboardGibbs(action), torch.zeros(2000, 4, dtype=F64), 21 * 4, seed=8)[:, ::4]
    estimates = torch.stack([free_energy_gradient(
        target(p) - action(p), sufficient_statistics(p, True)) for p in phi.movedim(1, 0)])
    z = (estimates.mean(0) - known) / (estimates.std(0) / math.sqrt(len(estimates)))
    assert float((z**2).sum()) < n * 19 / 17 + 4 * math.sqrt(2.5 * n), z


def test_likelihood_gradient_is_exact(grid):
    data = torch.randn(50, 4, generator=generator(9), dtype=F64)
    action = random_action(RING)
    theta = to_vector(action).requires_grad_(True)
    model = from_vector(theta, RING)
    loss = model(data).mean() + grid.log_z(model)
    (known,) = torch.autograd.grad(loss, theta)
    want = sufficient_statistics(data).mean(0) - grid.mean(action, sufficient_statistics)
    assert float((known - want).abs().max()) < 1e-6
    samples = sufficient_statistics(data.flip(0))
    assert float(data_gradient(sufficient_statistics(data).mean(0), samples).abs().max()) < 1e-12


def test_a_natural_step_is_a_linear_regression():
    phi = torch.randn(200, 4, generator=generator(10), dtype=F64)
    action, target = random_action(RING), NextNearestPhi4(0.5, 0.0, 0.4, 0.6)
    table = sufficient_statistics(phi)
    gradient = free_energy_gradient(target(phi) - action(phi), table)
    stepped = to_vector(action) - natural_direction(gradient, table)
    design = torch.cat([table, torch.ones(200, 1, dtype=F64)], 1)
    fitted = torch.linalg.lstsq(design, target(phi)[:, None]).solution[:-1, 0]
    assert torch.allclose(stepped, fitted, atol=1e-9)
    want = to_vector(InhomogeneousPhi4.homogeneous(target, RING, dtype=F64))
    assert torch.allclose(stepped, want, atol=1e-9)  # no residual: exact from any sample
    with pytest.raises(StabilityError, match="more chains than couplings"):
        natural_direction(gradient, table[:5])
    with pytest.raises(StabilityError, match="does not fluctuate"):
        natural_direction(gradient, torch.ones_like(table))


# --- learning -----------------------------------------------------------------------------------


def test_a_homogeneous_action_is_learned_again():
    target = NextNearestPhi4(1.0, 0.0, 1.52425, 0.175)
    start = random_action(SQUARE, seed=11)
    want = to_vector(InhomogeneousPhi4.homogeneous(target, SQUARE, dtype=F64))
    fit = fit_action(start, target, steps=8, lr=1.0, chains=256, generator=generator(12))
    assert float((to_vector(fit.action) - want).abs().max()) < 1e-9
    assert float(fit.variance[-1]) < 1e-20 < float(fit.variance[0])
    plain = fit_action(start, target, steps=300, lr=0.01, method="gradient", chains=256,
                       generator=generator(12))
    distance = (plain.couplings - want).norm(dim=1)
    assert float(distance[-1]) < 0.9 * float(distance[0])  # on its way, slowly
    assert float(plain.variance[-1]) < 0.6 * float(plain.variance[0])


def test_couplings_from_data_within_their_errors():
    target, n = Phi4(0.25, 0.3), 8000
    data = draws(CheckerboardGibbs(target), torch.zeros(n // 10, 4, 4, dtype=F64), 80, seed=13)
    data = data[:, ::8].flatten(0, 1)
    fit = fit_data(random_action(SQUARE, seed=14), data, steps=60, chains=2048, average_from=20,
                   lr=lambda k: 1.0 if k < 15 else 0.3, generator=generator(15))
    want = to_vector(InhomogeneousPhi4.homogeneous(target, SQUARE, dtype=F64))
    error = standard_errors(sufficient_statistics(data), len(data))
    # a fifth more variance for the noise of the averaged updates
    chi2 = float((((to_vector(fit.action) - want) / error) ** 2).sum()) / 1.2
    assert 64 - 4 * math.sqrt(128) < chi2 < 64 + 4 * math.sqrt(128)


def test_the_bound_on_a_strip_is_tight():
    """Next-nearest neighbours, learned by nearest ones: the exact bound to 1 % of its scale."""
    lattice, target = Lattice((4, 2)), NextNearestPhi4(1.0, 1.0, 1.52425, 0.175)
    start = random_action(lattice, seed=16)
    log_za = float(strip_log_z(target, lattice, 4.6, 28))

    def free_energy(action):
        def mixed(t):
            return strip_log_z(lambda phi: (1 - t) * action(phi) + t * target(phi), lattice,
                               4.6, 28)
        # <A - S> is minus the derivative of ln Z on the way from S to A
        slope = float(mixed(1e-3) - mixed(-1e-3)) / 2e-3
        return -slope - float(mixed(0.0))

    # the two links across a row are one and the same, so the metric is singular without damping
    fit = fit_action(start, target, steps=60, lr=lambda k: 1.0 if k < 20 else 0.3, chains=1024,
                     average_from=25, damping=1e-6, generator=generator(17))
    gap = free_energy(fit.action) + log_za
    assert -1e-6 < gap < 0.01 * abs(log_za)
    assert gap < 0.05 * (free_energy(start) + log_za)


def test_gaussian_data_with_and_without_linear_terms():
    mean, width = torch.full((4, 4), -0.5, dtype=F64), 0.1
    moments = gaussian_moments(mean, width)
    noisy = mean + width * torch.randn(40_000, 4, 4, generator=generator(18), dtype=F64)
    table = sufficient_statistics(noisy, True)
    z = (moments - table.mean(0)) / (table.std(0) / 200)
    assert float((z**2).mean()) < 2
    start = InhomogeneousPhi4(*(torch.zeros(2, 4, 4, dtype=F64), torch.ones(4, 4, dtype=F64),
                                torch.zeros(4, 4, dtype=F64), torch.zeros(4, 4, dtype=F64)))
    fit = fit_data(start, moments, steps=40, lr=lambda k: 1.0 if k < 20 else 0.2, chains=2048,
                   max_kl=2.0, average_from=20, train=("quadratic", "source"), floor=0.0,
                   generator=generator(19))
    assert float((fit.action.quadratic / 50 - 1).abs().max()) < 0.05  # 1 / 2 width^2
    assert float((fit.action.source / -50 - 1).abs().max()) < 0.05  # mean / width^2
    even = fit_data(random_action(SQUARE), gaussian_moments(mean, width, source=False), steps=40,
                    lr=0.7, chains=2048, max_kl=2.0, generator=generator(20))
    assert abs(float(even.phi.mean())) < 0.1 and float(even.phi.abs().mean()) == pytest.approx(
        0.5, abs=0.02)


def test_learning_refuses_bad_input():
    start, g = random_action(SQUARE), generator(0)
    bad = ComplexAction(Phi4(0.2, 0.1), Phi4(0.1, 0.1))
    with pytest.raises(ValueError, match="reweight to the whole"):
        fit_action(start, bad, steps=1, lr=1.0, generator=g, burn_in=1)
    for options, message in (({"method": "adam"}, "method"), ({"lr": 0.0}, "lr"),
                             ({"steps": 0}, "steps"), ({"train": ("bias",)}, "train"),
                             ({"floor": -1.0}, "floor"), ({"average_from": 9}, "average_from")):
        with pytest.raises(ValueError, match=message):
            fit_action(start, Phi4(0.2, 0.1), **({"steps": 1, "lr": 1.0, "generator": g,
                                                 "burn_in": 1} | options))
    with pytest.raises(StabilityError, match="lower lr"), warnings.catch_warnings():
        fit_action(start, lambda phi: 1e308 * Phi4(0.2, 1.0)(phi), steps=2, lr=1e3, burn_in=1,
                   method="gradient", generator=g)
    with pytest.raises(ShapeError, match="data"):
        fit_data(start, torch.zeros(3, 5, 5, dtype=F64), steps=1, lr=1.0, generator=g)
    with pytest.raises(ValueError, match="two samples"):
        free_energy_gradient(torch.zeros(1), torch.zeros(1, 3))


# --- reweighting --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ring_samples():
    action = random_action(RING)
    return action, draws(CheckerboardGibbs(action), torch.zeros(400, 4, dtype=F64), 150, seed=21)


def test_reweighting_to_longer_range_and_complex_actions(grid, ring_samples):
    """To an action with a coupling at distance two, real and complex, against quadrature."""
    action, phi = ring_samples
    flat = phi.flatten(0, 1)

    def observe(p):
        return torch.stack([(p**2).mean(1), (p**4).mean(1), p[:, 0] * p[:, 2]], 1)

    def far(p):
        return action(p) - 0.3 * (p[:, 0] * p[:, 2] + p[:, 1] * p[:, 3])

    twisted = ComplexAction(far, lambda p: 0.4 * lattice_sum(p**2))
    for target in (far, twisted):
        weight = (action(flat) - target(flat)).reshape(phi.shape[:2])
        found = reweight(observe(flat).reshape(*phi.shape[:2], 3), log_weight=weight)
        known = grid.mean(target, observe)
        for k in range(3):
            assert abs(found.real[k].z(float(known[k].real))) < 3.5
            if target is twisted:
                assert abs(found.imag[k].z(float(known[k].imag))) < 3.5
                assert abs(float(known[k].imag)) > 10 * found.imag[k].error  # it is no zero
        ratio = grid.log_z(target) - grid.log_z(action)
        assert abs(found.log_ratio.z(float(ratio.real))) < 3.5
        assert 0 < found.fraction < 1 and found.ess <= found.fraction * weight.numel()
    assert found.phase < 1 and found.imag is not None


def test_effective_sample_sizes_and_warnings(ring_samples):
    _, phi = ring_samples
    observable = (phi**2).mean(2)
    same = reweight(observable, log_weight=torch.zeros(phi.shape[:2]))
    plain = statistics.mean(observable)
    assert same.fraction == pytest.approx(1) and same.phase == 1 and same.imag is None
    assert same.real.value == pytest.approx(plain.value) and same.log_ratio.value == 0
    assert same.real.error == pytest.approx(plain.error, rel=1e-6)
    # half of the samples count for nothing
    half = -1e3 * torch.randint(2, (400, 150), generator=generator(22)).double()
    assert reweight(observable, log_weight=half).fraction == pytest.approx(0.5, abs=0.01)
    one = torch.full((400, 150), -1e3)
    one[7, 7] = 0
    with pytest.warns(ReweightingWarning, match="effective sample size is 1 of 60000"):
        reweight(observable, log_weight=one)
    with pytest.raises(ShapeError, match="log_weight"):
        reweight(observable, log_weight=half[:5])
    with pytest.raises(ValueError, match="NaN"):
        reweight(observable, log_weight=half * math.nan)


# --- the network --------------------------------------------------------------------------------


def network(seed=31, n_visible=3, n_hidden=2, scale=0.5, **options):
    g = generator(seed)
    net = Phi4Network(n_visible, n_hidden, init=scale, generator=g, **options)
    net.r, net.s = rand(g, n_visible) - 0.5, rand(g, n_hidden) - 0.5
    return net


def test_gaussian_limit_is_the_scalar_field_rbm():
    rbm = ScalarFieldRBM(5, 3, mu2=4.0, sigma=0.8, init=0.5, generator=generator(32))
    rbm.eta = torch.tensor([0.3, -0.2, 0.5], dtype=F64)
    net = Phi4Network(5, 3, a=2.0, m=1 / (2 * 0.64), init=0)
    net.weight, net.s = rbm.weight, -rbm.eta / 0.64
    phi = torch.randn(6, 5, generator=generator(33), dtype=F64)
    assert torch.allclose(-net.free_action(phi) - net.log_z(), rbm.log_likelihood(phi), atol=1e-11)
    assert torch.allclose(net.hidden_mean(phi), rbm.hidden_mean(phi), atol=1e-12)
    h = torch.randn(6, 3, generator=generator(34), dtype=F64)
    assert torch.allclose(net.visible_mean(h), rbm.visible_mean(h), atol=1e-12)
    difference = net.action(phi, h) - rbm.action(phi, h)
    assert float(difference.std()) < 1e-12  # a constant, eta^2 / 2 sigma^2
    n, g = 40_000, generator(35)  # and it samples the same fields
    drawn = net.gibbs(rbm.sample(n, generator(36)), 2, g)
    two_point = rbm.covariance()
    centred = drawn - rbm.covariance() @ rbm.source()
    # for a Gaussian the variance of phi_i phi_j is C_ii C_jj + C_ij^2
    spread = torch.outer(two_point.diagonal(), two_point.diagonal()) + two_point**2
    z = (centred.T @ centred / n - two_point) / (spread / n).sqrt()
    assert float(z.abs().max()) < 4


@pytest.mark.parametrize("hidden", ["binary", "spin"])
def test_gaussian_bernoulli_is_a_mixture_of_gaussians(hidden):
    net = network(hidden=hidden, a=0.7)
    values = (0.0, 1.0) if hidden == "binary" else (-1.0, 1.0)
    states = torch.tensor(list(itertools.product(values, repeat=2)), dtype=F64)
    phi = torch.randn(6, 3, generator=generator(37), dtype=F64)
    # each state of h leaves a Gaussian about (W h - r) / 2a, of known weight
    centre = (states @ net.weight.T - net.r) / 1.4
    log_weight = 0.7 * (centre**2).sum(1) - states @ net.s
    log_norm = log_weight.logsumexp(0) + 1.5 * math.log(math.pi / 0.7)
    mixture = (log_weight - 0.7 * ((phi[:, None] - centre) ** 2).sum(2)).logsumexp(1) - log_norm
    assert torch.allclose(-net.free_action(phi) - net.log_z(), mixture, atol=1e-11)


@pytest.mark.parametrize("hidden", ["real", "binary", "spin"])
def test_phi4_layers_against_quadrature(hidden):
    """Two visible units, one hidden: norm, marginal and moments of Gibbs samples."""
    net = network(n_visible=2, n_hidden=1, scale=0.8, hidden=hidden, a=-0.4, b=0.3, m=-0.5, n=0.4)
    x = torch.linspace(-4.5, 4.5, 90, dtype=F64)
    h = {"real": x, "binary": torch.tensor([0.0, 1.0]).double(),
         "spin": torch.tensor([-1.0, 1.0]).double()}[hidden]
    phi = torch.cartesian_prod(x, x)
    pairs = [(phi[i // len(h)], h[i % len(h)]) for i in (0, 1000, 4321)]
    one = net.action(torch.stack([p for p, _ in pairs]),
                     torch.stack([v for _, v in pairs])[:, None])
    for got, (p, v) in zip(one, pairs, strict=True):
        want = (-(p @ net.weight[:, 0]) * v + net.r @ p - 0.4 * (p**2).sum() + 0.3 * (p**4).sum()
                + net.s[0] * v + ((-0.5 * v**2 + 0.4 * v**4) if hidden == "real" else 0))
        assert float(got) == pytest.approx(float(want), rel=1e-12)
    weight = torch.stack([torch.exp(-net.action(phi, v.expand(len(phi), 1))) for v in h], 1)
    cell = float(x[1] - x[0])
    marginal = weight.sum(1) * (cell if hidden == "real" else 1)
    assert torch.allclose(net.free_action(phi), -marginal.log(), atol=1e-9)
    log_z = float(torch.log(marginal.sum() * cell**2))
    if hidden == "real":
        with pytest.raises(ValueError, match="annealed_log_z"):
            net.log_z()
    else:
        assert float(net.log_z()) == pytest.approx(log_z, abs=1e-9)
    annealed = net.annealed_log_z(2000, 30, generator(38))
    assert annealed.error < 0.02 and abs(annealed.z(log_z)) < 3.5

    p = marginal / marginal.sum()
    n, g = 4000, generator(39)
    state = torch.zeros(n, 2, dtype=F64)
    series = []
    for k in range(60):
        state = net.gibbs(state, 1, g)
        if k >= 20:
            x0, x1 = state.T
            series.append(torch.stack([x0, x0 * x1, x1**4], 1))
    known = torch.stack([p @ phi[:, 0], p @ (phi[:, 0] * phi[:, 1]), p @ phi[:, 1] ** 4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", statistics.ShortChainWarning)
        found = statistics.mean(torch.stack(series, 1))
    assert all(abs(f.z(float(k))) < 3.5 for f, k in zip(found, known, strict=True)), (found, known)
    mean = net.hidden_mean(phi[4000:4001])
    row = weight[4000]
    assert float(mean) == pytest.approx(float(row @ h / row.sum()), abs=1e-9)


@pytest.mark.parametrize(("visible", "hidden"),
                         [("binary", "binary"), ("spin", "spin"), ("binary", "spin")])
def test_bernoulli_bernoulli_by_enumeration(visible, hidden):
    net = network(visible=visible, hidden=hidden, scale=1.0)
    low = {"binary": 0, "spin": -1}
    phis = list(itertools.product((low[visible], 1), repeat=3))
    hs = list(itertools.product((low[hidden], 1), repeat=2))
    weights = {}
    for phi, h in itertools.product(phis, hs):  # the textbook sum, without tensors
        exponent = sum(phi[i] * float(net.weight[i, j]) * h[j] for i in range(3) for j in range(2))
        exponent -= sum(float(r) * v for r, v in zip(net.r, phi, strict=True))
        exponent -= sum(float(s) * v for s, v in zip(net.s, h, strict=True))
        weights[phi, h] = math.exp(exponent)
    z = sum(weights.values())
    assert float(net.log_z()) == pytest.approx(math.log(z), abs=1e-12)
    g = generator(40)
    state = net.gibbs(torch.ones(20_000, 3, dtype=F64), 20, g)
    for phi in phis:
        p = sum(weights[phi, h] for h in hs) / z
        row = torch.tensor([phi], dtype=F64)
        assert float(-net.free_action(row) - net.log_z()) == pytest.approx(math.log(p), abs=1e-12)
        share = float((state == row).all(1).double().mean())
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 20_000)


def test_deep_wells_become_spins():
    """n (h^2 - 1)^2 ties h to +-1; what is left falls like 1/n."""
    phi = torch.randn(5, 3, generator=generator(41), dtype=F64)
    spin = network(hidden="spin")
    error = []
    for n in (200.0, 400.0):
        deep = network(m=-2 * n, n=n)
        deep.weight, deep.r, deep.s = spin.weight, spin.r, spin.s
        difference = deep.free_action(phi) - spin.free_action(phi)
        error.append(float((difference - difference.mean()).abs().max()))
    assert error[1] < 2e-3 and error[0] / error[1] == pytest.approx(2, rel=0.05)


def test_annealing_of_the_network_against_the_gaussian():
    net = network(n_visible=6, n_hidden=4, scale=0.3)
    found = net.annealed_log_z(1000, 40, generator(42))
    assert found.error < 0.05 and abs(found.z(float(net.log_z()))) < 3.5
    assert float(net.weight.abs().max()) > 0  # put back where it was


def test_what_has_no_norm_is_refused():
    with pytest.raises(StabilityError, match="no norm"):
        Phi4Network(3, 2, a=-1.0, init=0)
    net = Phi4Network(3, 2, init=0)
    net.weight = torch.full((3, 2), 0.6, dtype=F64)
    with pytest.raises(StabilityError, match="eigenvalue"):
        net.check_stable()
    for name, value in (("b", 1e-3), ("n", 1e-3)):  # one quartic layer is enough
        other = Phi4Network(3, 2, init=0, **{name: value})
        other.weight = 10 * net.weight
        other.check_stable()
    Phi4Network(3, 2, hidden="binary", init=0).check_stable()
    with pytest.raises(StabilityError, match="negative"):
        Phi4Network(3, 2, b=-1.0, init=0)
    with pytest.raises(ValueError, match="visible must be one of"):
        Phi4Network(3, 2, visible="bernoulli", init=0)
    with pytest.raises(ValueError, match="generator"):
        Phi4Network(3, 2)
    with pytest.raises(ShapeError, match="phi"):
        net.free_action(torch.zeros(3, dtype=F64))


# --- training -----------------------------------------------------------------------------------

XY = torch.cartesian_prod(*[torch.linspace(-3.5, 3.5, 70, dtype=F64)] * 2)
CELL = (7 / 69) ** 2


def two_humps(n, seed):
    g = generator(seed)
    side = 2 * torch.randint(2, (n, 1), generator=g).double() - 1
    return side + 0.4 * torch.randn(n, 2, generator=g, dtype=F64)


def log_humps():
    one, two = (-((XY - s) ** 2).sum(1) / 0.32 - math.log(2 * math.pi * 0.16) for s in (1, -1))
    return torch.logaddexp(one, two) - math.log(2)


def exact_kl(net):
    log_p = log_humps()
    log_q = -net.free_action(XY)
    log_q = log_q - log_q.logsumexp(0) - math.log(CELL)
    return float((log_p.exp() * (log_p - log_q)).sum() * CELL)


def test_the_training_gradient_is_that_of_the_likelihood():
    from physml.phi4_learning.training import _Run

    data = two_humps(400, 43)
    net = network(n_visible=2, n_hidden=1, a=-0.3, b=0.3, m=0.2, n=0.4)
    parameters = {k: v.clone().requires_grad_(True) for k, v in net.parameters().items()}
    for name, value in parameters.items():
        setattr(net, name, value)
    log_z = (-net.free_action(XY)).logsumexp(0) + math.log(CELL)
    likelihood = -net.free_action(data).mean() - log_z
    known = dict(zip(parameters, torch.autograd.grad(likelihood, parameters.values()),
                     strict=True))
    for name, value in parameters.items():
        setattr(net, name, value.detach())
    options = {"train": list(known), "chains": 4000, "batch_size": 4000, "sweeps": 2}
    run = _Run(net, data, options, generator(44))
    rows = []
    with torch.no_grad():
        for k in range(170):
            gradient = run.gradient()
            if k >= 20:
                rows.append(torch.cat([gradient[name].reshape(-1) for name in known]))
    want = torch.cat([g.reshape(-1) for g in known.values()])
    for component, truth in zip(torch.stack(rows).T, want, strict=True):
        assert abs(statistics.mean(component).z(float(truth))) < 3.5


def test_quartic_terms_learn_two_humps_that_a_gaussian_cannot():
    data, kl = two_humps(4000, 45), {}
    ways = {"gaussian": (0.0, "sgd", lambda k: 0.2),
            "quartic": (0.2, "adam", lambda k: 0.03 * 0.997**k)}
    for name, (quartic, method, lr) in ways.items():
        net = Phi4Network(2, 1, a=1.0, b=quartic, m=1.0, n=quartic, init=0.1,
                          generator=generator(46))
        history = train_network(net, data, steps=1500, lr=lr, method=method, average_from=1000,
                                chains=512, batch_size=512, progress=False,
                                generator=generator(47))
        kl[name] = exact_kl(net)
    assert history.steps[-1] == 1500 and bool(net.b.min() > 0)
    # the best Gaussian has the data's covariance: its divergence is known in closed form
    log_p = log_humps()
    entropy = -float((log_p.exp() * log_p).sum() * CELL)
    cov = torch.tensor([[1.16, 1.0], [1.0, 1.16]], dtype=F64)
    best = 1 + math.log(2 * math.pi) + 0.5 * float(torch.logdet(cov)) - entropy
    assert best - 1e-6 < kl["gaussian"] < 1.1 * best
    assert kl["quartic"] < 0.2 * best


def test_a_run_goes_on_where_it_was_interrupted(tmp_path):
    data = two_humps(200, 48)
    def fresh():
        return Phi4Network(2, 2, b=0.2, n=0.2, init=0.1, generator=generator(49)), generator(50)
    options = {"lr": 0.01, "progress": False, "record_every": 10, "chains": 16,
               "batch_size": 16, "average_from": 10}
    whole, g = fresh()
    history = train_network(whole, data, steps=40, generator=g, **options)
    path = tmp_path / "deep" / "run.safetensors"
    half, g = fresh()
    with pytest.raises(KeyboardInterrupt):
        train_network(half, data, steps=40, generator=g, checkpoint=path, checkpoint_every=20,
                      **(options | {"lr": _interrupt_at(25)}))
    again, g = fresh()
    after = train_network(again, data, steps=40, generator=g, checkpoint=path,
                          **(options | {"lr": lambda step: 0.01}))
    for name, value in whole.parameters().items():
        assert torch.equal(value, getattr(again, name)), name
    assert after == history and not list(path.parent.glob("*.part"))

    with pytest.raises(CheckpointError, match=r"other settings .*chains=16 there, 8 here"):
        train_network(fresh()[0], data, steps=50, generator=g, checkpoint=path,
                      **(options | {"chains": 8}))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train_network(fresh()[0], data, steps=50, generator=g, checkpoint=path, **options)


def _interrupt_at(last):
    def lr(step):
        if step == last:
            raise KeyboardInterrupt
        return 0.01
    return lr


def test_updates_keep_the_norm():
    data = 5 * two_humps(500, 51)  # a variance of 25 on one axis: K must come close to zero
    net = Phi4Network(2, 1, a=0.5, m=0.5, init=0.1, generator=generator(52))
    history = train_network(net, data, steps=30, lr=0.5, method="sgd", train=["weight"],
                            progress=False, generator=generator(53))
    assert history.shortened[-1] > 0
    net.check_stable()
    assert not bool(net.b.any())  # a Gaussian stays one


def test_training_refuses_bad_input():
    net, g = Phi4Network(2, 1, init=0), generator(0)
    data = two_humps(10, 54)
    for options, message in (({"method": "rmsprop"}, "method"), ({"train": ["w"]}, "train"),
                             ({"lr": -1.0}, "lr"), ({"steps": 0}, "steps"),
                             ({"floor": 0.0}, "floor"), ({"average_from": 5}, "average_from")):
        with pytest.raises(ValueError, match=message):
            train_network(net, data, **({"steps": 1, "lr": 0.1, "generator": g} | options))
    with pytest.raises(ShapeError, match="data"):
        train_network(net, data[:, :1], steps=1, lr=0.1, generator=g)
    with pytest.raises(ValueError, match="NaN"):
        train_network(net, data * math.nan, steps=1, lr=0.1, generator=g)


def test_single_precision():
    short = Phi4Network(3, 2, b=0.2, n=0.2, init=0.3, generator=generator(55), dtype=torch.float32)
    wide = Phi4Network(3, 2, b=0.2, n=0.2, init=0)
    wide.weight = short.weight.double()
    phi = torch.randn(5, 3, generator=generator(56))
    assert short.free_action(phi).dtype == torch.float32
    difference = short.free_action(phi).double() - wide.free_action(phi.double())
    assert float(difference.abs().max()) < 1e-4
    train_network(short, torch.randn(50, 3, generator=generator(57)), steps=3, lr=0.01,
                  progress=False, generator=generator(58))
    assert short.weight.dtype == torch.float32
    action = random_action(SQUARE)
    start = InhomogeneousPhi4(*(v.float() for v in (
        action.hopping, action.quadratic, action.quartic)))
    fit = fit_action(start, Phi4(0.2, 0.3), steps=6, lr=1.0, chains=256, generator=generator(59))
    assert fit.action.hopping.dtype == torch.float32
    want = to_vector(InhomogeneousPhi4.homogeneous(Phi4(0.2, 0.3), SQUARE))
    assert float((to_vector(fit.action) - want).abs().max()) < 1e-3


# --- the chapter's exercises --------------------------------------------------------------------


def test_folded_solutions_pass(root, capsys):
    text = (root / "book" / "fields" / "phi4_machine_learning.md").read_text(encoding="utf-8")
    folded = re.findall(r"^````\{solution\}.*?^````$", text, re.DOTALL | re.MULTILINE)
    programs = re.findall(r"```python\n(.*?)```", "\n".join(folded), re.DOTALL)
    assert len(set(re.findall(r"exercises\.(check_\w+)", "".join(programs)))) == 8
    for program in programs:
        exec(checks_only(program), {"exercises": exercises, "math": math, "torch": torch})
    said = capsys.readouterr().out
    assert said.count("Correct: ") == 8 and "Not yet" not in said


@pytest.mark.parametrize(("check", "wrong", "reason"), [
    (exercises.check_gap_equation, lambda lam: (1 - math.sqrt(1 + 12 * lam)) / 4, "lambda = 0.0"),
    (exercises.check_rescaled_couplings, lambda w, a, b: (a / w, b / w), "w = 2.0"),
    (exercises.check_natural_step, lambda v, s: torch.linalg.lstsq(s, v[:, None]).solution[:, 0],
     "40 samples"),
    (exercises.check_effective_size,
     lambda w: w.exp().sum().abs() ** 2 / w.exp().abs().square().sum(), "30 weights"),
    (exercises.check_mass_overlap, lambda rho, volume: math.sqrt(2 * rho - 1) / rho, "3 sites"),
    (exercises.check_average_phase, lambda g, volume: (1 + 4 * g * g) ** (volume / 4), "g = 0.5"),
    (exercises.check_spin_humps, lambda v, sigma: (1 / sigma**2, v / sigma**2), "v = 1.0"),
    (exercises.check_unit_cumulants, lambda second, fourth: (second, fourth), "<h^4> = 3.5"),
])
def test_wrong_answers_get_a_reason(check, wrong, reason):
    result = check(wrong)
    assert not result and reason in result.message, result
