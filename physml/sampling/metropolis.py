r"""Local Metropolis updates, and moves that no small step can make.

In the broken phase a local dynamics cannot cross between the two signs of the field, and domain
walls take a long time to leave. The `GlobalFlip` and the cluster update of the embedded Ising
spins (U. Wolff, Phys. Rev. Lett. 62 (1989) 361; R. C. Brower and P. Tamayo, Phys. Rev. Lett. 62
(1989) 1087) keep the action's weight exactly and change signs of whole regions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..actions import Action, LocalAction, _unit_offsets
from ..errors import check_positive, check_real
from .checks import (
    BONDS,
    CONDITIONALS,
    EVEN,
    check_bonds,
    check_conditionals,
    check_even,
    check_members,
)
from .common import Info, State, per_chain, uniform, wide

__all__ = ["GlobalFlip", "Metropolis", "Sequence", "SwendsenWang"]


@dataclass(frozen=True)
class Metropolis:
    r"""One sweep of local Metropolis updates, first the even sites, then the odd ones.

    Sites of one colour of the checkerboard are not neighbours, so all of them are updated at once.
    (The action says which `colours <physml.actions.LocalAction.colours>` there are: more than two
    if it reaches beyond neighbours.) Each site has its own decision:
    :math:`\phi_x\to\phi_x+w\,u` with `u` uniform in [-1, 1], accepted with
    :math:`\min(1,e^{-\Delta S})`.

    Parameters
    ----------
    action
        The local action to sample, on a lattice with even lengths.
    step_size
        The width `w` of the proposal.
    """

    action: LocalAction
    step_size: float = 1.0

    def __post_init__(self) -> None:
        names, advice = CONDITIONALS
        check_members(self.action, (*names, "site_action"), advice, "Metropolis")
        check_positive("step_size", self.step_size)

    cost = 1

    def with_step_size(self, step_size: float) -> Metropolis:
        """Return the same sampler with another `step_size`."""
        return replace(self, step_size=step_size)

    def init(self, phi: Tensor) -> State:
        """Return the state that starts from `phi`.

        Raises
        ------
        ValueError
            If the local parts of the action do not belong to its S.
        """
        phi = check_real("phi", phi).detach()
        colours = self.action.colours(phi)
        check_conditionals(self.action, phi, colours, self.action.site_action, "Metropolis")
        return self.resume(phi)

    def resume(self, phi: Tensor) -> State:
        """Return the state that goes on from `phi`, to which another sampler moved the fields."""
        return State(phi)

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Make one sweep."""
        phi = wide(state.phi).clone()
        share = 0.0
        for colour in self.action.colours(phi):
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


