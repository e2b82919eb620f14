r"""Local Metropolis updates, and moves that no small step can make.

In the broken phase a local dynamics cannot cross between the two signs of the field, and domain
walls take a long time to leave. The `GlobalFlip` and the cluster update of the embedded Ising
spins (U. Wolff, Phys. Rev. Lett. 62 (1989) 361; R. C. Brower and P. Tamayo, Phys. Rev. Lett. 62
(1989) 1087) keep the action's weight exactly and change signs of whole regions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..actions import LocalAction
from ..errors import check_positive, check_real
from ..lattice import Lattice
from .common import Info, State, per_chain, uniform, wide

__all__ = ["GlobalFlip", "Metropolis", "Sequence", "SwendsenWang"]


@dataclass(frozen=True)
class Metropolis:
    r"""One sweep of local Metropolis updates, first the even sites, then the odd ones.

    Sites of one colour of the checkerboard are not neighbours, so all of them are updated at once,
    each with its own decision: :math:`\phi_x\to\phi_x+w\,u` with `u` uniform in [-1, 1], accepted
    with :math:`\min(1,e^{-\Delta S})`.

    Parameters
    ----------
    action
        The action to sample, on a lattice with even lengths.
    step_size
        The width `w` of the proposal.
    """

    action: LocalAction
    step_size: float = 1.0

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size)

    cost = 1

    def with_step_size(self, step_size: float) -> Metropolis:
        """Return the same sampler with another `step_size`."""
        return replace(self, step_size=step_size)

    def init(self, phi: Tensor) -> State:
        """Return the state that starts from `phi`."""
        return State(check_real("phi", phi).detach())

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Make one sweep."""
        phi = wide(state.phi).clone()
        share = 0.0
        for colour in _colours(phi):
            field = self.action.local_field(phi)
            u = torch.rand((2, *phi.shape), dtype=phi.dtype, device=phi.device,
                           generator=generator)
            # on the grid of the field's type, so that what is decided about is what is kept
            proposal = (phi + self.step_size * (2 * u[0] - 1)).to(state.phi.dtype).to(phi)
            delta = self.action.site_action(proposal, field) - self.action.site_action(phi, field)
            accept = (u[1] < torch.exp(-delta)) & colour
            phi = torch.where(accept, proposal, phi)
            share = share + accept.reshape(len(phi), -1).sum(1)
        return State(phi.to(state.phi.dtype)), Info(share / max(1, phi[0].numel()))


def _colours(phi: Tensor) -> list[Tensor]:
    if phi.ndim == 1:
        return [torch.ones((), dtype=torch.bool, device=phi.device)]
    even = Lattice(tuple(phi.shape[1:])).parity(phi.device)
    return [even, ~even]


@dataclass(frozen=True)
class GlobalFlip:
    r"""Change the sign of all of a field, or not, with equal probability.

    It samples nothing on its own: follow another sampler with it (`Sequence`).
    """

    action: LocalAction

    def __post_init__(self) -> None:
        _check_symmetric(self.action, "GlobalFlip")

    cost = 0

    def init(self, phi: Tensor) -> State:
        """Return the state that starts from `phi`."""
        return State(check_real("phi", phi).detach())

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Draw a sign for each chain."""
        sign = (1 - 2 * uniform(len(state.phi), state.phi, generator).round()).to(state.phi)
        return State(state.phi * per_chain(sign, state.phi)), Info()


@dataclass(frozen=True)
class SwendsenWang:
    r"""Cluster update of the signs at fixed :math:`|\phi|`.

    For given sizes the signs :math:`s_x` are an Ising model with the couplings
    :math:`J_{xy}=w|\phi_x||\phi_y|`. A bond between equal signs is drawn with the probability
    :math:`1-e^{-2J}`, and each cluster of bonds gets a new sign (R. H. Swendsen and J.-S. Wang,
    Phys. Rev. Lett. 58 (1987) 86). It does not change :math:`|\phi|`: follow another sampler with
    it (`Sequence`).

    Parameters
    ----------
    action
        An action with one `hopping` :math:`w\ge0` for all links and no source.
    """

    action: LocalAction

    def __post_init__(self) -> None:
        _check_symmetric(self.action, "SwendsenWang")
        if not isinstance(self.action.hopping, float | int) or self.action.hopping < 0:
            raise ValueError(
                "SwendsenWang needs an action with one hopping >= 0 for all links, not "
                f"{self.action.hopping}: unequal signs would have to attract"
            )

    cost = 3

    def init(self, phi: Tensor) -> State:
        """Return the state that starts from `phi`."""
        return State(check_real("phi", phi).detach())

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Build the clusters of each chain and draw their signs."""
        phi = wide(state.phi).contiguous()
        bonds = []
        for mu in range(1, phi.ndim):
            coupling = (2 * self.action.hopping) * phi * phi.roll(-1, mu)
            u = torch.rand(phi.shape, dtype=phi.dtype, device=phi.device, generator=generator)
            bonds.append(u > torch.exp(-coupling))  # never where the signs differ: u < 1
        sign = 1 - 2 * torch.rand(phi.numel(), dtype=phi.dtype, device=phi.device,
                                  generator=generator).round()
        sign = sign.index_select(0, clusters(bonds).view(-1)).view(phi.shape)
        out = torch.empty_like(state.phi)
        out.copy_(phi * sign)
        return State(out), Info()


