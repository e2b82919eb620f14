"""Actions: forces against automatic differentiation, forms against each other, limits."""

from __future__ import annotations

import math

import pytest
import torch

from physml.actions import (
    AutogradAction,
    FreeField,
    InhomogeneousPhi4,
    Phi4,
    ZeroDimensionalPhi4,
    lattice_sum,
    neighbour_sum,
)
from physml.device import generator
from physml.errors import ShapeError, StabilityError
from physml.lattice import Lattice

SHAPES = [(2,), (5,), (4, 6), (2, 3), (8, 8), (3, 4, 5), (2, 3, 2, 4)]


def fields(shape, chains=3, seed=1, dtype=torch.float64):
    return torch.randn(chains, *shape, generator=generator(seed), dtype=dtype)


def inhomogeneous(shape, seed=2):
    g = generator(seed)
    def draw(*s):
        return torch.randn(*s, generator=g, dtype=torch.float64)
    return InhomogeneousPhi4(draw(len(shape), *shape), draw(*shape), draw(*shape).abs(),
                             draw(*shape))


def actions(shape):
    return [Phi4(0.27, 0.022), Phi4(-0.1, 0.3), FreeField(0.3, len(shape)), inhomogeneous(shape)]


@pytest.mark.parametrize("shape", SHAPES)
def test_force_is_minus_the_gradient(shape):
    phi = fields(shape).requires_grad_()
    for action in actions(shape):
        (gradient,) = torch.autograd.grad(action(phi).sum(), phi)
        with torch.no_grad():
            torch.testing.assert_close(action.force(phi), -gradient, rtol=1e-10, atol=1e-10)
            momentum = fields(shape, seed=5)
            moved = momentum.clone()
            kick = action.kick(moved, phi)
            kick(0.2), kick(0.1)
            torch.testing.assert_close(moved, momentum - 0.3 * gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mu2, g", [(1.0, 0.4), (-1.0, 0.4), (2.0, 0.0)])
def test_zero_dimensional_force(mu2, g):
    phi = fields((), chains=20).requires_grad_()
    action = ZeroDimensionalPhi4(mu2, g)
    (gradient,) = torch.autograd.grad(action(phi).sum(), phi)
    torch.testing.assert_close(action.force(phi.detach()), -gradient, rtol=1e-10, atol=1e-12)
    expected = 0.5 * mu2 * phi**2 + g / 24 * phi**4
    torch.testing.assert_close(action(phi), expected)


def test_phi4_site_by_site():
    """The definition, in plain loops."""
    shape, kappa, lam = (3, 4), 0.21, 0.1
    phi = fields(shape, chains=1)
    total = 0.0
    for x in range(3):
        for y in range(4):
            here = float(phi[0, x, y])
            ahead = float(phi[0, (x + 1) % 3, y]) + float(phi[0, x, (y + 1) % 4])
            total += -2 * kappa * here * ahead + (1 - 2 * lam) * here**2 + lam * here**4
    assert float(Phi4(kappa, lam)(phi)) == pytest.approx(total, rel=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbour_sum_in_any_memory_layout(shape):
    phi = fields(shape, chains=4)
    expected = sum(phi.roll(s, mu) for mu in range(1, phi.ndim) for s in (1, -1))
    torch.testing.assert_close(neighbour_sum(phi), expected)
    innermost = phi.movedim(0, -1).contiguous().movedim(-1, 0)
    assert innermost.stride(0) == 1
    result = neighbour_sum(innermost)
    assert result.stride() == innermost.stride()
    torch.testing.assert_close(result, expected)


def test_free_field_is_the_quadratic_form_of_the_kernel():
    lattice, mass2 = Lattice((4, 6)), 0.7
    phi = fields(lattice.shape)
    flat = phi.flatten(1)
    expected = 0.5 * (flat @ lattice.kinetic_matrix(mass2) * flat).sum(-1)
    torch.testing.assert_close(FreeField(mass2, 2)(phi), expected)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
@pytest.mark.parametrize("mass2, coupling", [(-0.5, 1.8), (0.3, 0.0), (2.0, 0.01), (-9.0, 3.0)])
def test_bare_form_and_back(dim, mass2, coupling):
    action, z = Phi4.from_bare(mass2, coupling, dim)
    there = action.bare(dim)
    assert there == pytest.approx((mass2, coupling, z), rel=1e-12, abs=1e-12)
    phi = fields((3,) * dim)
    varphi = z * phi
    gradient = sum((varphi.roll(-1, mu) - varphi) ** 2 for mu in range(1, dim + 1))
    density = 0.5 * gradient + 0.5 * mass2 * varphi**2 + coupling / 24 * varphi**4
    torch.testing.assert_close(action(phi), density.flatten(1).sum(1), rtol=1e-12, atol=1e-12)


def test_bare_form_of_the_published_critical_point():
    """kappa_c = 0.27088 at lambda = 0.022 is mu_0^2 = -0.4708, lambda = 0.2998 (lambda/4 form)."""
    mass2, coupling, _ = Phi4(0.27088, 0.022).bare(2)
    assert mass2 == pytest.approx(-0.47076, abs=1e-5)
    assert coupling / 6 == pytest.approx(0.29983, abs=1e-5)


@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 4, 5)])
def test_homogeneous_couplings_give_the_same_action(shape):
    phi = fields(shape)
    for action in (Phi4(0.27, 0.022), FreeField(0.3, len(shape))):
        tensors = InhomogeneousPhi4.homogeneous(action, Lattice(shape), dtype=torch.float64)
        torch.testing.assert_close(tensors(phi), action(phi))
        torch.testing.assert_close(tensors.force(phi), action.force(phi))
        torch.testing.assert_close(tensors.local_field(phi), action.local_field(phi))


