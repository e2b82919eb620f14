"""Actions of all kinds: each sampler samples exp(-S), or refuses when it starts."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from physml import sampling
from physml.actions import (
    Action,
    AutogradAction,
    FreeField,
    InhomogeneousPhi4,
    LocalAction,
    Phi4,
    lattice_sum,
    neighbour_sum,
)
from physml.device import generator
from physml.errors import ShapeError
from physml.lattice import Lattice
from physml.phi4_learning import BlockGibbs, NextNearestPhi4, ProductGrid
from physml.sampling.metropolis import clusters

F64 = torch.float64
LATTICE = Lattice((4, 4))
FREE = FreeField(1.0, 2)
G0 = 0.2634920635  # <phi^2> of FREE on LATTICE, an exact lattice sum
DIAGONAL = NextNearestPhi4(0.2, 0.3, quadratic=1.0, quartic=0.2)
BY_FORCE = {
    "hmc": lambda a: sampling.HMC(a, 0.2, 0.8),
    "mala": lambda a: sampling.MALA(a, 0.05),
    "langevin": lambda a: sampling.Langevin(a, 0.01, "leimkuhler-matthews"),
}


def run(sampler, lattice=LATTICE, n=150, chains=256, burn_in=100, scale=1.0, **options):
    g = generator(1)
    phi = scale * sampling.start(sampler.action, lattice, chains, generator=g, dtype=F64)
    options = {"progress": False, "processes": 1, "thin": 2} | options
    return sampling.sample(sampler, phi, n, burn_in=burn_in, generator=g, **options)


def z(estimate, expected):
    return (estimate.value - expected) / estimate.error


# --- beyond nearest neighbours ----------------------------------------------------------------


@pytest.mark.parametrize("sampler", [
    sampling.HMC(DIAGONAL, 0.2, 0.8), BlockGibbs(DIAGONAL), sampling.CheckerboardGibbs(DIAGONAL),
    sampling.Metropolis(DIAGONAL, 1.5),
    sampling.Sequence((sampling.HMC(DIAGONAL, 0.2, 0.8), sampling.SwendsenWang(DIAGONAL)))],
    ids=lambda s: type(s).__name__)
def test_diagonal_links_against_quadrature(sampler):
    """With two colours Gibbs sampling gives 20 sigma less, and clusters without diagonals too."""
    square = Lattice((2, 2))
    def observe(phi):
        links = sum(phi * phi.roll(-1, mu) for mu in (1, 2))
        return torch.stack([(phi**2).flatten(1).mean(1), links.flatten(1).mean(1)], 1)
    action = NextNearestPhi4(0.1, 0.15, quadratic=1.0, quartic=0.2)
    sampler = _with(sampler, action)
    known = ProductGrid(square, 3.5, 24).mean(action, observe)
    found = run(sampler, square, n=120, chains=128, thin=1)
    assert abs(z(found.mean("phi2"), float(known[0]))) < 3.5
    assert abs(z(found.mean("hopping"), float(known[1]))) < 3.5


def _with(sampler, action):
    from dataclasses import replace
    if isinstance(sampler, sampling.Sequence):
        return sampling.Sequence(tuple(replace(s, action=action) for s in sampler.samplers))
    return replace(sampler, action=action)


def test_all_samplers_of_diagonal_links_agree_on_a_larger_lattice():
    options = {"n": 120, "chains": 128, "burn_in": 50, "thin": 1}
    reference = run(sampling.HMC(DIAGONAL, 0.2, 0.8), **options).mean("hopping")
    for sampler in (
        sampling.CheckerboardGibbs(DIAGONAL), sampling.Metropolis(DIAGONAL, 1.5),
        sampling.Sequence((sampling.HMC(DIAGONAL, 0.2, 0.8), sampling.SwendsenWang(DIAGONAL))),
    ):
        assert abs(run(sampler, **options).mean("hopping").z(reference)) < 3.5


def test_block_and_checkerboard_are_one_where_the_colours_are():
    phi, states = torch.randn(3, 4, 4, generator=generator(1)), []
    for kind in (BlockGibbs, sampling.CheckerboardGibbs):
        sampler = kind(DIAGONAL)
        states.append(sampler.step(sampler.init(phi), generator(2))[0].phi)
    assert torch.equal(*states)


@pytest.mark.parametrize("shape", [(4, 6), (2, 4), (4, 2, 6)])
def test_no_two_sites_of_a_colour_are_joined(shape):
    phi = torch.zeros(1, *shape, dtype=F64)
    action = NextNearestPhi4(0.7, 0.4, 1.2, 0.3)
    colours = action.colours(phi)
    assert bool((torch.stack(colours).sum(0) == 1).all())
    for colour in colours:
        assert float(action.local_field(colour.double()[None])[0][colour].abs().max()) == 0
    even, odd = Phi4(0.2, 0.1).colours(phi)
    assert torch.equal(even, Lattice(shape).parity()) and torch.equal(odd, ~even)


def test_bonds_are_all_that_joins_sites():
    phi = torch.randn(2, 4, 6, generator=generator(1), dtype=F64)
    g = generator(2)
    tensors = InhomogeneousPhi4(
        *(torch.rand(*s, 4, 6, generator=g, dtype=F64) for s in ((2,), (), ())))
    for action in (DIAGONAL, Phi4(0.2, 0.1), tensors):
        sites = action.quadratic * phi**2 + action.quartic * phi**4
        for offset, w in action.bonds(2):
            sites = sites - w * phi * phi.roll([-step for step in offset], (1, 2))
        torch.testing.assert_close(action(phi), sites.sum((1, 2)))


@pytest.mark.parametrize("kind", ["diagonal", "tensors"])
def test_clusters_sample_the_signs(kind):
    """At fixed |phi| the signs are an Ising model: all 16 states of 2 x 2 sites."""
    g = generator(3)
    action = NextNearestPhi4(0.1, 0.15, 1.0, 0.2) if kind == "diagonal" else InhomogeneousPhi4(
        *(0.3 * torch.rand(*s, 2, 2, generator=g, dtype=F64) for s in ((2,), (), ())))
    size = torch.tensor([[0.5, 1.0], [0.8, 1.2]], dtype=F64)
    states = torch.tensor(list(itertools.product([1.0, -1.0], repeat=4)), dtype=F64).view(-1, 2, 2)
    probability = torch.softmax(-action(states * size), 0)
    sampler = sampling.SwendsenWang(action)
    state, counts, sweeps = sampler.init(size.repeat(4000, 1, 1)), torch.zeros(16), 40
    for _ in range(sweeps):
        state, _ = sampler.step(state, g)
        code = ((state.phi < 0).flatten(1) * torch.tensor([8, 4, 2, 1])).sum(1)
        counts += torch.bincount(code, minlength=16)
    n = 4000 * sweeps / 4  # each chain counts as a quarter of its sweeps
    seen = counts / counts.sum()
    assert float((n * (seen - probability) ** 2 / probability).sum()) < 15 + 4 * math.sqrt(30)
    # the test can fail: without the couplings chi^2 is far larger
    assert float((n * (seen - 1 / 16) ** 2 * 16).sum()) > 1000


def test_clusters_along_diagonals():
    bonds = torch.zeros(1, 4, 4, dtype=torch.bool)
    bonds[0, 0, 1] = bonds[0, 1, 0] = True  # to (1, 0) and (2, 3)
    label = clusters([bonds], [(1, -1)]).view(4, 4)
    assert int(label[1, 0]) == int(label[0, 1]) == int(label[2, 3]) == 1
    assert len(label.unique()) == 14


# --- classes whose parts do not belong together -----------------------------------------------


class ForceOnly(LocalAction):
    """Overrides S and its force, and leaves the rest as it was."""

    quadratic = 1.0

    def __call__(self, phi):
        return lattice_sum(phi**2 + phi**6)

    def force(self, phi):
        return -2 * phi - 6 * phi**5


class Sextic(LocalAction):
    """Also the local parts of Metropolis; none of the quartic conditionals."""

    hopping, quadratic = 0.1, 1.0

    def __call__(self, phi):
        return super().__call__(phi) + lattice_sum(phi**6)

    def kick(self, momentum, phi):
        below = super().kick(momentum, phi)
        def add(scale):
            below(scale)
            momentum.add_(phi**5, alpha=-6 * scale)
        return add

    def site_action(self, phi, field):
        return super().site_action(phi, field) + phi**6


class Farther(LocalAction):
    """Reaches to the second neighbour along directions, and says so in its field only."""

    hopping, quadratic, quartic, farther = 0.2, 1.0, 0.2, 0.1

    def __call__(self, phi):
        far = sum(phi.roll(2, mu) for mu in range(1, phi.ndim))
        return super().__call__(phi) - self.farther * lattice_sum(phi * far)

    def kick(self, momentum, phi):
        below = super().kick(momentum, phi)
        def add(scale):
            below(scale)
            momentum.add_(self._far(phi), alpha=scale * self.farther)
        return add

    def local_field(self, phi):
        return super().local_field(phi) + self.farther * self._far(phi)

    @staticmethod
    def _far(phi):
        return sum(phi.roll(s, mu) for mu in range(1, phi.ndim) for s in (2, -2))


class Odd(Phi4):
    def __call__(self, phi):
        return super().__call__(phi) + 0.1 * lattice_sum(phi)


SAMPLERS = {
    "HMC": sampling.HMC, "MALA": lambda a: sampling.MALA(a, 0.05),
    "Langevin": lambda a: sampling.Langevin(a, 0.01), "Metropolis": sampling.Metropolis,
    "CheckerboardGibbs": sampling.CheckerboardGibbs, "BlockGibbs": BlockGibbs,
    "SwendsenWang": sampling.SwendsenWang, "GlobalFlip": sampling.GlobalFlip,
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("action, right", [
    (ForceOnly(), {"SwendsenWang", "GlobalFlip"}),
    (Sextic(), {"HMC", "MALA", "Langevin", "Metropolis", "SwendsenWang", "GlobalFlip"}),
    (Farther(), {"HMC", "MALA", "Langevin", "GlobalFlip"}),
    (DIAGONAL, set(SAMPLERS)), (Phi4(0.2, 0.1), set(SAMPLERS)),
    (Odd(0.2, 0.1), set())], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_parts_that_do_not_belong_together_are_refused(name, action, right, dtype):
    sampler, phi = SAMPLERS[name](action), torch.zeros(3, 8, 8, dtype=dtype)
    if name in right:
        sampler.init(phi)
    else:
        with pytest.raises(ValueError, match=rf"{name}.*{type(action).__name__}"):
            sampler.init(phi)


def test_sextic_by_metropolis_and_hmc():
    one, two = (run(s, scale=0.3).mean("phi2") for s in (sampling.Metropolis(Sextic(), 1.0),
                                              sampling.HMC(Sextic(), 0.1)))
    assert abs(one.z(two)) < 3.5


def test_a_check_draws_no_random_numbers_and_leaves_the_field_alone():
    phi = torch.randn(3, 4, 4, generator=generator(1))
    before, state = phi.clone(), torch.get_rng_state()
    for make in SAMPLERS.values():
        make(DIAGONAL).init(phi)
    assert torch.equal(phi, before) and torch.equal(state, torch.get_rng_state())


def test_small_couplings_on_large_lattices_are_seen():
    class Slightly(Phi4):
        def __call__(self, phi):
            return super().__call__(phi) + 1e-3 * lattice_sum(phi**4)
    phi = torch.zeros(1, 256, 256)
    for name in ("HMC", "Langevin", "MALA", "Metropolis", "CheckerboardGibbs"):
        with pytest.raises(ValueError, match="Slightly"):
            SAMPLERS[name](Slightly(0.2, 0.1)).init(phi)


def test_samplers_name_what_an_action_lacks():
    with pytest.raises(ValueError, match=r"HMC needs.*force, kick.*AutogradAction"):
        sampling.HMC(lambda phi: phi.sum(1))
    action = AutogradAction(FREE, components=())
    for name in ("Metropolis", "CheckerboardGibbs", "BlockGibbs"):
        with pytest.raises(ValueError, match=f"{name} needs.*colours.*HMC, Langevin and MALA"):
            SAMPLERS[name](action)
    with pytest.raises(ValueError, match=r"SwendsenWang needs.*bonds"):
        sampling.SwendsenWang(action)
    with pytest.raises(ValueError, match="GlobalFlip needs"):
        sampling.GlobalFlip(action)  # it does not say that it is even
    with pytest.raises(ValueError, match="hopping"):
        sampling.SwendsenWang(NextNearestPhi4(0.1, -0.1, 1.0, 0.2))
    with pytest.raises(ValueError, match="even"):
        sampling.GlobalFlip(AutogradAction(lattice_sum, symmetric=True)).init(torch.ones(2, 4))


# --- actions given by S alone -----------------------------------------------------------------


def sextic(phi):
    return lattice_sum(phi**2 + phi**6)


def sextic_force(phi):
    return -2 * phi - 6 * phi**5


@pytest.mark.parametrize("force", [None, sextic_force], ids=["differentiated", "its own"])
@pytest.mark.parametrize("name", BY_FORCE)
def test_sextic_against_quadrature(name, force):
    x = torch.linspace(-3, 3, 6001, dtype=F64)
    weight = torch.exp(-x**2 - x**6)
    moments = [float((weight * x**k).sum() / weight.sum()) for k in (2, 4)]
    action = AutogradAction(sextic, force=force, components=())
    found = run(BY_FORCE[name](action), n=100, scale=0.3)  # forces are large far out
    # the error of Langevin's scheme of second order is (F' + ...) epsilon^2: below 1e-3 here
    off = 1e-3 if name == "langevin" else 0
    for moment, series in zip(moments, ("phi2", "phi4"), strict=True):
        estimate = found.mean(series)
        assert abs(estimate.value - moment) < 3.5 * estimate.error + off * moment


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_forces_where_gradients_are_off(mode):
    action, wrong = AutogradAction(sextic, components=()), AutogradAction(sextic, force=torch.neg)
    with mode():
        phi = torch.randn(3, 4, generator=generator(1), dtype=F64)
        torch.testing.assert_close(action.force(phi), sextic_force(phi))
        sampling.HMC(action).init(phi)
        with pytest.raises(ValueError, match="not minus the gradient"):
            sampling.HMC(wrong).init(phi)


def test_the_same_force_samples_the_same():
    """Automatic differentiation against the analytic force, on one random stream."""
    action = Phi4(0.2, 0.1)
    one = run(sampling.HMC(action, 0.2), n=5, chains=8)
    two = run(sampling.HMC(AutogradAction(action, components=()), 0.2), n=5, chains=8)
    torch.testing.assert_close(one.phi, two.phi, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["hmc", "mala"])
def test_xy_ring_against_its_transfer_matrix(name):
    """Z = sum over n of I_n(beta)^L; fields are angles, measured by the user."""
    beta, length = 1.2, 6
    action = AutogradAction(lambda phi: -beta * lattice_sum(torch.cos(phi - phi.roll(1, 1))))
    grid = torch.arange(4096, dtype=F64) * (2 * math.pi / 4096)
    def log_z(b):
        kernel = torch.fft.fft(torch.exp(b * grid.cos())).real / 4096  # I_n(b)
        return float((kernel[:40]**length * torch.cat([torch.ones(1), 2 * torch.ones(39)])).sum()
                     .log())
    expected = (log_z(beta + 1e-4) - log_z(beta - 1e-4)) / (2e-4 * length)
    phi = torch.zeros(256, length, dtype=F64)
    found = sampling.sample(
        BY_FORCE[name](action) if name == "hmc" else sampling.MALA(action, 0.3), phi, 200,
        burn_in=100, thin=2, generator=generator(2), progress=False, processes=1,
        observe=lambda phi: {"link": torch.cos(phi - phi.roll(1, 1)).mean(1)})
    assert abs(z(found.mean("link"), expected)) < 3.5


def test_a_wrong_force_is_refused():
    action = AutogradAction(sextic, force=lambda phi: -2 * phi - 5 * phi**5, components=())
    for make in BY_FORCE.values():
        with pytest.raises(ValueError, match="not minus the gradient"):
            run(make(action))


def test_fields_on_an_interval_are_admitted():
    """S is not defined on the whole line: the check takes the first field."""
    action = AutogradAction(lambda phi: lattice_sum(phi - phi.log()), components=())
    sampling.HMC(action).init(torch.rand(2, 4, generator=generator(1)) + 0.5)


def test_wrong_values_of_an_energy_are_named():
    with pytest.raises(ShapeError, match=r"must return S of each chain, shape .*\(1,\), not \(\)"):
        sampling.HMC(AutogradAction(lambda phi: phi.sum())).init(torch.ones(3, 4))
    with pytest.raises(TypeError, match="force must be"):
        AutogradAction(sextic, force=1.0)


class TwoComponents(Action):
    """A free field of two components: no more than S, its force, and what lives on a site."""

    components = (2,)

    def __call__(self, phi):
        return FREE(phi[:, 0]) + FREE(phi[:, 1])

    def force(self, phi):
        return torch.stack([FREE.force(phi[:, 0]), FREE.force(phi[:, 1])], 1)


@pytest.mark.parametrize("name", BY_FORCE)
def test_a_field_with_components(name):
    sampler = BY_FORCE[name](TwoComponents())
    phi = sampling.start(sampler.action, LATTICE, 4, generator=generator(1))
    assert phi.shape == (4, 2, 4, 4)
    with pytest.raises(ValueError, match=r"scalar.*observe"):
        sampling.sample(sampler, phi, 5, generator=generator(1), progress=False)
    found = run(sampler, n=400 if name == "langevin" else 100, thin=4, observe=lambda phi: {
        f"{c}": (phi[:, c] ** 2).flatten(1).mean(1) for c in range(2)})
    assert all(abs(z(found.mean(c), G0)) < 3.5 for c in "01")


def test_nothing_is_guessed_of_an_action_that_says_nothing():
    action = AutogradAction(sextic)
    with pytest.raises(ValueError, match="components"):
        sampling.start(action, LATTICE, 4, generator=generator(1))
    with pytest.raises(ValueError, match="observe"):
        sampling.sample(sampling.HMC(action), torch.zeros(2, 2, 4, 4), 1, generator=generator(1))
    # a field without directions is a number
    sampling.sample(sampling.HMC(action), torch.zeros(4), 1, generator=generator(1),
                    progress=False)


# --- sequences --------------------------------------------------------------------------------


def second_order(action=FREE):
    return sampling.Langevin(action, 0.02, "leimkuhler-matthews")


def test_the_noise_that_langevin_carries_is_flipped_with_the_field():
    found = run(sampling.Sequence((second_order(), sampling.GlobalFlip(FREE))), n=400)
    assert abs(z(found.mean("phi2"), G0)) < 3.5
    alone, flipped = second_order(), sampling.Sequence((second_order(), sampling.GlobalFlip(FREE)))
    # up to the sign it is the very same chain
    g, h = generator(1), generator(1)
    phi = torch.randn(5, 4, 4, generator=generator(2), dtype=F64)
    one, two = alone.init(phi), flipped.init(phi)
    for _ in range(3):
        one, _ = alone.step(one, g)
        two, _ = flipped.step(two, h)
        sign = 1 - 2 * torch.rand(5, generator=g, dtype=F64).round()
        one = type(one)(*(v * sign[:, None, None] for v in one))
        torch.testing.assert_close(one, two)
    assert float(two.noise.abs().max()) > 0


def test_what_would_spoil_a_memory_is_refused():
    action = Phi4(0.2, 0.1)
    for other in (sampling.SwendsenWang(action), sampling.HMC(action),
                  sampling.Langevin(action, 0.01, "leimkuhler-matthews")):
        with pytest.raises(ValueError, match="carries more than the field"):
            sampling.Sequence((second_order(action), other))
    sampling.Sequence((sampling.Langevin(action, 0.1), sampling.SwendsenWang(action)))
    inner = sampling.Sequence((second_order(action), sampling.GlobalFlip(action)))
    with pytest.raises(ValueError, match="Sequence carries"):
        sampling.Sequence((inner, sampling.SwendsenWang(action)))


def test_a_sequence_in_a_sequence_keeps_its_memory():
    inner = sampling.Sequence((second_order(), sampling.GlobalFlip(FREE)))
    found = run(sampling.Sequence((inner, sampling.GlobalFlip(FREE))), n=400)
    assert abs(z(found.mean("phi2"), G0)) < 3.5


def test_a_remembering_sequence_resumes(tmp_path):
    sampler = sampling.Sequence((second_order(), sampling.GlobalFlip(FREE)))
    whole = run(sampler, n=6, chains=4)
    path = tmp_path / "run.safetensors"
    one = run(sampler, n=6, chains=4, checkpoint=path)
    again = run(sampler, n=6, chains=4, checkpoint=path)
    assert torch.equal(whole.phi, one.phi) and torch.equal(whole.phi, again.phi)


def test_a_sequence_has_a_step_size_where_a_member_has():
    p = Phi4(0.2, 0.1)
    gibbs, clusters_, metropolis = (sampling.CheckerboardGibbs(p), sampling.SwendsenWang(p),
                                    sampling.Metropolis(p, 0.3))
    without = sampling.Sequence((gibbs, clusters_))
    assert not hasattr(without, "with_step_size") and not hasattr(without, "step_size")
    found = run(without, n=3, chains=4)
    assert "acceptance" not in found.series
    with pytest.raises(ValueError, match="tune needs"):
        run(without, n=3, burn_in=200, tune=0.5)
    second = sampling.Sequence((gibbs, metropolis))
    assert second.step_size == 0.3 and second.with_step_size(0.5).samplers[1].step_size == 0.5
    found = run(second, n=20, chains=32, burn_in=100, tune=0.5)
    assert found.acceptance == pytest.approx(0.5, abs=0.05)
    euler = sampling.Sequence((sampling.Langevin(p, 0.1), clusters_))
    assert euler.step_size == 0.1 and not hasattr(euler, "with_step_size")


@dataclass(frozen=True)
class Resting:
    """A sampler of a user's own: init and step, and no more."""

    action: Action

    cost = 0

    def init(self, phi):
        return sampling.State(phi)

    def step(self, state, g):
        return state, sampling.Info()