@dataclass(frozen=True)
class GlobalFlip:
    r"""Change the sign of all of a field, or not, with equal probability.

    It samples nothing on its own: follow another sampler with it (`Sequence`).
    """

    action: Action

    def __post_init__(self) -> None:
        check_members(self.action, *EVEN, "GlobalFlip")
        _check_symmetric(self.action, "GlobalFlip")

    cost = 0

    def init(self, phi: Tensor) -> State:
        """Return the state that starts from `phi`.

        Raises
        ------
        ValueError
            If S is not even.
        """
        phi = check_real("phi", phi).detach()
        check_even(self.action, phi, "GlobalFlip")
        return self.resume(phi)

    def resume(self, phi: Tensor) -> State:
        """Return the state that goes on from `phi`, to which another sampler moved the fields."""
        return State(phi)

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Draw a sign for each chain, and give it to all fields of the state."""
        sign = (1 - 2 * uniform(len(state.phi), state.phi, generator).round()).to(state.phi)
        return type(state)(*(field * per_chain(sign, field) for field in state)), Info()


@dataclass(frozen=True)
class SwendsenWang:
    r"""Cluster update of the signs at fixed :math:`|\phi|`.

    For given sizes the signs :math:`s_x` are an Ising model with the couplings
    :math:`J_{xy}=w|\phi_x||\phi_y|` of the action's `bonds <physml.actions.LocalAction.bonds>`. A
    bond between equal signs is drawn with the probability :math:`1-e^{-2J}`, and each cluster of
    bonds gets a new sign (R. H. Swendsen and J.-S. Wang, Phys. Rev. Lett. 58 (1987) 86). It does
    not change :math:`|\phi|`: follow another sampler with it (`Sequence`).

    Parameters
    ----------
    action
        A local action with couplings :math:`w\ge0` on all bonds, and no source.
    """

    action: LocalAction

    def __post_init__(self) -> None:
        check_members(self.action, *BONDS, "SwendsenWang")
        _check_symmetric(self.action, "SwendsenWang")
        for offset, w in self.action.bonds(2):
            least = float(w.min()) if isinstance(w, Tensor) else w
            if not least >= 0:
                raise ValueError(
                    "SwendsenWang needs an action with hopping >= 0 on all bonds, not "
                    f"{least} along {offset}: unequal signs would have to attract"
                )

    cost = 3

    def init(self, phi: Tensor) -> State:
        """Return the state that starts from `phi`.

        Raises
        ------
        ValueError
            If S depends on the signs in other ways than the bonds of the action say.
        """
        phi = check_real("phi", phi).detach()
        check_bonds(self.action, phi, _shift, "SwendsenWang")
        return self.resume(phi)

    def resume(self, phi: Tensor) -> State:
        """Return the state that goes on from `phi`, to which another sampler moved the fields."""
        return State(phi)

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Build the clusters of each chain and draw their signs."""
        phi = wide(state.phi).contiguous()
        bonds, offsets = [], []
        for offset, w in self.action.bonds(phi.ndim - 1):
            coupling = (2 * w) * phi * _shift(phi, offset)
            offsets.append(offset)
            u = torch.rand(phi.shape, dtype=phi.dtype, device=phi.device, generator=generator)
            bonds.append(u > torch.exp(-coupling))  # never where the signs differ: u < 1
        sign = 1 - 2 * torch.rand(phi.numel(), dtype=phi.dtype, device=phi.device,
                                  generator=generator).round()
        sign = sign.index_select(0, clusters(bonds, offsets).view(-1)).view(phi.shape)
        out = torch.empty_like(state.phi)
        out.copy_(phi * sign)
        return State(out), Info()


def _shift(field: Tensor, offset: tuple[int, ...], sign: int = 1) -> Tensor:
    """Return the field at `x` plus `sign` times `offset`, as a new tensor."""
    moves = [(-sign * step, mu) for mu, step in enumerate(offset, start=1) if step]
    return field.roll(*zip(*moves, strict=True))


def clusters(bonds: list[Tensor], offsets: list[tuple[int, ...]] | None = None) -> Tensor:
    r"""Return the label of each site's cluster, ``(chains, volume)``: its smallest site number.

    Sites are numbered through all chains. Each takes the smallest label next to it, the site that
    gave the old label takes it too, and then labels are followed to their ends, so that the number
    of rounds grows with the logarithm of the size of a cluster.

    Parameters
    ----------
    bonds
        For each offset `r`, whether `x` and :math:`x+r` are bound, ``(chains, *shape)``.
    offsets
        The offsets; by default one step in each direction.
    """
    offsets = offsets or _unit_offsets(len(bonds))
    shape, total = bonds[0].shape, bonds[0].numel()
    # labels seen through a missing bond are larger than any other; `where` is ten times slower
    walls = [(~bond).int().mul_(total) for bond in bonds]
    label = torch.arange(total, dtype=torch.int32, device=bonds[0].device)
    while True:
        grid = label.view(shape)
        least = grid
        for offset, wall in zip(offsets, walls, strict=True):
            least = torch.minimum(least, _shift(grid, offset).add_(wall))
            least = torch.minimum(least, _shift(grid + wall, offset, -1))
        least = least.reshape(-1)
        if torch.equal(least, label):
            return label.view(shape[0], -1)
        label = least.scatter_reduce(0, label.long(), least, "amin")
        label = label.index_select(0, label)
        label = label.index_select(0, label)