def test_couplings_that_would_be_lost_are_refused():
    class Sextic(Phi4):
        def __call__(self, phi):
            return super().__call__(phi) + lattice_sum(phi**6)

    for action in (Sextic(0.2, 0.1), AutogradAction(Phi4(0.2, 0.1))):
        with pytest.raises(ValueError, match="other terms"):
            InhomogeneousPhi4.homogeneous(action, Lattice((4, 4)))


def test_inhomogeneous_action_is_differentiable_in_its_couplings():
    shape, phi = (3, 4), fields((3, 4), chains=1)
    action = inhomogeneous(shape)
    for name in ("hopping", "quadratic", "quartic", "source"):
        getattr(action, name).requires_grad_()
    action(phi).sum().backward()
    torch.testing.assert_close(action.quadratic.grad, phi[0] ** 2)
    torch.testing.assert_close(action.quartic.grad, phi[0] ** 4)
    torch.testing.assert_close(action.source.grad, -phi[0])
    torch.testing.assert_close(action.hopping.grad[1], -phi[0] * phi[0].roll(-1, 1))


@pytest.mark.parametrize("shape", [(5,), (4, 6)])
def test_site_action_holds_all_that_a_site_changes(shape):
    phi = fields(shape)
    for action in actions(shape):
        changed = phi.clone()
        changed[(slice(None), *([1] * len(shape)))] += 0.7
        where = (slice(None), *([1] * len(shape)))
        field = action.local_field(phi)
        local = action.site_action(changed, field) - action.site_action(phi, field)
        torch.testing.assert_close(action(changed) - action(phi), local[where])


def test_couplings_may_mix_dtypes_and_symmetry_holds():
    phi = fields((4, 4), dtype=torch.float32)
    action = Phi4(0.27, 0.022)
    assert action(phi).dtype == torch.float64
    assert action.force(phi).dtype == torch.float32
    torch.testing.assert_close(action(phi), action(phi.double()), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(action(-phi), action(phi))
    assert action.symmetric and not inhomogeneous((4, 4)).symmetric


def test_vacuum_is_the_least_uniform_action():
    action = Phi4(0.5, 0.022)
    v = action.vacuum(2)
    uniform = torch.full((1, 4, 4), v, dtype=torch.float64)
    assert float(action.force(uniform).abs().max()) < 1e-12
    assert float(action(uniform)) < float(action(0 * uniform))
    assert Phi4(0.2, 0.022).vacuum(2) == 0


def test_unstable_couplings_are_refused():
    with pytest.raises(StabilityError, match="lam >= 0"):
        Phi4(0.2, -0.1)
    with pytest.raises(ValueError, match="kappa"):
        Phi4(math.nan, 0.1)
    with pytest.raises(StabilityError, match="coupling"):
        Phi4.from_bare(-1.0, 0.0, 2)
    with pytest.raises(StabilityError, match="g > 0"):
        ZeroDimensionalPhi4(-1.0, 0.0)
    with pytest.raises(ValueError, match="mass2"):
        FreeField(-1.0, 2)
    with pytest.raises(StabilityError, match="lowest mode"):
        Phi4(0.26, 0.0).check_stable(Lattice((4, 4)))
    Phi4(0.24, 0.0).check_stable(Lattice((4, 4)))
    Phi4(-0.26, 0.0).check_stable(Lattice((3, 3)))  # an odd ring cannot alternate
    with pytest.raises(StabilityError, match="lowest mode"):
        Phi4(-0.26, 0.0).check_stable(Lattice((4, 4)))


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match="2 directions"):
        FreeField(1.0, 2)(fields((4,)))
    with pytest.raises(ShapeError, match="hopping"):
        InhomogeneousPhi4(torch.ones(4, 4), torch.ones(4, 4), torch.ones(4, 4))
    with pytest.raises(StabilityError, match="quartic"):
        InhomogeneousPhi4(torch.ones(2, 4, 4), torch.ones(4, 4), -torch.ones(4, 4))
    with pytest.raises(ShapeError, match="lattice"):
        inhomogeneous((4, 4)).check_stable(Lattice((6, 6)))
