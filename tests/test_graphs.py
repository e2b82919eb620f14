"""Markov random fields: the theorem of Hammersley and Clifford, run forwards and backwards."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import pytest
import torch

from physml import graphs
from physml.actions import FreeField, InhomogeneousPhi4, Phi4
from physml.device import generator
from physml.errors import ShapeError, StabilityError
from physml.lattice import Lattice


def diamond():
    """Two triangles on a common edge, with a tail."""
    return nx.Graph([(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4)])


GRAPHS = {
    "chain": nx.path_graph(5),
    "cycle": nx.cycle_graph(4),
    "star": nx.star_graph(4),
    "diamond": diamond(),
    "complete": nx.complete_graph(4),
    "empty": nx.empty_graph(3),
    "two pieces": nx.disjoint_union(nx.path_graph(3), nx.path_graph(2)),
}
EVERY = pytest.mark.parametrize("name", GRAPHS)
FOUR_STATES = ("0000", "1000", "1100", "1110", "1111", "0111", "0011", "0001")


def uniform(states, n):
    p = torch.zeros((2,) * n, dtype=torch.float64)
    for state in states:
        p[tuple(map(int, state))] = 1 / len(states)
    return p


def moussouris():
    return uniform(FOUR_STATES, 4)


def random_p(graph, seed=0, states=None):
    states = [2 + v % 2 for v in graph] if states is None else states
    return graphs.random_markov(graph, states, generator=generator(seed))


def all_violations(p, graph):
    kinds = (graphs.pairwise_violations, graphs.local_violations, graphs.global_violations)
    return [kind(p, graph) for kind in kinds]


# --- graphs


@pytest.mark.parametrize("shape", [(4, 4), (5, 6), (4, 4, 4), (4,), (2, 4), (3, 4)])
def test_lattice_graph_is_that_of_networkx(shape):
    grid = nx.grid_graph(dim=shape[::-1], periodic=True)
    number = {site: i for i, site in enumerate(sorted(grid))}
    ours = graphs.lattice_graph(Lattice(shape))
    assert nx.utils.graphs_equal(ours, nx.relabel_nodes(grid, number))


@pytest.mark.parametrize("length", [4, 5, 6])
def test_maximal_cliques_of_the_square_lattice_are_its_links(length):
    graph = graphs.lattice_graph(Lattice((length, length)))
    found = graphs.maximal_cliques(graph)
    assert len(found) == 2 * length**2 and {len(c) for c in found} == {2}
    assert all(len(graphs.markov_blanket(graph, v)) == 4 for v in graph)


def test_pitfalls_of_small_lattices():
    """Length 3 closes to triangles; on length 2 two links are one edge."""
    three = graphs.maximal_cliques(graphs.lattice_graph(Lattice((3, 3))))
    assert [len(c) for c in three] == [3] * 6
    two = graphs.lattice_graph(Lattice((2, 2)))
    assert nx.is_isomorphic(two, nx.cycle_graph(4))
    assert graphs.markov_blanket(two, 0) == (1, 2)
    doubled = graphs.interactions(Phi4(0.2, 0.5), torch.randn(2, 2, 2, dtype=torch.float64))
    torch.testing.assert_close(doubled[:, 0, 1], torch.full((2,), 4 * 0.2, dtype=torch.float64))


@EVERY
def test_cliques_by_brute_force(name):
    graph = GRAPHS[name]
    n = len(graph)
    complete = [
        s
        for size in range(1, n + 1)
        for s in itertools.combinations(range(n), size)
        if all(graph.has_edge(i, j) for i, j in itertools.combinations(s, 2))
    ]
    assert graphs.cliques(graph) == complete
    largest = [c for c in complete if not any(set(c) < set(d) for d in complete)]
    assert graphs.maximal_cliques(graph) == largest


def test_markov_blanket_of_a_set():
    assert graphs.markov_blanket(diamond(), [1, 2]) == (0, 3)
    assert graphs.markov_blanket(diamond(), 4) == (3,)
    with pytest.raises(ValueError, match=r"\[7\] are not in the graph"):
        graphs.markov_blanket(diamond(), 7)


# --- conditional dependence


def test_dependence_is_a_distance_of_probabilities():
    """Two equal fair coins: the event "both alike" has probability 1, and 1/2 if independent."""
    assert graphs.conditional_dependence(uniform(("00", "11"), 2), [0], [1]) == pytest.approx(0.5)
    assert graphs.conditional_dependence(uniform(("00", "01", "10", "11"), 2), [0], [1]) == 0


def test_dependence_by_brute_force():
    p = random_p(nx.complete_graph(4), 3)
    a, b, given = (0,), (2, 3), (1,)
    total = 0.0
    for c in range(p.shape[1]):
        pc = float(p[:, c].sum())
        conditional = p[:, c] / pc
        product = conditional.sum((1, 2))[:, None, None] * conditional.sum(0)
        total += pc * 0.5 * float((conditional - product).abs().sum())
    assert total > 0.01
    assert graphs.conditional_dependence(p, a, b, given) == pytest.approx(total, rel=1e-12)


def test_dependence_marginalises_over_the_rest():
    p = random_p(nx.path_graph(3), 4)
    marginal = p.sum(1)
    expected = graphs.conditional_dependence(marginal, [0], [1])
    assert expected > 1e-3  # ends of a chain are correlated
    assert graphs.conditional_dependence(p, [0], [2]) == pytest.approx(expected, rel=1e-12)
    assert graphs.conditional_dependence(p, [0], [2], [1]) < 1e-15


# --- the theorem, for positive distributions


@EVERY
@pytest.mark.parametrize("seed", range(3))
def test_a_product_over_cliques_is_markov(name, seed):
    p = random_p(GRAPHS[name], seed)
    assert all_violations(p, GRAPHS[name]) == [[], [], []]
    assert graphs.factorises(p, GRAPHS[name])


@EVERY
@pytest.mark.parametrize("reference", ["first", "last"])
def test_potentials_vanish_off_the_cliques_and_rebuild_p(name, reference):
    graph = GRAPHS[name]
    p = random_p(graph, 5)
    state = [q - 1 for q in p.shape] if reference == "last" else None
    potentials = graphs.canonical_potentials(p, state)
    allowed = {(), *graphs.cliques(graph)}
    assert len(potentials) == 2 ** len(graph)
    assert max(float(v.abs().max()) for v in potentials.values()) > 0.1
    off = [float(v.abs().max()) for a, v in potentials.items() if a not in allowed]
    assert max(off, default=0) < 1e-12
    on = {a: v for a, v in potentials.items() if a in allowed}
    rebuilt = graphs.from_potentials(on, p.shape)
    torch.testing.assert_close(rebuilt, p, rtol=0, atol=1e-12)
    # and the constant is the one that normalises: the sum is ln p itself
    total = sum(graphs._spread(v, a, p.ndim) for a, v in on.items())
    torch.testing.assert_close(total, p.log(), rtol=0, atol=1e-12)


def test_potentials_are_the_alternating_sum_and_vanish_at_the_reference():
    p = random_p(nx.complete_graph(4), 6, states=[2, 3, 2, 3])
    reference = (1, 2, 0, 1)
    potentials = graphs.canonical_potentials(p, reference)
    for subset, potential in potentials.items():
        for state in itertools.product(*(range(q) for q in potential.shape)):
            total = 0.0
            for size in range(len(subset) + 1):
                for chosen in itertools.combinations(range(len(subset)), size):
                    x = list(reference)
                    for k in chosen:
                        x[subset[k]] = state[k]
                    total += (-1) ** (len(subset) - size) * math.log(p[tuple(x)])
            assert float(potential[state]) == pytest.approx(total, abs=1e-12)
            if any(s == reference[v] for s, v in zip(state, subset, strict=True)):
                assert float(potential[state]) == 0


def test_packed_transform_holds_the_same_potentials():
    p = random_p(nx.complete_graph(4), 8, states=[2, 3, 2, 3])
    packed = graphs._moebius(p.log())
    potentials = graphs.canonical_potentials(p)
    for x in itertools.product(*(range(q) for q in p.shape)):
        subset = tuple(v for v in range(4) if x[v])
        expected = potentials[subset][tuple(x[v] for v in subset)]
        assert float(packed[x]) == pytest.approx(float(expected), abs=1e-12)


@EVERY
def test_every_broken_pair_is_found(name):
    """Couple two vertices that are not joined: each property fails, and their potential appears."""
    graph = GRAPHS[name]
    p = random_p(graph, 7, states=2)
    spin = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    for i, j in nx.complement(graph).edges:
        coupling = graphs._spread(0.1 * spin[:, None] * spin, (i, j), p.ndim)
        broken = p * coupling.exp()
        broken = broken / broken.sum()
        pairwise, local, everywhere = all_violations(broken, graph)
        assert [(v.a, v.b) for v in pairwise] == [((i,), (j,))]
        assert {v.a[0] for v in local} == {i, j} and everywhere
        assert all(v.size > 1e-5 for v in pairwise + local + everywhere)
        assert not graphs.factorises(broken, graph)
        potential = graphs.canonical_potentials(broken)[i, j]
        # with the reference -1: V = 0.1 (s + 1)(s' + 1), so 0.4 where both are +1
        assert float(potential[1, 1]) == pytest.approx(0.4, abs=1e-12)
        assert graphs.factorisation_defect(broken, graph) == pytest.approx(0.4, abs=1e-12)
        wider = graph.copy()
        wider.add_edge(i, j)
        assert graphs.factorises(broken, wider)


def test_a_three_body_term_needs_a_triangle():
    p = random_p(nx.path_graph(3), 1, states=2)
    p = p * torch.ones_like(p).index_put((torch.tensor([1]),) * 3, torch.tensor(1.5).double())
    p = p / p.sum()
    assert float(graphs.canonical_potentials(p)[0, 1, 2][1, 1, 1]) == pytest.approx(math.log(1.5))
    assert not graphs.factorises(p, nx.path_graph(3))
    assert [(v.a, v.b) for v in graphs.pairwise_violations(p, nx.path_graph(3))] == [((0,), (2,))]
    assert graphs.factorises(p, nx.complete_graph(3))


def test_positive_distributions_by_least_squares_too():
    """The test for distributions with zeros agrees on positive ones with Moebius inversion."""
    graph = diamond()
    p = random_p(graph, 9, states=2)
    columns = []
    for c in graphs.maximal_cliques(graph):
        for state in itertools.product(*(range(2) for _ in c)):
            column = torch.zeros_like(p)
            column[tuple(state[c.index(v)] if v in c else slice(None) for v in range(5))] = 1
            columns.append(column.reshape(-1))
    matrix = torch.stack(columns, 1)
    broken = random_p(nx.complete_graph(5), 9, states=2)
    for q, small in ((p, True), (broken, False)):
        target = q.log().reshape(-1, 1)
        residual = matrix @ torch.linalg.lstsq(matrix, target, driver="gelsd").solution - target
        assert (float(residual.abs().max()) < 1e-12) == small == graphs.factorises(q, graph)


# --- without positivity


def test_moussouris_is_markov_and_does_not_factorise():
    p, graph = moussouris(), nx.cycle_graph(4)
    assert all_violations(p, graph) == [[], [], []]
    for i, j in graph.edges:  # no marginal of an edge vanishes, so no potential can forbid a state
        rest = tuple(v for v in range(4) if v not in (i, j))
        assert float(p.sum(rest).min()) > 0
    assert graphs.factorisation_defect(p, graph) == math.inf
    assert not graphs.factorises(p, graph)
    assert graphs.factorises(p, nx.complete_graph(4))
    with pytest.raises(ValueError, match="vanishes on 8 of 16"):
        graphs.canonical_potentials(p)


def test_pairwise_does_not_give_local():
    """Three equal coins on a graph without edges."""
    p = uniform(("000", "111"), 3)
    pairwise, local, everywhere = all_violations(p, nx.empty_graph(3))
    assert not pairwise and len(local) == 3 and everywhere
    assert local[0] == graphs.Violation((0,), (1, 2), (), 0.5)


def test_local_does_not_give_global():
    """A chain whose ends copy two independent coins, with the minimum of both between."""
    states = [f"{u}{u}{min(u, z)}{z}{z}" for u in (0, 1) for z in (0, 1)]
    p, graph = uniform(states, 5), nx.path_graph(5)
    pairwise, local, everywhere = all_violations(p, graph)
    assert not pairwise and not local
    assert any(v.given == (2,) for v in everywhere)


def test_zeros_that_factorise_are_recognised():
    """A chain that never holds two ones side by side: a product of hard-core factors."""
    hard = torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    p = torch.einsum("ab,bc,cd->abcd", hard, hard, hard)
    p = p / p.sum()
    assert graphs.factorises(p, nx.path_graph(4))
    assert all_violations(p, nx.path_graph(4)) == [[], [], []]
    assert not graphs.factorises(p, nx.empty_graph(4))
    broken = p.clone()
    broken[0, 1, 0, 1] *= 1.5  # the support factorises still, the numbers do not
    broken = broken / broken.sum()
    assert 1e-3 < graphs.factorisation_defect(broken, nx.path_graph(4)) < math.inf


# --- enumeration


def test_ising_by_enumeration():
    """The 4 x 4 torus, against Kaufman's exact sums (Phys. Rev. 76 (1949) 1232)."""
    lattice = Lattice((4, 4))
    beta_c = 0.5 * math.log(1 + math.sqrt(2))

    def energy(s):
        return -(s * (s.roll(1, 1) + s.roll(1, 2))).sum((1, 2)) / 16

    for beta, log_z, e in ((beta_c, 0.9701197162, -1.5656238), (0.4, 0.9100683140, -1.3791165)):
        ising = graphs.enumerate_action(Phi4(beta / 2, 0.0), lattice)
        # the square term of the action is one for each site
        assert ising.log_z / 16 + 1 == pytest.approx(log_z, abs=1e-9)
        assert ising.mean(energy) == pytest.approx(e, abs=1e-7)
    ising = graphs.enumerate_action(Phi4(beta_c / 2, 0.0), lattice)
    m2 = ising.mean(lambda s: s.mean((1, 2)) ** 2)
    m4 = ising.mean(lambda s: s.mean((1, 2)) ** 4)
    assert m2 == pytest.approx(0.7613589086, abs=1e-9)
    assert 1 - m4 / (3 * m2**2) == pytest.approx(0.6171993, abs=1e-7)
    assert graphs.factorises(ising.p, graphs.lattice_graph(lattice))
    assert graphs.local_violations(ising.p, graphs.lattice_graph(lattice)) == []


