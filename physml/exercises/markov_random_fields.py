"""Answers to the exercises of "Fields on graphs"."""

from __future__ import annotations

import math
from typing import Any

import torch

from .core import as_vector, check, compare_function, seeded_cases

__all__ = [
    "check_clique_count",
    "check_decimated_blanket",
    "check_diagonal_links",
    "check_free_conditional",
    "check_ising_potentials",
    "check_pair_potential",
    "check_partial_correlation",
]


@check
def check_partial_correlation(answer: Any) -> str:
    """A function of rho: the correlation of the first two of a chain of three, given the third."""
    compare_function(
        answer, lambda rho: rho / math.sqrt(1 + rho**2), [(0.5,), (-0.3,), (0.9,)],
        what="the correlation given the third", describe=lambda rho: f"rho = {rho}",
        hint="the pair given the third has a block of the precision matrix as its own")
    return "a known neighbour takes its share of what the others had in common."


@check
def check_clique_count(answer: Any) -> str:
    """A function of dimension and length: the number of maximal cliques of a periodic lattice."""
    compare_function(
        answer, lambda dim, length: dim * length ** (dim if length > 3 else dim - 1),
        [(1, 4), (2, 4), (2, 7), (3, 5), (2, 3), (3, 3), (2, 2), (3, 2)],
        what="the number of maximal cliques",
        describe=lambda dim, length: f"{dim} dimensions of length {length}",
        hint="links, from length 4 on; what is a row of three sites, and a row of two?")
    return "links, triangles for L = 3, and edges of two links each for L = 2."


@check
def check_pair_potential(answer: Any) -> str:
    """A function of a positive distribution ``(q, r)``: its canonical potential, reference 0."""

    def reference(p: torch.Tensor) -> torch.Tensor:
        log_p = p.log()
        return log_p - log_p[:, :1] - log_p[:1] + log_p[:1, :1]

    def make(generator: torch.Generator) -> tuple[torch.Tensor]:
        p = torch.rand(3, 4, generator=generator, dtype=torch.float64) + 0.1
        return (p / p.sum(),)

    compare_function(
        answer, reference, seeded_cases(make), what="the potential of the pair",
        describe=lambda p: f"{p.shape[0]} and {p.shape[1]} states",
        hint="four terms with alternating signs; it vanishes where one of the two is at 0")
    return "four terms, the discrete mixed derivative of ln p."


@check
def check_ising_potentials(answer: Any) -> str:
    """A function of beta, field and number of neighbours: potentials of an edge and of a site."""
    compare_function(
        as_vector(answer),
        lambda beta, field, n: torch.tensor([4 * beta, 2 * field - 2 * beta * n]).double(),
        [(0.3, 0.1, 4), (0.5, -0.2, 2), (-0.4, 0.0, 6)], what="the pair of potentials",
        describe=lambda beta, field, n: f"beta = {beta}, B = {field} and {n} neighbours",
        hint="the edge first; the reference is all spins down, so a difference of spins is 2")
    return "the Ising model, written as a lattice gas."


@check
def check_diagonal_links(answer: Any) -> str:
    """A function of L: sizes of blanket and clique and number of cliques, with diagonal links."""
    compare_function(
        as_vector(answer), lambda length: torch.tensor([8.0, 4.0, length**2]).double(),
        [(5,), (6,), (9,)], rtol=1e-9, what="the triple of numbers",
        describe=lambda length: f"L = {length}",
        hint="blanket, size of a maximal clique, number of them: look at one plaquette")
    return "each plaquette is a clique of four, and no larger one exists."


@check
def check_free_conditional(answer: Any) -> str:
    """A function of the neighbours ``(2d,)`` and m2: mean and variance of a free field's site."""

    def reference(neighbours: torch.Tensor, mass2: float) -> torch.Tensor:
        stiffness = len(neighbours) + mass2
        return torch.stack([neighbours.sum(), torch.ones((), dtype=torch.float64)]) / stiffness

    cases = [
        (torch.randn(2 * d, generator=torch.Generator().manual_seed(d), dtype=torch.float64), m2)
        for d, m2 in ((1, 0.5), (2, 1.0), (3, 0.1))
    ]
    compare_function(
        as_vector(answer), reference, cases, what="the pair of mean and variance",
        describe=lambda neighbours, mass2: f"{len(neighbours)} neighbours and m2 = {mass2}",
        hint="collect the terms of the action with this site, and complete the square")
    return "a massless field is, on average, the mean of its neighbours."


@check
def check_decimated_blanket(answer: Any) -> str:
    """A function of d: the blanket of a site after integrating out every other site."""
    compare_function(
        answer, lambda dim: 2 * dim**2, [(1,), (2,), (3,), (4,)], rtol=1e-9,
        what="the size of the blanket", describe=lambda dim: f"{dim} dimensions",
        hint="summing over a site joins all its neighbours: which sites are two steps away?")
    return "only in one dimension does decimation give back a nearest-neighbour theory."
