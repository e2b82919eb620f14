"""Samplers against exact values, identities and each other; the driver against itself."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import warnings

import pytest
import torch

from physml import exact, sampling, statistics
from physml.actions import FreeField, InhomogeneousPhi4, Phi4, ZeroDimensionalPhi4
from physml.device import generator
from physml.errors import CheckpointError, StabilityError
from physml.lattice import Lattice
from physml.sampling import chain
from physml.sampling.metropolis import clusters

LATTICE = Lattice((4, 4))
FREE = FreeField(1.0, 2)
G0 = 0.2634920635  # <phi^2> of FREE on LATTICE, an exact lattice sum
RING = Phi4(0.3, 0.1)  # on 8 sites: values by transfer matrix
RING_PHI2, RING_PHI4, RING_CHI = 0.55243915, 0.79096460, 1.03018068

EXACT_SAMPLERS = {
    # of length 0.8: at 1 the mode with omega = 3 would turn by pi, and forget nothing
    "hmc": lambda a: sampling.HMC(a, 0.2, 0.8),
    "hmc, minimum norm": lambda a: sampling.HMC(a, 0.4, 0.8, integrator="minimum-norm"),
    "mala": lambda a: sampling.MALA(a, 0.1),
    "metropolis": lambda a: sampling.Metropolis(a, 1.5),
    "gibbs": sampling.CheckerboardGibbs,
    "hmc, flips and clusters": lambda a: sampling.Sequence(
        (sampling.HMC(a, 0.2, 0.8), sampling.SwendsenWang(a), sampling.GlobalFlip(a))),
}


def run(sampler, lattice, n=100, chains=256, burn_in=100, seed=1, dtype=torch.float64, **options):
    g = generator(seed)
    phi = sampling.start(sampler.action, lattice, chains, generator=g, dtype=dtype)
    options = {"progress": False, "processes": 1, "thin": 2} | options
    return sampling.sample(sampler, phi, n, burn_in=burn_in, generator=g, **options)


def z(estimate, expected):
    return (estimate.value - expected) / estimate.error


@pytest.mark.parametrize("name", EXACT_SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_free_field(name, dtype):
    found = run(EXACT_SAMPLERS[name](FREE), LATTICE, dtype=dtype)
    phi2 = found.mean("phi2")
    assert abs(z(phi2, G0)) < 3.5
    assert phi2.error < 0.01 * G0
    assert abs(z(statistics.mean(16 * found.series["m"] ** 2), 1.0)) < 3.5
    if "exp_minus_delta_h" in found.series:
        assert abs(z(found.exp_minus_delta_h, 1.0)) < 3.5


@pytest.mark.parametrize("name", EXACT_SAMPLERS)
def test_interacting_ring_against_the_transfer_matrix(name):
    found = run(EXACT_SAMPLERS[name](RING), Lattice((8,)), n=150)
    assert abs(z(found.mean("phi2"), RING_PHI2)) < 3.5
    assert abs(z(found.mean("phi4"), RING_PHI4)) < 3.5
    assert abs(z(statistics.mean(8 * found.series["m"] ** 2), RING_CHI)) < 3.5


@pytest.mark.parametrize("mu2", [1.0, -1.0])
@pytest.mark.parametrize("name", ["hmc", "mala", "metropolis"])
def test_zero_dimensions_against_quadrature(name, mu2):
    action = ZeroDimensionalPhi4(mu2, 0.4)
    sampler = sampling.Sequence((EXACT_SAMPLERS[name](action), sampling.GlobalFlip(action)))
    if mu2 < 0:  # wide wells
        sampler = sampler.with_step_size({"hmc": 0.5, "mala": 0.5, "metropolis": 4.0}[name])
    phi = torch.randn(256, generator=generator(3), dtype=torch.float64)
    phi = phi if mu2 > 0 else 3.5 + 0.5 * phi
    found = sampling.sample(sampler, phi, 500, burn_in=300, thin=3, generator=generator(4),
                            progress=False, processes=1)
    phi2, phi4 = exact.phi4_moments(mu2, 0.4, 2)
    assert abs(z(found.mean("phi2"), phi2)) < 3.5
    assert abs(z(statistics.mean(found.series["phi2"] ** 2), phi4)) < 3.5


def test_schwinger_dyson_with_couplings_of_their_own():
    shape = (4, 6)
    g = generator(8)
    def draw(*s):
        return torch.randn(*s, generator=g, dtype=torch.float64)
    action = InhomogeneousPhi4(0.3 * draw(2, *shape), 0.5 + 0.2 * draw(*shape),
                               0.2 + 0.3 * draw(*shape).abs(), 0.3 * draw(*shape))
    found = run(sampling.HMC(action, 0.1), Lattice(shape), n=75,
                observe=lambda phi: {"virial": -(phi * action.force(phi)).flatten(1).mean(1)})
    assert abs(z(found.mean("virial"), 1.0)) < 3.5


# --- what each sampler promises ---------------------------------------------------------------


@pytest.mark.parametrize("integrator", sampling.INTEGRATORS)
@pytest.mark.parametrize("accelerated", [False, True])
def test_trajectories_are_reversible_and_keep_volume_and_energy(integrator, accelerated):
    lattice, action = Lattice((4, 6)), Phi4(0.27, 0.1)
    kernel = sampling.FourierKernel(lattice, 0.5) if accelerated else None
    g = generator(2)
    phi = torch.randn(2, *lattice.shape, generator=g, dtype=torch.float64)
    p = torch.randn(2, *lattice.shape, generator=g, dtype=torch.float64)
    there = sampling.HMC(action, 0.1, integrator=integrator, kernel=kernel)
    q, k = there.integrate(phi, p)
    back, turned = there.integrate(q, -k)
    torch.testing.assert_close(back, phi, rtol=0, atol=1e-12)
    torch.testing.assert_close(turned, -p, rtol=0, atol=1e-12)
    # Delta H falls with the square of the step
    def error(step):
        hmc = sampling.HMC(action, step, integrator=integrator, kernel=kernel)
        q, k = hmc.integrate(phi, p)
        return action(q) + hmc.kinetic(k) - action(phi) - hmc.kinetic(p)
    orders = torch.log2((error(0.1) / error(0.05)).abs())
    assert bool(((orders - 2).abs() < 0.1).all())


def test_trajectory_keeps_phase_space_volume():
    action = Phi4(0.27, 0.1)
    hmc = sampling.HMC(action, 0.3)
    def flow(x):
        q, k = hmc.integrate(x[:4].view(1, 2, 2), x[4:].view(1, 2, 2))
        return torch.cat([q.flatten(), k.flatten()])
    x = torch.randn(8, generator=generator(4), dtype=torch.float64)
    h = 1e-5
    columns = [(flow(x + h * e) - flow(x - h * e)) / (2 * h) for e in torch.eye(8).double()]
    assert float(torch.stack(columns).det()) == pytest.approx(1.0, abs=1e-8)


def test_minimum_norm_beats_leapfrog_at_equal_cost():
    lattice = Lattice((8, 8))
    found = {}
    for name, step in (("leapfrog", 0.1), ("minimum-norm", 0.2)):
        hmc = sampling.HMC(Phi4(0.25, 0.1), step, integrator=name)
        assert hmc.cost == 10
        found[name] = run(hmc, lattice, n=100, chains=64).mean("delta_h").value
    assert 0 < found["minimum-norm"] < 0.6 * found["leapfrog"]


def test_acceptance_follows_from_delta_h():
    """P = erfc(sqrt(<Delta H>)/2) at large volume (Creutz 1988)."""
    found = run(sampling.HMC(Phi4(0.2, 0.1), 0.25), Lattice((16, 16)), n=200, chains=64)
    predicted = math.erfc(0.5 * math.sqrt(found.mean("delta_h").value))
    assert found.acceptance == pytest.approx(predicted, abs=0.01)


def test_random_lengths_cure_the_mode_that_turns_by_pi():
    lattice, action = Lattice((4, 4)), FreeField(1.0, 2)
    tau = {}
    for spread in (0.0, 0.3):
        found = run(sampling.HMC(action, 0.2, math.pi / 3, spread=spread), lattice, n=500, thin=1,
                    observe=lambda phi: {"mode": torch.fft.fft2(phi)[:, 2, 2].abs() ** 2 / 16},
                    burn_in=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", statistics.ShortChainWarning)  # it is the point
            mode = found.mean("mode")
        tau[spread] = mode.tau_int
        assert spread == 0 or abs(z(mode, 1 / 9)) < 3.5
    # the correlation of phi_k^2 is <cos^2(omega t)> = 0.75 over these lengths: tau_int = 3.5
    assert 2.5 < tau[0.3] < 6 and tau[0.0] > 20


def test_fourier_acceleration_samples_the_same_and_faster():
    lattice, action = Lattice((16,)), FreeField(0.01, 1)
    exact_chi = 100.0
    kernel = sampling.FourierKernel(lattice, 0.01)
    tau = {}
    for name, sampler in (
        ("plain", sampling.HMC(action, 0.5)),
        ("accelerated", sampling.HMC(action, 0.5, math.pi / 2, kernel=kernel)),
    ):
        found = run(sampler, lattice, n=2000, thin=1, chains=32, burn_in=1000)
        chi = statistics.mean(16 * found.series["m"] ** 2)
        assert abs(z(chi, exact_chi)) < 3.5
        assert abs(z(found.exp_minus_delta_h, 1.0)) < 3.5
        tau[name] = chi.tau_int
    assert tau["accelerated"] < 1 < 30 < tau["plain"]


@pytest.mark.parametrize("step", [0.05, 0.15])
@pytest.mark.parametrize("scheme", ["euler", "leimkuhler-matthews"])
def test_langevin_step_errors_of_a_gaussian(scheme, step):
    action = ZeroDimensionalPhi4(8.0, 0.0)
    sampler = sampling.Langevin(action, step, scheme)
    phi = torch.zeros(2000, dtype=torch.float64)
    found = sampling.sample(sampler, phi, 200, burn_in=100, generator=generator(5),
                            progress=False, processes=1)
    expected = {"euler": exact.euler_variance, "leimkuhler-matthews":
                exact.leimkuhler_matthews_variance}[scheme](8.0, step)
    phi2 = found.mean("phi2")
    assert abs(z(phi2, float(expected))) < 3.5
    if scheme == "euler":  # the bias is seen
        assert abs(z(phi2, 0.125)) > 10
    # tau_int of phi from its exact lag-1 correlation
    tau = found.mean("phi")
    want = {"euler": exact.euler_tau_int, "leimkuhler-matthews":
            exact.leimkuhler_matthews_tau_int}[scheme](8.0, step)
    assert abs(tau.tau_int - float(want)) < 4 * tau.tau_int_error


def test_langevin_noise_strength_is_a_temperature():
    """alpha = 1/2, noise of variance dt, samples exp(-2S)."""
    sampler = sampling.Langevin(ZeroDimensionalPhi4(2.0, 0.0), 0.02, "leimkuhler-matthews",
                                alpha=0.5)
    found = sampling.sample(sampler, torch.zeros(2000), 100, burn_in=300, thin=5,
                            generator=generator(6), progress=False, processes=1)
    assert abs(z(found.mean("phi2"), 0.25)) < 3.5


@pytest.mark.parametrize("scheme", ["euler", "leimkuhler-matthews"])
def test_accelerated_langevin_has_the_right_law_mode_by_mode(scheme):
    lattice = Lattice((8,))
    action = FreeField(0.5, 1)
    kernel = sampling.FourierKernel(lattice, 0.5)
    sampler = sampling.Langevin(action, 0.2, scheme, kernel=kernel)
    found = run(sampler, lattice, n=250, burn_in=50, thin=1,
                observe=lambda phi: {f"k{i}": (torch.fft.rfft(phi)[:, i].abs() ** 2 / 8)
                                     for i in range(5)})
    for i, spectrum in enumerate(lattice.free_spectrum(0.5)[:5].tolist()):
        # with M = K every mode has the kernel 1: Euler's error is the same for all
        variance = 1 / (1 - 0.1) if scheme == "euler" else 1.0
        assert abs(z(found.mean(f"k{i}"), variance / spectrum)) < 3.8


def test_mala_is_one_leapfrog_step():
    action = Phi4(0.2, 0.1)
    phi = torch.randn(50, 4, 4, generator=generator(7), dtype=torch.float64)
    mala = sampling.MALA(action, 0.08)
    _, info = mala.step(mala.init(phi), generator(9))
    noise = sampling.noise_like(phi, generator(9))
    h = math.sqrt(0.16)
    p = noise + 0.5 * h * action.force(phi)
    q = phi + h * p
    p = p + 0.5 * h * action.force(q)
    delta = action(q) - action(phi) + 0.5 * ((p**2).sum((1, 2)) - (noise**2).sum((1, 2)))
    torch.testing.assert_close(info.delta_h, delta)


def test_metropolis_accepts_as_often_as_it_should():
    """The accepted share from a point is the average of min(1, exp(-dS)) over the proposals."""
    action = ZeroDimensionalPhi4(1.0, 0.4)
    x = torch.tensor([0.1, 0.5, 1.3], dtype=torch.float64)
    sampler = sampling.Metropolis(action, 1.0)
    state = sampler.init(x.repeat(20000))
    moved, info = sampler.step(state, generator(1))
    change = moved.phi - state.phi
    assert bool((change.abs() <= 1).all())
    # the share accepted from each point, against the integral of the probability
    for i in range(3):
        grid = x[i] + torch.linspace(-1, 1, 4001, dtype=torch.float64)
        share = torch.minimum(torch.ones(()), torch.exp(action(x[i][None]) - action(grid))).mean()
        seen = info.acceptance[i::3]
        assert abs(float(seen.mean() - share)) < 4 * float(seen.std()) / math.sqrt(20000)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8, 1.0])
def test_cluster_labels(p):
    import networkx

    shape, g = (4, 6, 5), generator(3)
    bonds = [torch.rand(shape, generator=g) < p for _ in range(2)]
    label = clusters(bonds)
    number = torch.arange(30).view(6, 5)
    for c in range(4):
        graph = networkx.Graph()
        graph.add_nodes_from(range(30))
        for mu, bond in enumerate(bonds):
            ahead = number.roll(-1, mu)
            graph.add_edges_from(zip(number[bond[c]].tolist(), ahead[bond[c]].tolist(),
                                     strict=True))
        for component in networkx.connected_components(graph):
            assert {int(label[c, i]) for i in component} == {30 * c + min(component)}


def test_clusters_sample_the_signs():
    """At fixed |phi| the signs are an Ising model: all 16 states of four sites."""
    action = Phi4(0.4, 0.1)
    size = torch.tensor([0.5, 1.0, 0.8, 1.2], dtype=torch.float64)
    states = torch.tensor(list(itertools.product([1.0, -1.0], repeat=4)), dtype=torch.float64)
    weight = torch.exp(-action(states * size))
    probability = weight / weight.sum()
    phi = size.repeat(4000, 1)
    sampler, g = sampling.SwendsenWang(action), generator(11)
    state, counts, sweeps = sampler.init(phi), torch.zeros(16), 40
    code = torch.tensor([8, 4, 2, 1])
    for _ in range(sweeps):
        state, _ = sampler.step(state, g)
        counts += torch.bincount(((state.phi < 0) * code).sum(1), minlength=16)
    torch.testing.assert_close(state.phi.abs(), phi)
    seen = counts / counts.sum()
    # chi^2 with the sweeps taken as correlated: each chain counts as a quarter of its sweeps
    n = 4000 * sweeps / 4
    chi2 = float((n * (seen - probability) ** 2 / probability).sum())
    assert chi2 < 15 + 4 * math.sqrt(30)
    # the test can fail: with half the coupling chi^2 is far larger
    other = torch.exp(-Phi4(0.2, 0.1)(states * size))
    other /= other.sum()
    assert float((n * (seen - other) ** 2 / other).sum()) > 1000


def test_clusters_unfreeze_the_broken_phase():
    """Hot starts freeze in domains under HMC; with clusters they reach the ordered state."""
    action, lattice = Phi4(0.5, 0.022), Lattice((16, 16))
    g = generator(12)
    phi = sampling.start(action, lattice, 32, "hot", generator=g)
    options = {"burn_in": 100, "generator": g, "progress": False, "processes": 1}
    frozen = sampling.sample(sampling.HMC(action, 0.05), phi, 50, **options)
    both = sampling.Sequence((sampling.HMC(action, 0.05), sampling.SwendsenWang(action)))
    free = sampling.sample(both, phi, 50, **options)
    v = action.vacuum(2)
    assert float((frozen.series["m"].abs() < 0.9 * v).double().mean()) > 0.2
    assert float((free.series["m"].abs() < 0.9 * v).double().mean()) == 0
    with pytest.warns(sampling.EquilibrationWarning, match="SwendsenWang"):
        sampling.equilibration({"|m|": frozen.series["m"].abs()}, mixed=False)


# --- the driver -------------------------------------------------------------------------------


def assert_same(one, two):
    assert one.series.keys() == two.series.keys()
    for name in one.series:
        assert torch.equal(one.series[name], two.series[name]), name
    assert torch.equal(one.phi, two.phi)
    if one.fields is not None:
        assert torch.equal(one.fields, two.fields)


@pytest.mark.parametrize("sampler", [
    sampling.HMC(RING, 0.3), sampling.Langevin(RING, 0.05, "leimkuhler-matthews"),
    sampling.Sequence((sampling.MALA(RING, 0.05), sampling.SwendsenWang(RING)))])
def test_results_do_not_depend_on_processes(sampler, monkeypatch):
    monkeypatch.setattr(chain, "_ROUND", 1e4)  # so that this small run is shared, in many rounds
    options = {"n": 30, "chains": 10, "burn_in": 10, "keep_fields": True, "dtype": torch.float32}
    one = run(sampler, Lattice((8,)), **options, processes=1)
    two = run(sampler, Lattice((8,)), **options, processes=2)
    assert_same(one, two)
    monkeypatch.setattr(chain, "_ROUND", 1e9)
    assert_same(one, run(sampler, Lattice((8,)), **options))


def test_layout_and_blocks(monkeypatch):
    """Fields come back in the order they were given in, whatever the blocks."""
    phi = torch.arange(7.0)[:, None].expand(7, 8).contiguous()

    class Stay:
        action, cost = RING, 1
        def init(self, phi):
            return sampling.State(phi)
        def step(self, state, g):
            return state, sampling.Info()

    found = sampling.sample(Stay(), phi, 2, generator=generator(1), keep_fields=True,
                            progress=False)
    assert torch.equal(found.phi, phi)
    assert torch.equal(found.fields, phi[:, None].expand(7, 2, 8))
    assert torch.equal(found.series["m"][:, 0], torch.arange(7.0).double())


@contextlib.contextmanager
def interrupted(after):
    """Stop a run in its round `after`, each of which is one step."""
    rounds, original = itertools.count(), chain._Runner.round

    def failing(self, runner):
        if next(rounds) == after:
            raise KeyboardInterrupt
        return original(self, runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "_ROUND", 1.0)
        patch.setattr(chain._Runner, "round", failing)
        yield


def test_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path):
    sampler, lattice = sampling.HMC(RING, 0.4), Lattice((8,))
    options = {"n": 40, "chains": 6, "burn_in": 120, "tune": 0.8, "keep_fields": True}
    whole = run(sampler, lattice, **options)
    for name, after in (("burning", 11), ("measuring", 49)):  # 24 rounds of burn-in
        path = tmp_path / name / "run.safetensors"
        with interrupted(after), pytest.raises(KeyboardInterrupt):
            run(sampler, lattice, **options, checkpoint=path, checkpoint_every=0)
        assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written
        assert_same(run(sampler, lattice, **options, checkpoint=path), whole)
        assert_same(run(sampler, lattice, **options, checkpoint=path), whole)  # and once more


def test_bad_checkpoints_are_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    run(sampling.HMC(RING, 0.4), Lattice((8,)), n=3, chains=4, checkpoint=path)
    with pytest.raises(CheckpointError, match="sampler"):
        run(sampling.HMC(RING, 0.3), Lattice((8,)), n=3, chains=4, checkpoint=path)
    with pytest.raises(CheckpointError, match="measurements"):
        run(sampling.HMC(RING, 0.4), Lattice((8,)), n=4, chains=4, checkpoint=path)
    with pytest.raises(CheckpointError, match="phi"):
        run(sampling.HMC(RING, 0.4), Lattice((8,)), n=3, chains=4, checkpoint=path, seed=2)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(sampling.HMC(RING, 0.4), Lattice((8,)), n=3, chains=4, checkpoint=path)


@pytest.mark.parametrize("sampler, target", [
    (sampling.HMC(Phi4(0.25, 0.02), 0.7), 0.8), (sampling.MALA(Phi4(0.25, 0.02), 0.5), 0.6),
    (sampling.Metropolis(Phi4(0.25, 0.02), 0.1), 0.5)])
def test_tuning_reaches_the_target_and_freezes(sampler, target):
    found = run(sampler, Lattice((16, 16)), n=50, burn_in=300, tune=target, chains=32)
    assert found.sampler.step_size != sampler.step_size
    # HMC can only cut a trajectory into whole steps
    near = 0.15 if isinstance(sampler, sampling.HMC) else 0.03
    assert found.acceptance == pytest.approx(target, abs=near)


def test_start_makes_hot_and_cold_chains_in_turn():
    action, lattice = Phi4(0.5, 0.022), Lattice((8, 8))
    phi = sampling.start(action, lattice, 6, generator=generator(1))
    spread = phi.flatten(1).std(1)
    assert bool((spread[::2] > 0.5).all()) and bool((spread[1::2] == 0).all())
    assert float(phi[1, 0, 0].abs()) == pytest.approx(action.vacuum(2), rel=1e-6)
    hot = sampling.start(action, lattice, 6, "hot", generator=generator(1))
    assert bool((hot.flatten(1).std(1) > 0.5).all())


def test_equilibration_sees_chains_that_disagree():
    g = generator(3)
    good = torch.randn(40, 200, generator=g, dtype=torch.float64)
    assert sampling.equilibration({"x": good}).reached
    biased = good.clone()
    biased[1::2] += 0.2  # a fifth of the spread, between hot and cold
    found = sampling.equilibration({"x": biased}, warn=False)
    assert found.z["x"] < -4 and not found.reached
    apart = good + torch.arange(40.0, dtype=torch.float64)[:, None]
    with pytest.warns(sampling.EquilibrationWarning, match="x: R-hat"):
        sampling.equilibration({"x": apart})


def test_divergence_is_reported_not_hidden():
    """Euler on a quartic runs away; HMC rejects a trajectory that diverged."""
    action = Phi4(0.2, 1.0)
    phi = 30 * torch.ones(4, 4, 4)
    with pytest.raises(StabilityError, match="lower step_size"):
        sampling.sample(sampling.Langevin(action, 0.5), phi, 20, generator=generator(1),
                        progress=False)
    hmc = sampling.HMC(action, 1.0)
    state, info = hmc.step(hmc.init(phi), generator(1))
    assert torch.equal(state.phi, phi) and bool((info.acceptance == 0).all())


def test_chains_that_hang_are_reported():
    action = ZeroDimensionalPhi4(1.0, 0.4)
    phi = torch.zeros(50, dtype=torch.float64)
    phi[7] = 40.0  # leapfrog is unstable there
    with pytest.warns(sampling.EquilibrationWarning, match="1 of 50 chains"):
        sampling.sample(sampling.HMC(action, 0.3), phi, 100, generator=generator(1),
                        progress=False)


def test_burn_in_brings_a_far_start_home():
    """The accept step alone refuses every trajectory from this start."""
    hmc, lattice = sampling.HMC(Phi4(0.2, 0.1), 0.25), Lattice((16, 16))
    phi = sampling.start(hmc.action, lattice, 8, "hot", generator=generator(1))
    options = {"progress": False, "processes": 1}
    with pytest.warns(sampling.EquilibrationWarning):
        sampling.sample(hmc, phi, 100, generator=generator(2), **options)
    found = sampling.sample(hmc, phi, 100, generator=generator(2), burn_in=20, **options)
    assert found.acceptance > 0.6


def test_bad_arguments_are_named():
    g, phi = generator(1), torch.zeros(4, 8)
    hmc = sampling.HMC(RING, 0.3)
    cases = [
        (dict(measurements=0), "measurements"), (dict(thin=0), "thin"),
        (dict(burn_in=-1), "burn_in"), (dict(tune=1.5, burn_in=200), "tune"),
        (dict(tune=0.8, burn_in=10), "burn_in"), (dict(processes=0), "processes"),
    ]
    for change, word in cases:
        with pytest.raises(ValueError, match=word):
            sampling.sample(hmc, phi, **({"measurements": 1, "generator": g} | change))
    with pytest.raises(ValueError, match="phi"):
        sampling.sample(hmc, phi * math.nan, 1, generator=g)
    with pytest.raises(ValueError, match="accept step"):
        sampling.sample(sampling.Langevin(RING, 0.1), phi, 1, burn_in=200, tune=0.5, generator=g)
    with pytest.raises(ValueError, match="integrator"):
        sampling.HMC(RING, integrator="euler")
    with pytest.raises(ValueError, match="scheme"):
        sampling.Langevin(RING, 0.1, "heun")
    with pytest.raises(ValueError, match="step_size"):
        sampling.HMC(RING, -0.1)
    with pytest.raises(ValueError, match="checkerboard"):
        sampler = sampling.Metropolis(RING)
        sampler.step(sampler.init(torch.zeros(2, 5)), g)
    with pytest.raises(ValueError, match="hopping"):
        sampling.SwendsenWang(Phi4(-0.1, 0.1))
    with pytest.raises(ValueError, match="even"):
        sampling.GlobalFlip(InhomogeneousPhi4(*[torch.ones(s) for s in
                                                ((1, 4), (4,), (4,), (4,))]))
    with pytest.raises(ValueError, match="different actions"):
        sampling.Sequence((hmc, sampling.MALA(FREE, 0.1)))
    with pytest.raises(ValueError, match="kind"):
        sampling.start(RING, Lattice((8,)), 4, "warm", generator=g)
    with pytest.raises(StabilityError, match="lowest mode"):
        sampling.start(Phi4(0.6, 0.0), Lattice((8,)), 4, generator=g)
    with pytest.raises(ValueError, match="phi must have shape"):
        sampling.FourierKernel(LATTICE, 1.0).apply(phi)


def test_checkpoint_is_plain_data(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "run.safetensors"
    run(sampling.HMC(RING, 0.4), Lattice((8,)), n=3, chains=4, checkpoint=path)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["progress"])["measured"] == 3
        assert any(k.startswith("series.") for k in file.keys())