def test_enumeration_orders_fields_as_axes():
    lattice = Lattice((3,))
    source = InhomogeneousPhi4(*(torch.randn(s, generator=generator(1), dtype=torch.float64).abs()
                                 for s in ((1, 3), (3,), (3,), (3,))))
    values = (-1.0, 0.0, 2.0)
    found = graphs.enumerate_action(source, lattice, values)
    assert found.fields.shape == (27, 3) and found.p.shape == (3, 3, 3)
    phi = torch.tensor([[2.0, -1.0, 0.0]], dtype=torch.float64)
    expected = torch.exp(-source(phi) - found.log_z)
    assert float(found.p[2, 0, 1]) == pytest.approx(float(expected), rel=1e-12)
    assert float(found.p.sum()) == pytest.approx(1, rel=1e-12)


# --- fields


FIELDS = {
    "phi4": Phi4(0.27, 0.022),
    "free": FreeField(0.5, 2),
    "links": InhomogeneousPhi4(*(torch.rand(s, generator=generator(2), dtype=torch.float64) + 0.1
                                 for s in ((2, 4, 4), (4, 4), (4, 4), (4, 4)))),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lattice_fields_are_markov_on_the_lattice(name, dtype):
    lattice, action = Lattice((4, 4)), FIELDS[name]
    if name == "links":
        parts = (action.hopping, action.quadratic, action.quartic, action.source)
        action = InhomogeneousPhi4(*(part.to(dtype) for part in parts))
    phi = torch.randn(3, 4, 4, generator=generator(3), dtype=dtype)
    graph = graphs.lattice_graph(lattice)
    assert graphs.field_violations(action, graph, phi) == []
    second = graphs.interactions(action, phi)
    assert second.dtype == dtype and second.shape == (3, 16, 16)
    assert nx.utils.graphs_equal(graphs.interaction_graph(second), graph)
    # the coupling of the link from site 0 forward in each direction
    hopping = action.hopping[:, 0, 0] if name == "links" else [action.hopping] * 2
    for mu in range(2):
        neighbour = int(lattice.neighbours()[0, mu])
        for value in second[:, 0, neighbour].tolist():
            assert value == pytest.approx(float(hopping[mu]), rel=1e-6)


def test_interactions_against_differences():
    action = Phi4(0.27, 0.5)
    phi = torch.randn(1, 2, 3, generator=generator(4), dtype=torch.float64)
    second, step = graphs.interactions(action, phi)[0], 1e-4
    for i, j in itertools.product(range(6), repeat=2):
        total = 0.0
        for si, sj in itertools.product((1, -1), repeat=2):
            moved = phi.reshape(-1).clone()
            moved[i] += si * step
            moved[j] += sj * step
            total -= si * sj * float(action(moved.reshape(1, 2, 3)))
        assert float(second[i, j]) == pytest.approx(total / (4 * step**2), abs=1e-5)


def test_interactions_of_unconnected_sites_vanish():
    second = graphs.interactions(lambda phi: phi[:, 0], torch.ones(2, 3))
    assert second.abs().max() == 0


def test_a_next_nearest_neighbour_is_noticed():
    graph = graphs.lattice_graph(Lattice((4, 4)))

    def action(phi):
        return Phi4(0.2, 0.1)(phi) - 0.05 * (phi * phi.roll((1, 1), (1, 2))).sum((1, 2))

    phi = torch.randn(2, 4, 4, generator=generator(5), dtype=torch.float64)
    found = graphs.field_violations(action, graph, phi)
    assert len(found) == 16 and all(v.size == pytest.approx(0.05) for v in found)
    assert found[0].a == (0,) and found[0].b == (5,) and len(found[0].given) == 14


def test_field_potentials_are_links_and_sites():
    lattice, kappa, lam = Lattice((4, 4)), 0.27, 0.3
    action, graph = Phi4(kappa, lam), graphs.lattice_graph(lattice)
    phi = torch.randn(2, 4, 4, generator=generator(6), dtype=torch.float64)
    flat = phi.reshape(2, -1)
    total = torch.zeros(2, dtype=torch.float64)
    for c in graphs.cliques(graph):
        potential = graphs.field_potential(action, phi, c)
        x = flat[:, c[0]]
        expected = (2 * kappa * x * flat[:, c[1]] if len(c) == 2
                    else -(1 - 2 * lam) * x**2 - lam * x**4)
        torch.testing.assert_close(potential, expected, rtol=0, atol=1e-12)
        total += potential
    torch.testing.assert_close(total, -action(phi), rtol=0, atol=1e-11)
    for off in ((0, 5), (0, 2), (0, 1, 2), (0, 1, 5)):
        assert float(graphs.field_potential(action, phi, off).abs().max()) < 1e-12


def test_field_potentials_on_a_grid_are_the_discrete_ones():
    """A field that takes three values is a discrete distribution."""
    lattice, action = Lattice((2, 2)), Phi4(0.3, 0.2)
    values = (0.0, 0.7, -1.2)
    discrete = graphs.canonical_potentials(graphs.enumerate_action(action, lattice, values).p)
    phi = torch.tensor([[[0.7, -1.2], [0.7, 0.7]]], dtype=torch.float64)
    for subset, potential in discrete.items():
        if subset:
            at = tuple((1, 2, 1, 1)[v] for v in subset)
            field = float(graphs.field_potential(action, phi, subset))
            assert field == pytest.approx(float(potential[at]), abs=1e-12)


# --- Gaussians


def test_gaussian_chain_is_dense_in_covariance_and_sparse_in_precision():
    rho, n = 0.6, 6
    site = torch.arange(n, dtype=torch.float64)
    covariance = rho ** (site[:, None] - site).abs()
    assert float(covariance.min()) > 0.05
    graph = nx.path_graph(n)
    precision = covariance.inverse()
    precision = (precision + precision.T) / 2
    assert graphs.gaussian_violations(precision, graph) == []
    assert nx.utils.graphs_equal(graphs.interaction_graph(precision), graph)
    assert len(graphs.gaussian_violations(precision, nx.empty_graph(n))) == n - 1
    # as a field: the mixed derivatives of ln p are minus the precision
    second = graphs.interactions(lambda x: 0.5 * torch.einsum("ci,ij,cj->c", x, precision, x),
                                 torch.zeros(1, n, dtype=torch.float64))
    torch.testing.assert_close(second[0], -precision)


def test_size_of_a_gaussian_violation_is_the_partial_correlation():
    g = generator(3)
    root = torch.randn(5, 5, generator=g, dtype=torch.float64)
    precision = root @ root.T + torch.eye(5, dtype=torch.float64)
    found = graphs.gaussian_violations(precision, nx.empty_graph(5))
    assert len(found) == 10
    for v in found:
        pair, rest = [v.a[0], v.b[0]], list(v.given)
        c = precision.inverse()
        given = c[pair][:, pair] - c[pair][:, rest] @ c[rest][:, rest].inverse() @ c[rest][:, pair]
        correlation = float(given[0, 1] / (given[0, 0] * given[1, 1]).sqrt())
        assert v.size == pytest.approx(abs(correlation), rel=1e-9)


def test_free_field_is_markov_on_its_lattice():
    lattice = Lattice((4, 5))
    kernel = lattice.kinetic_matrix(0.3)
    assert graphs.gaussian_violations(kernel, graphs.lattice_graph(lattice)) == []


# --- types and bad input


def test_float32_is_kept_and_judged_by_its_own_rounding():
    p = graphs.random_markov(diamond(), 3, generator=generator(1), dtype=torch.float32)
    assert p.dtype == torch.float32
    assert all_violations(p, diamond()) == [[], [], []] and graphs.factorises(p, diamond())
    assert graphs.canonical_potentials(p)[0, 1].dtype == torch.float32
    assert not graphs.factorises(p, nx.path_graph(5))


def test_random_markov_follows_its_generator():
    again = [graphs.random_markov(diamond(), generator=generator(s)) for s in (1, 1, 2)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


HALF = torch.full((2, 2), 0.25, dtype=torch.float64)


@pytest.mark.parametrize(
    ("p", "graph", "error", "reason"),
    [
        (2 * HALF, nx.path_graph(2), ValueError, "sums to 2, not to 1"),
        (HALF * torch.tensor([[3.0], [-1.0]]), nx.path_graph(2), ValueError, "negative entries"),
        (HALF * math.nan, nx.path_graph(2), ValueError, "NaN"),
        (HALF, nx.path_graph(3), ShapeError, "must have 3 axes"),
        (torch.ones(()), nx.path_graph(1), ShapeError, "one axis for each vertex"),
        (torch.ones(1, dtype=torch.long), nx.path_graph(1), ValueError, "floating point"),
        (HALF, nx.Graph([("a", "b")]), ValueError, "relabel"),
        (HALF, nx.DiGraph([(0, 1)]), ValueError, "undirected"),
        (HALF, nx.Graph([(0, 1), (1, 1)]), ValueError, "loop"),
        (torch.full((2,) * 23, 2.0**-23), nx.path_graph(23), ValueError, "too many to enumerate"),
    ],
)
@pytest.mark.parametrize(
    "test", [graphs.pairwise_violations, graphs.local_violations, graphs.global_violations,
             graphs.factorises, graphs.factorisation_defect])
def test_bad_distributions_and_graphs(test, p, graph, error, reason):
    with pytest.raises(error, match=reason):
        test(p, graph)


def test_bad_arguments():
    with pytest.raises(ValueError, match="without common members"):
        graphs.conditional_dependence(HALF, [0], [1], [1])
    with pytest.raises(ValueError, match="without common members"):
        graphs.conditional_dependence(HALF, [0], [2])
    with pytest.raises(ValueError, match="at least one vertex"):
        graphs.conditional_dependence(HALF, [], [1])
    with pytest.raises(ValueError, match="reference must name a state"):
        graphs.canonical_potentials(HALF, (0, 2))
    with pytest.raises(ValueError, match="too many to enumerate"):
        graphs.canonical_potentials(torch.full((2,) * 16, 2.0**-16, dtype=torch.float64))
    with pytest.raises(ValueError, match="tol must be"):
        graphs.pairwise_violations(HALF, nx.path_graph(2), tol=0)
    with pytest.raises(ShapeError, match=r"must have shape \(2, 3\)"):
        graphs.from_potentials({(0, 1): torch.zeros(3, 2)}, (2, 3))
    with pytest.raises(ValueError, match="increasing"):
        graphs.from_potentials({(1, 0): torch.zeros(2, 2)}, (2, 2))
    with pytest.raises(ValueError, match="too many to enumerate"):
        graphs.from_potentials({}, (2,) * 23)
    with pytest.raises(ShapeError, match="3 entries"):
        graphs.random_markov(nx.path_graph(3), (2, 2), generator=generator(0))
    with pytest.raises(ValueError, match="too many to enumerate"):
        graphs.enumerate_action(Phi4(0.1, 0.1), Lattice((5, 5)))
    with pytest.raises(ShapeError, match="at least two numbers"):
        graphs.enumerate_action(Phi4(0.1, 0.1), Lattice((2,)), values=(1.0,))
    with pytest.raises(ShapeError, match="action must return"):
        graphs.enumerate_action(lambda phi: phi, Lattice((2,)))
    with pytest.raises(ShapeError, match="action must return"):
        graphs.interactions(lambda phi: phi, torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"\(chains, \*lattice.shape\)"):
        graphs.interactions(Phi4(0.1, 0.1), torch.zeros(3))
    with pytest.raises(ValueError, match="different numbers of 0 to 3"):
        graphs.field_potential(Phi4(0.1, 0.1), torch.zeros(1, 4), (1, 1))
    with pytest.raises(ShapeError, match="the graph has 3 vertices"):
        graphs.gaussian_violations(torch.eye(2), nx.path_graph(3))
    with pytest.raises(StabilityError, match="not positive definite"):
        graphs.gaussian_violations(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), nx.path_graph(2))
    with pytest.raises(ValueError, match="not symmetric"):
        graphs.interaction_graph(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(ShapeError, match="must be square"):
        graphs.interaction_graph(torch.zeros(2, 3))
    large = torch.full((2,) * 15, 2.0**-15, dtype=torch.float64)
    with pytest.raises(ValueError, match="too many to try"):
        graphs.global_violations(large, nx.path_graph(15))