def clusters(bonds: list[Tensor]) -> Tensor:
    r"""Return the label of each site's cluster, ``(chains, volume)``: its smallest site number.

    Sites are numbered through all chains. Each takes the smallest label next to it, the site that
    gave the old label takes it too, and then labels are followed to their ends, so that the number
    of rounds grows with the logarithm of the size of a cluster.

    Parameters
    ----------
    bonds
        For each direction, whether `x` and :math:`x+\hat\mu` are bound, ``(chains, *shape)``.
    """
    shape, total = bonds[0].shape, bonds[0].numel()
    # labels seen through a missing bond are larger than any other; `where` is ten times slower
    walls = [(~bond).int().mul_(total) for bond in bonds]
    label = torch.arange(total, dtype=torch.int32, device=bonds[0].device)
    while True:
        grid = label.view(shape)
        least = grid
        for mu, wall in enumerate(walls, start=1):
            least = torch.minimum(least, grid.roll(-1, mu).add_(wall))
            least = torch.minimum(least, (grid + wall).roll(1, mu))
        least = least.reshape(-1)
        if torch.equal(least, label):
            return label.view(shape[0], -1)
        label = least.scatter_reduce(0, label.long(), least, "amin")
        label = label.index_select(0, label)
        label = label.index_select(0, label)


@dataclass(frozen=True)
class Sequence:
    """Several samplers of the same action, one after the other, as one step.

    Parameters
    ----------
    samplers
        Each makes a step in turn; the first one gives acceptance and step size.
    """

    samplers: tuple

    def __post_init__(self) -> None:
        object.__setattr__(self, "samplers", tuple(self.samplers))
        if not self.samplers:
            raise ValueError("samplers is empty: give at least one")
        if any(s.action != self.samplers[0].action for s in self.samplers):
            raise ValueError("samplers have different actions: they must share one")

    @property
    def action(self) -> LocalAction:
        """The common action."""
        return self.samplers[0].action

    @property
    def cost(self) -> int:
        """Rough number of force evaluations in a step of the chain."""
        return sum(s.cost for s in self.samplers)

    @property
    def step_size(self) -> float:
        """The step size of the first sampler."""
        return self.samplers[0].step_size

    def with_step_size(self, step_size: float) -> Sequence:
        """Return the same sequence with another `step_size` of the first sampler."""
        first = self.samplers[0].with_step_size(step_size)
        return replace(self, samplers=(first, *self.samplers[1:]))

    def unadjusted(self) -> Sequence:
        """Return the same sequence without the accept step of the first sampler."""
        first = getattr(self.samplers[0], "unadjusted", lambda: self.samplers[0])()
        return replace(self, samplers=(first, *self.samplers[1:]))

    def init(self, phi: Tensor) -> State:
        """Return the state that starts from `phi`."""
        return State(check_real("phi", phi).detach())

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Make a step of each sampler."""
        phi, infos = state.phi, []
        for sampler in self.samplers:
            new, info = sampler.step(sampler.init(phi), generator)
            phi = new.phi
            infos.append(info)
        return State(phi), infos[0]


def _check_symmetric(action: LocalAction, name: str) -> None:
    if not action.symmetric:
        raise ValueError(f"{name} needs an action that is even in the field, and {action} is not")


