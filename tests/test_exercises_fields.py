"""The checks of the chapter on Markov random fields: the folded solutions pass, errors do not."""

from __future__ import annotations

import itertools
import math
import re

import networkx as nx
import pytest
import torch
from matplotlib import pyplot as plt

from physml import exercises, graphs, lattice, plotting


def solutions(root):
    """The programs in the folded solutions of the chapter."""
    text = (root / "book" / "fields" / "markov_random_fields.md").read_text(encoding="utf-8")
    folded = re.findall(r"^````\{solution\}.*?^````$", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"```python\n(.*?)```", "\n".join(folded), re.DOTALL)


def test_folded_solutions_pass(root, capsys):
    programs = solutions(root)
    used = set(re.findall(r"exercises\.(check_\w+)", "".join(programs)))
    assert len(used) == 7
    names = {"exercises": exercises, "graphs": graphs, "lattice": lattice, "math": math,
             "torch": torch, "plt": plt, "plotting": plotting}
    for program in programs:
        exec(program, dict(names))
    said = capsys.readouterr().out
    assert said.count("Correct: ") == 7 and "Not yet" not in said
    assert "8 4 36\n" in said  # diagonal links, counted on the graph
    assert said.endswith("\n8\n")  # the decimated blanket, from the Schur complement


@pytest.mark.parametrize(
    ("check", "wrong", "reason"),
    [
        (exercises.check_partial_correlation, lambda rho: rho, "is not right"),
        (exercises.check_partial_correlation, lambda rho: -rho / math.sqrt(1 + rho**2), "sign"),
        (exercises.check_clique_count, lambda d, n: d * n**d, "2 dimensions of length 3"),
        (exercises.check_pair_potential, lambda p: p.log(), "3 and 4 states"),
        (exercises.check_ising_potentials, lambda b, f, n: (b, 2 * f - 2 * b * n), "is not right"),
        (exercises.check_ising_potentials, lambda b, f, n: 4 * b, "a number where a tensor"),
        (exercises.check_diagonal_links, lambda n: (8, 3, 4 * n**2), "L = 5"),
        (exercises.check_diagonal_links, (8, 4, 25), "should be a function"),
        (exercises.check_free_conditional, lambda y, m: (y.mean(), 1 / m), "2 neighbours"),
        (exercises.check_decimated_blanket, lambda d: 4 * d, "1 dimensions"),
        (exercises.check_decimated_blanket, 8, "should be a function"),
    ],
)
def test_wrong_answers_are_told_why(check, wrong, reason):
    result = check(wrong)
    assert not result and reason in result.message


@pytest.mark.parametrize(("dim", "length"), list(itertools.product((1, 2, 3), (2, 3, 4, 5))))
def test_clique_count_is_that_of_the_graph(dim, length):
    graph = graphs.lattice_graph(lattice.Lattice((length,) * dim))
    formula = dim * length ** (dim if length > 3 else dim - 1)
    assert len(graphs.maximal_cliques(graph)) == formula


def test_ising_potentials_are_those_of_the_library():
    beta, field, graph = 0.3, 0.2, nx.star_graph(3)  # the centre has three neighbours
    s = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    log_p = torch.zeros((2,) * 4, dtype=torch.float64)
    for i, j in graph.edges:
        log_p = log_p + graphs._spread(beta * s[:, None] * s, (i, j), 4)
    for i in graph:
        log_p = log_p + graphs._spread(field * s, (i,), 4)
    potentials = graphs.canonical_potentials(log_p.reshape(-1).softmax(0).reshape(log_p.shape))
    found = float(potentials[0, 1][1, 1]), float(potentials[0,][1])
    assert found == pytest.approx((4 * beta, 2 * field - 2 * beta * 3), abs=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_decimated_blanket_is_that_of_the_schur_complement(dim):
    box = lattice.Lattice((6,) * dim)
    kernel, even = box.kinetic_matrix(0.5), box.parity().reshape(-1)
    a, b, c = kernel[~even][:, ~even], kernel[~even][:, even], kernel[even][:, even]
    decimated = graphs.interaction_graph(a - b @ c.inverse() @ b.T)
    assert len(graphs.markov_blanket(decimated, 0)) == 2 * dim**2