def test_samplers_of_ones_own_in_a_sequence():
    found = run(sampling.Sequence((sampling.HMC(FREE, 0.2, 0.8), Resting(FREE))))
    assert abs(z(found.mean("phi2"), G0)) < 3.5


# --- tuning -----------------------------------------------------------------------------------


def test_tuning_begins_after_relaxation():
    """A hot start in a deep double well: every step that serves in equilibrium runs away there."""
    action, lattice = Phi4(0.2, 100.0), Lattice((4, 4))
    phi = sampling.start(action, lattice, 16, "hot", generator=generator(1))
    sampler = sampling.HMC(action, 0.1, 0.2)
    found = sampling.sample(sampler, phi, 50, burn_in=300, tune=0.8, generator=generator(2),
                            progress=False, processes=1)
    assert 0.01 < found.sampler.step_size < 0.06
    assert 0.65 < found.acceptance < 0.95
    assert bool((found.series["acceptance"].mean(1) > 0).all())


def test_neighbour_sums_may_be_differentiated():
    action = AutogradAction(lambda phi: lattice_sum(phi**4 - 0.1 * phi * neighbour_sum(phi)),
                            components=())
    phi = torch.randn(2, 4, 4, generator=generator(1), dtype=F64)
    expected = -4 * phi**3 + 0.2 * neighbour_sum(phi)
    torch.testing.assert_close(action.force(phi), expected)