@dataclass(frozen=True)
class Sequence:
    """Several samplers of the same action, one after the other, as one step.

    From one to the next only the field is handed on, and each goes on from it with its `resume`, or
    `init` if it has none. A sampler that `remembers` more than the field (`Langevin` with the noise
    that its scheme of second order carries along) keeps its state. Nothing but a `GlobalFlip` may
    move the field in between then, which gives its sign to the noise too.

    Parameters
    ----------
    samplers
        Each makes a step in turn. The first one with a step size that can be tuned gives acceptance
        and step size; if there is none, the first one.

    Raises
    ------
    ValueError
        If there are no samplers, if they have different actions, or if one of them remembers more
        than the field and another one moves it.
    """

    samplers: tuple

    def __post_init__(self) -> None:
        object.__setattr__(self, "samplers", tuple(self.samplers))
        if not self.samplers:
            raise ValueError("samplers is empty: give at least one")
        if any(s.action != self.samplers[0].action for s in self.samplers):
            raise ValueError("samplers have different actions: they must share one")
        keeper = self._keeper
        for s in self.samplers:
            if keeper is not None and s != keeper and not isinstance(s, GlobalFlip):
                raise ValueError(
                    f"{type(keeper).__name__} carries more than the field from step to step, which "
                    f"a move of {type(s).__name__} in between would spoil: combine it with "
                    "GlobalFlip only, or take Langevin with scheme='euler', MALA or HMC"
                )

    @property
    def _keeper(self) -> object | None:
        """The member that remembers more than the field."""
        return next((s for s in self.samplers if getattr(s, "remembers", False)), None)

    @property
    def remembers(self) -> bool:
        """Whether one of the samplers remembers more than the field."""
        return self._keeper is not None

    @property
    def _lead(self) -> int:
        """The place of the member that gives acceptance and step size."""
        places = range(len(self.samplers))
        return next((i for i in places if hasattr(self.samplers[i], "with_step_size")), 0)

    @property
    def action(self) -> Action:
        """The common action."""
        return self.samplers[0].action

    @property
    def cost(self) -> int:
        """Rough number of force evaluations in a step of the chain."""
        return sum(s.cost for s in self.samplers)

    @property
    def step_size(self) -> float:
        """The step size of the leading sampler, if it has one."""
        return self.samplers[self._lead].step_size

    @property
    def with_step_size(self) -> Callable[[float], Sequence]:
        """A function of `step_size` that returns the same sequence with another one.

        It exists only where one of the samplers has a step size that can be tuned.
        """
        change = self.samplers[self._lead].with_step_size
        return lambda step_size: self._led_by(change(step_size))

    def unadjusted(self) -> Sequence:
        """Return the same sequence without the accept step of the leading sampler."""
        lead = self.samplers[self._lead]
        return self._led_by(lead.unadjusted()) if hasattr(lead, "unadjusted") else self

    def _led_by(self, sampler: object) -> Sequence:
        before, after = self.samplers[: self._lead], self.samplers[self._lead + 1 :]
        return replace(self, samplers=(*before, sampler, *after))

    def init(self, phi: Tensor) -> tuple:
        """Return the state that starts from `phi`."""
        phi = check_real("phi", phi).detach()
        states = [(s, s.init(phi)) for s in self.samplers]  # each checks the action
        return next((state for s, state in states if s is self._keeper), State(phi))

    def resume(self, phi: Tensor) -> tuple:
        """Return the state that goes on from `phi`, to which another sampler moved the fields."""
        return self._keeper.resume(phi) if self.remembers else State(phi)

    def step(self, state: tuple, generator: torch.Generator) -> tuple[tuple, Info]:
        """Make a step of each sampler."""
        infos, keeps = [], self.remembers
        for sampler in self.samplers:
            own = state if keeps else getattr(sampler, "resume", sampler.init)(state[0])
            state, info = sampler.step(own, generator)
            infos.append(info)
        return state if keeps else State(state[0]), infos[self._lead]


def _check_symmetric(action: Action, name: str) -> None:
    if not action.symmetric:
        raise ValueError(f"{name} needs an action that is even in the field, and {action} is not")


