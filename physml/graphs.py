r"""Markov random fields: Markov properties, clique potentials, and the theorem that ties them.

Conventions. A graph is a `networkx.Graph` whose vertices are 0, ..., n-1. A discrete distribution
is a tensor with one axis for each vertex, in this order, whose entries sum to 1. A *clique* is a
set of vertices that are all joined to each other (single vertices and the empty set too); vertices
come as sorted tuples. :math:`X_A\perp X_B\mid X_C` reads "given :math:`X_C`, :math:`X_A` and
:math:`X_B` are independent". The Markov properties of a distribution on a graph are

* pairwise: :math:`X_i\perp X_j` given all others, if `i` and `j` are not joined;
* local: :math:`X_i\perp` all others given its neighbours, the *Markov blanket* of `i`;
* global: :math:`X_A\perp X_B\mid X_C` if `C` separates `A` from `B`.

The theorem of Hammersley and Clifford: a positive distribution has any of them if and only if it is
a product of functions of cliques. Its potentials are found by Moebius inversion
(G. Grimmett, Bull. London Math. Soc. 5 (1973) 81),

.. math::

    V_A(x_A)=\sum_{B\subseteq A}(-1)^{|A\setminus B|}\ln p(x_B,x^*_{V\setminus B}),\qquad
    \ln p(x)=\sum_AV_A(x_A),

with a reference configuration :math:`x^*`: they vanish off the cliques, and wherever a vertex of
`A` is at its reference. For densities of a field the pairwise property is
:math:`\partial_i\partial_j\ln p=0`, and for Gaussians a zero of the precision matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .device import derivatives
from .errors import ShapeError, StabilityError, check_finite, check_positive, check_positive_int
from .lattice import Lattice

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "Enumeration",
    "Violation",
    "canonical_potentials",
    "cliques",
    "conditional_dependence",
    "enumerate_action",
    "factorisation_defect",
    "factorises",
    "field_potential",
    "field_violations",
    "from_potentials",
    "gaussian_violations",
    "global_violations",
    "interaction_graph",
    "interactions",
    "lattice_graph",
    "local_violations",
    "markov_blanket",
    "maximal_cliques",
    "pairwise_violations",
    "random_markov",
]

MAX_STATES = 2**22  # 32 MiB of float64: what a laptop enumerates in a second

Potentials = dict[tuple[int, ...], Tensor]


# --- graphs ---------------------------------------------------------------------------------------


def lattice_graph(lattice: Lattice) -> nx.Graph:
    """Return the graph of nearest neighbours of a periodic lattice, vertices numbered row by row.

    Two pitfalls of small lattices: in a direction of length 2 the two links between a pair of
    sites become one edge (a graph has no double edges), and one of length 3 closes to a triangle,
    a clique that no larger lattice has.
    """
    import networkx as nx

    graph = nx.empty_graph(lattice.volume)
    for site, row in enumerate(lattice.neighbours().tolist()):
        graph.add_edges_from((site, neighbour) for neighbour in row)
    return graph


def cliques(graph: nx.Graph) -> list[tuple[int, ...]]:
    """Return all cliques of at least one vertex, sorted by size, then by vertices."""
    found = set()
    for largest in maximal_cliques(graph):
        for size in range(1, len(largest) + 1):
            found.update(itertools.combinations(largest, size))
    return sorted(found, key=lambda c: (len(c), c))


def maximal_cliques(graph: nx.Graph) -> list[tuple[int, ...]]:
    """Return the cliques that are part of no larger one, sorted by size, then by vertices.

    By the algorithm of Bron and Kerbosch, as networkx has it.
    """
    import networkx as nx

    _check_graph(graph)
    return sorted((tuple(sorted(c)) for c in nx.find_cliques(graph)), key=lambda c: (len(c), c))


def markov_blanket(graph: nx.Graph, vertices: int | Iterable[int]) -> tuple[int, ...]:
    """Return the neighbours of a vertex, or of a set of vertices (without the set), sorted."""
    _check_graph(graph)
    inside = {vertices} if isinstance(vertices, int) else set(vertices)
    unknown = sorted(inside - set(graph))
    if unknown:
        raise ValueError(f"vertices {unknown} are not in the graph: it has 0 to {len(graph) - 1}")
    return tuple(sorted(set().union(*(graph[v] for v in inside)) - inside))


# --- Markov properties of discrete distributions --------------------------------------------------


@dataclass(frozen=True)
class Violation:
    r"""A conditional independence that the graph asks for and the distribution lacks.

    Parameters
    ----------
    a, b, given
        Sorted vertices: :math:`X_a\perp X_b\mid X_{\rm given}` does not hold.
    size
        By how much: see the function that returned it.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    given: tuple[int, ...]
    size: float


def conditional_dependence(
    p: Tensor, a: Sequence[int], b: Sequence[int], given: Sequence[int] = ()
) -> float:
    r"""Return the distance of a distribution from :math:`X_a\perp X_b\mid X_{\rm given}`.

    .. math:: \tfrac12\sum_{a,b,c}\Big|p(a,b,c)-\frac{p(a,c)\,p(b,c)}{p(c)}\Big|

    is the largest difference, over all events, of the probabilities with and without the
    dependence; it is 0 if and only if they are independent. States `c` with :math:`p(c)=0` do not
    count.

    Parameters
    ----------
    p
        The distribution.
    a, b, given
        Vertices, in three sets without common members; `a` and `b` not empty.

    Raises
    ------
    ValueError
        If the sets overlap or hold what is no axis of `p`, or `p` is no distribution.
    """
    p = _check_distribution(p)
    used = [*a, *b, *given]
    if not a or not b:
        raise ValueError("a and b must each hold at least one vertex")
    if len(set(used)) < len(used) or not set(used) <= set(range(p.ndim)):
        raise ValueError(
            f"a={tuple(a)}, b={tuple(b)}, given={tuple(given)} must be three sets without common "
            f"members of the vertices 0 to {p.ndim - 1}"
        )
    return _dependence(p, a, b, given)


def pairwise_violations(
    p: Tensor, graph: nx.Graph, tol: float | None = None
) -> list[Violation]:
    """Return where the pairwise Markov property fails: the list is empty if it holds.

    Parameters
    ----------
    p
        A distribution, one axis for each vertex.
    graph
        Its graph.
    tol
        Violations up to this `conditional_dependence` are rounding; by default 4096 times the
        epsilon of `p.dtype`, 1e-12 for float64. `size` of a violation is the dependence.

    Raises
    ------
    ShapeError, ValueError
        If `p` is not a distribution, or does not go with the graph.
    """
    p, tol = _check_pair(p, graph, tol)
    every = set(range(p.ndim))
    pairs = itertools.combinations(range(p.ndim), 2)
    asked = (((i,), (j,), every - {i, j}) for i, j in pairs if not graph.has_edge(i, j))
    return _violations(p, asked, tol)


def local_violations(p: Tensor, graph: nx.Graph, tol: float | None = None) -> list[Violation]:
    """Return where the local Markov property fails; arguments as in `pairwise_violations`."""
    p, tol = _check_pair(p, graph, tol)
    every = set(range(p.ndim))
    blankets = ((i, set(graph[i])) for i in range(p.ndim))
    asked = (((i,), every - blanket - {i}, blanket) for i, blanket in blankets)
    return _violations(p, ((a, b, c) for a, b, c in asked if b), tol)


def global_violations(p: Tensor, graph: nx.Graph, tol: float | None = None) -> list[Violation]:
    r"""Return where the global Markov property fails; arguments as in `pairwise_violations`.

    For each set `C` of vertices whose removal leaves several components, each component must be
    independent of all the others given `C`; what `C` separates is then independent too, for it lies
    in different components. There are :math:`2^n` sets `C`, so this is for small graphs.
    """
    import networkx as nx

    p, tol = _check_pair(p, graph, tol)
    n = p.ndim
    if 2**n * p.numel() > 2**28:
        raise ValueError(
            f"{2**n} separators of {p.numel()} states are too many to try: the global property is "
            "for graphs of up to a dozen vertices; test the local one"
        )

    def asked():
        for size in range(n - 1):
            for given in itertools.combinations(range(n), size):
                rest = set(range(n)) - set(given)
                parts = sorted(map(sorted, nx.connected_components(graph.subgraph(rest))))
                # of two components, one statement says all
                for part in parts[: 1 if len(parts) == 2 else len(parts)]:
                    if len(parts) > 1:
                        yield part, rest - set(part), given

    return _violations(p, asked(), tol)


# --- potentials -----------------------------------------------------------------------------------


def canonical_potentials(p: Tensor, reference: Sequence[int] | None = None) -> Potentials:
    r"""Return the canonical potentials :math:`V_A` of a positive distribution, for all `A`.

    The alternating sum at the top of this module is a product of differences, one for each vertex
    of `A`: :math:`V_A=\prod_{i\in A}(1-R_i)\prod_{i\notin A}R_i\,\ln p`, where :math:`R_i` puts
    vertex `i` to its reference (expand the first product to see it).

    Parameters
    ----------
    p
        A positive distribution.
    reference
        The state :math:`x^*_i` of each vertex; by default 0.

    Returns
    -------
    For each subset of the vertices, as a sorted tuple, its potential with one axis for each of its
    vertices. The empty one is the constant :math:`\ln p(x^*)`.

    Raises
    ------
    ValueError
        If an entry of `p` is zero, or the potentials have more than `MAX_STATES` entries.
    """
    p = _check_distribution(p)
    _check_all_positive(p)
    _check_count(math.prod(q + 1 for q in p.shape))
    reference = _check_reference(reference, p.shape)
    log_p = p.log()
    return {subset: _difference(log_p, subset, reference) for subset in _subsets(p.ndim)}


def from_potentials(potentials: Potentials, shape: Sequence[int]) -> Tensor:
    r"""Return the distribution :math:`p(x)\propto\exp\sum_AV_A(x_A)`, of shape `shape`.

    Parameters
    ----------
    potentials
        For tuples of vertices in increasing order, a tensor with an axis for each.
    shape
        The number of states of each vertex.

    Raises
    ------
    ShapeError
        If a potential does not fit the states.
    ValueError
        If a key is not sorted vertices, or there are more than `MAX_STATES` states.
    """
    shape = tuple(check_positive_int("shape", q) for q in shape)
    _check_count(math.prod(shape))
    dtypes = {v.dtype for v in potentials.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float64
    device = next((v.device for v in potentials.values()), None)
    total = torch.zeros(shape, dtype=dtype, device=device)
    for subset, potential in potentials.items():
        if list(subset) != sorted(set(subset)) or not set(subset) <= set(range(len(shape))):
            raise ValueError(
                f"potentials: {subset} must be vertices of 0 to {len(shape) - 1}, increasing"
            )
        if tuple(potential.shape) != tuple(shape[v] for v in subset):
            raise ShapeError(
                f"the potential of {subset} must have shape {tuple(shape[v] for v in subset)}, not "
                f"{tuple(potential.shape)}"
            )
        total = total + _spread(potential, subset, len(shape))
    return total.reshape(-1).softmax(0).reshape(shape)


def factorises(p: Tensor, graph: nx.Graph, tol: float | None = None) -> bool:
    r"""Return whether :math:`p(x)=\prod_c\psi_c(x_c)` with non-negative functions of cliques.

    `p` may have zeros; `tol` bounds the `factorisation_defect`, by default 65536 times the epsilon
    of `p.dtype` (logarithms of small probabilities lose digits).
    """
    p, _ = _check_pair(p, graph, 1.0)
    tol = 65536 * torch.finfo(p.dtype).eps if tol is None else check_positive("tol", tol)
    return factorisation_defect(p, graph) <= tol


def factorisation_defect(p: Tensor, graph: nx.Graph) -> float:
    r"""Return how far :math:`\ln p` is from a sum of functions of cliques, 0 if it is one.

    For a positive `p` this is the largest entry of the canonical potentials off the cliques, which
    vanish exactly if it factorises. If `p` has zeros there are two conditions, each necessary and
    together sufficient: each :math:`\psi_c` may be taken to vanish just where the marginal of `c`
    does, so `p` must be positive wherever all its clique marginals are (infinity is returned if it
    is not); and on the states with :math:`p>0`, :math:`\ln p` must be in the linear span of the
    functions of cliques, of which the residual of least squares (its largest entry) is returned.

    Raises
    ------
    ShapeError, ValueError
        As in `pairwise_violations`, and if there are too many states for the test.
    """
    p, _ = _check_pair(p, graph, 1.0)
    if bool((p > 0).all()):
        packed = _moebius(p.log())
        pairs = itertools.combinations(range(p.ndim), 2)
        off = (
            packed.narrow(i, 1, p.shape[i] - 1).narrow(j, 1, p.shape[j] - 1).abs()
            for i, j in pairs
            if not graph.has_edge(i, j) and min(p.shape[i], p.shape[j]) > 1
        )
        return max((float(v.max()) for v in off), default=0.0)
    largest = maximal_cliques(graph)
    support = p > 0
    join = torch.ones_like(support)
    columns, states = [], torch.nonzero(support)
    if len(states) * sum(math.prod(p.shape[v] for v in c) for c in largest) > MAX_STATES:
        raise ValueError(f"{len(states)} states are too many for the test with zeros")
    for clique in largest:
        rest = tuple(v for v in range(p.ndim) if v not in clique)
        join &= support.sum(rest, keepdim=True) > 0 if rest else support
        sizes = [p.shape[v] for v in clique]
        number = torch.zeros(len(states), dtype=torch.long, device=p.device)
        for v, size in zip(clique, sizes, strict=True):
            number = number * size + states[:, v]
        columns.append(torch.nn.functional.one_hot(number, math.prod(sizes)))
    if not torch.equal(join, support):
        return math.inf
    matrix = torch.cat(columns, 1).to("cpu", torch.float64)
    log_p = p[support].to("cpu", torch.float64).log()
    fit = torch.linalg.lstsq(matrix, log_p[:, None], driver="gelsd").solution[:, 0]
    return float((matrix @ fit - log_p).abs().max())


def random_markov(
    graph: nx.Graph,
    states: int | Sequence[int] = 2,
    *,
    generator: torch.Generator,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Return a positive distribution that is Markov on a graph, one axis for each vertex.

    It has a random potential on each maximal clique, independent normal entries of width `scale`.

    Parameters
    ----------
    graph
        Vertices 0, ..., n-1.
    states
        Number of states of each vertex, or one number for all.
    generator
        On the device where the distribution should live.
    scale
        How strong the potentials are.
    dtype
        Floating point type.
    """
    largest = maximal_cliques(graph)
    shape = (states,) * len(graph) if isinstance(states, int) else tuple(states)
    if len(shape) != len(graph):
        raise ShapeError(f"states must have {len(graph)} entries, one a vertex, not {len(shape)}")
    scale = check_positive("scale", scale)
    where = {"generator": generator, "dtype": dtype, "device": generator.device}
    potentials = {c: scale * torch.randn([shape[v] for v in c], **where) for c in largest}
    return from_potentials(potentials, shape)


# --- exact enumeration ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Enumeration:
    r"""All configurations of a small discrete model with their probabilities.

    Parameters
    ----------
    fields
        Shape ``(q**volume, *lattice.shape)``: the last site changes fastest.
    p
        The distribution, ``(q,) * volume``, one axis for each site.
    log_z
        :math:`\ln Z=\ln\sum e^{-S}`.
    """

    fields: Tensor
    p: Tensor
    log_z: float

    def mean(self, observable: Callable[[Tensor], Tensor] | Tensor) -> float:
        """Return the exact mean of a function of the fields, or of its values ``(q**volume,)``."""
        values = observable if isinstance(observable, Tensor) else observable(self.fields)
        return float((self.p.reshape(-1) * values.to(self.p.dtype)).sum())


def enumerate_action(
    action: Callable[[Tensor], Tensor],
    lattice: Lattice,
    values: Sequence[float] = (-1.0, 1.0),
    dtype: torch.dtype = torch.float64,
) -> Enumeration:
    r"""Return the exact distribution :math:`e^{-S}/Z` of a field that takes a few values.

    With the values -1 and 1 and an action :math:`S=-\beta\sum_{\langle xy\rangle}\phi_x\phi_y` this
    is the Ising model; terms in :math:`\phi^2` and :math:`\phi^4` only add to :math:`\ln Z`.

    Parameters
    ----------
    action
        Takes fields ``(states, *lattice.shape)`` to ``(states,)``.
    lattice
        The sites.
    values
        What the field may be at a site, `q` numbers.

    Raises
    ------
    ValueError
        If there are more than `MAX_STATES` configurations.
    """
    values = torch.as_tensor(values, dtype=dtype)
    if values.ndim != 1 or len(values) < 2:
        raise ShapeError("values must be a list of at least two numbers")
    volume = lattice.volume
    _check_count(len(values) ** volume)
    axes = torch.meshgrid(*[values] * volume, indexing="ij")
    fields = torch.stack(axes, -1).reshape(-1, *lattice.shape)
    with torch.no_grad():
        log_weight = -action(fields)
    if log_weight.shape != fields.shape[:1]:
        got = tuple(log_weight.shape)
        raise ShapeError(f"action must return shape ({len(fields)},), not {got}")
    check_finite("action", log_weight)
    p = log_weight.softmax(0).reshape((len(values),) * volume)
    return Enumeration(fields, p, float(log_weight.logsumexp(0)))


# --- continuous fields ----------------------------------------------------------------------------


def interactions(action: Callable[[Tensor], Tensor], phi: Tensor) -> Tensor:
    r"""Return :math:`\partial_i\partial_j\ln p=-\partial_i\partial_jS`, ``(chains, n, n)``.

    Off the diagonal an entry vanishes for all fields if and only if the pairwise Markov property
    holds for `i` and `j`: then :math:`\ln p` is a sum of a function without :math:`\phi_i` and one
    without :math:`\phi_j`. By automatic differentiation, twice.

    Parameters
    ----------
    action
        Takes fields ``(chains, *shape)`` to ``(chains,)``; twice differentiable.
    phi
        Where to differentiate, ``(chains, *shape)``, `n` sites.
    """
    if phi.ndim < 2:
        raise ShapeError(f"phi must have shape (chains, *lattice.shape), not {tuple(phi.shape)}")
    check_finite("phi", phi)
    with derivatives():
        phi = phi.detach().clone().requires_grad_(True)
        s = action(phi)
        if s.shape != phi.shape[:1]:
            raise ShapeError(f"action must return shape ({len(phi)},), not {tuple(s.shape)}")
        (gradient,) = torch.autograd.grad(s.sum(), phi, create_graph=True)
        rows = []
        for component in gradient.reshape(len(phi), -1).unbind(1):
            row = None
            if component.requires_grad:
                (row,) = torch.autograd.grad(
                    component.sum(), phi, retain_graph=True, allow_unused=True
                )
            rows.append(torch.zeros_like(phi) if row is None else row)
    return -torch.stack([row.detach().reshape(len(phi), -1) for row in rows], 1)


def interaction_graph(matrix: Tensor, tol: float = 1e-10) -> nx.Graph:
    r"""Return the graph whose edges are the off-diagonal entries of a matrix.

    The smallest graph on which a distribution is pairwise Markov, from its precision matrix, or
    from the `interactions` of a field at several points: an entry counts if it is larger than `tol`
    times the largest one, at any of them.

    Parameters
    ----------
    matrix
        ``(n, n)`` or ``(chains, n, n)``, symmetric.
    tol
        Relative size below which an entry is rounding.
    """
    import networkx as nx

    size = _check_symmetric("matrix", matrix).abs()
    size = size.amax(0) if matrix.ndim == 3 else size
    joined = size > tol * float(size.max())
    graph = nx.empty_graph(len(joined))
    graph.add_edges_from((i, j) for i, j in joined.nonzero().tolist() if i < j)
    return graph


def field_violations(
    action: Callable[[Tensor], Tensor], graph: nx.Graph, phi: Tensor, tol: float = 1e-10
) -> list[Violation]:
    r"""Return where a field with the density :math:`e^{-S}/Z` is not pairwise Markov.

    `size` of a violation is the largest :math:`|\partial_i\partial_jS|` over the given fields. A
    derivative that vanishes at points may not vanish everywhere: give several random ones.

    Parameters
    ----------
    action, phi
        As in `interactions`.
    graph
        One vertex for each site, row by row (`lattice_graph`).
    tol
        Derivatives up to `tol` times the largest one are rounding.
    """
    size = interactions(action, phi).abs().amax(0)
    return _matrix_violations(size, graph, tol * float(size.max()))


def gaussian_violations(precision: Tensor, graph: nx.Graph, tol: float = 1e-10) -> list[Violation]:
    r"""Return where a Gaussian with a precision matrix is not Markov on a graph.

    `size` is the partial correlation :math:`|K_{ij}|/\sqrt{K_{ii}K_{jj}}`, the correlation of
    :math:`\phi_i` and :math:`\phi_j` given all others (S. Lauritzen, Graphical Models, 1996, prop.
    5.2). Gaussians are positive: the three Markov properties are one.

    Parameters
    ----------
    precision
        The inverse `K` of the covariance, ``(n, n)``, positive definite.
    graph
        Vertices 0, ..., n-1.
    tol
        Partial correlations up to this one are rounding.

    Raises
    ------
    StabilityError
        If `precision` is not positive definite.
    """
    _check_symmetric("precision", precision, batch=False)
    if not float(torch.linalg.eigvalsh(precision.double())[0]) > 0:
        raise StabilityError("precision is not positive definite, so it defines no Gaussian")
    scale = precision.diagonal().rsqrt()
    return _matrix_violations((scale[:, None] * precision * scale).abs(), graph, tol)


def field_potential(
    action: Callable[[Tensor], Tensor],
    phi: Tensor,
    vertices: Sequence[int],
    reference: float = 0.0,
) -> Tensor:
    r"""Return the canonical potential :math:`V_A(\phi_A)` of a field, ``(chains,)``.

    The alternating sum at the top of this module with :math:`\ln p=-S`; the constant
    :math:`\ln Z` drops out of all but the empty set.

    Parameters
    ----------
    action
        Takes fields ``(chains, *shape)`` to ``(chains,)``.
    phi
        The field, ``(chains, *shape)``.
    vertices
        The set `A`, numbers of sites, row by row.
    reference
        The value :math:`\phi^*` at all sites.
    """
    flat = phi.reshape(len(phi), -1)
    if len(set(vertices)) < len(vertices) or not set(vertices) <= set(range(flat.shape[1])):
        raise ValueError(
            f"vertices must be different numbers of 0 to {flat.shape[1] - 1}, not {tuple(vertices)}"
        )
    total = torch.zeros((), device=phi.device)
    for size in range(len(vertices) + 1):
        for subset in itertools.combinations(vertices, size):
            field = torch.full_like(flat, reference)
            field[:, list(subset)] = flat[:, list(subset)]
            sign = (-1) ** (len(vertices) - size)
            total = total - sign * action(field.reshape(phi.shape))
    return total


# --- within ---------------------------------------------------------------------------------------


def _dependence(p: Tensor, a: Iterable[int], b: Iterable[int], given: Iterable[int]) -> float:
    a, b, given = tuple(a), tuple(b), tuple(given)
    other = tuple(v for v in range(p.ndim) if v not in {*a, *b, *given})
    joint = p.sum(other, keepdim=True) if other else p
    c = joint.sum(a + b, keepdim=True)
    product = joint.sum(b, keepdim=True) * joint.sum(a, keepdim=True)
    apart = torch.where(c > 0, product / torch.where(c > 0, c, 1), 0)
    return 0.5 * float((joint - apart).abs().sum())


def _violations(p: Tensor, asked: Iterable, tol: float) -> list[Violation]:
    found = []
    for a, b, given in asked:
        size = _dependence(p, a, b, given)
        if size > tol:
            found.append(Violation(*(tuple(sorted(s)) for s in (a, b, given)), size))
    return found


def _matrix_violations(size: Tensor, graph: nx.Graph, tol: float) -> list[Violation]:
    n = len(_check_graph(graph))
    if len(size) != n:
        raise ShapeError(f"the graph has {n} vertices, but there are {len(size)} variables")
    pairs = itertools.combinations(range(n), 2)
    off = [(i, j) for i, j in pairs if size[i, j] > tol and not graph.has_edge(i, j)]
    every = set(range(n))
    return [Violation((i,), (j,), tuple(sorted(every - {i, j})), float(size[i, j])) for i, j in off]


def _subsets(n: int) -> Iterable[tuple[int, ...]]:
    sizes = (itertools.combinations(range(n), size) for size in range(n + 1))
    return itertools.chain.from_iterable(sizes)


def _difference(log_p: Tensor, subset: tuple[int, ...], reference: Sequence[int]) -> Tensor:
    index = tuple(slice(None) if v in subset else reference[v] for v in range(log_p.ndim))
    value = log_p[index]
    for axis, v in enumerate(subset):
        value = value - value.narrow(axis, reference[v], 1)
    return value


def _moebius(log_p: Tensor) -> Tensor:
    """Return all potentials in one tensor: at `x` stands that of the vertices with a state not 0.

    The reference is 0, where potentials vanish: this keeps the rest. One pass for each vertex.
    """
    packed = log_p.clone()
    for axis in range(packed.ndim):
        at_reference = packed.narrow(axis, 0, 1).clone()
        packed -= at_reference
        packed.narrow(axis, 0, 1).copy_(at_reference)
    return packed


def _spread(potential: Tensor, subset: tuple[int, ...], n: int) -> Tensor:
    """Return the potential with an axis of length 1 for each vertex that it does not depend on."""
    size = dict(zip(subset, potential.shape, strict=True))
    return potential.reshape([size.get(v, 1) for v in range(n)])


def _check_graph(graph: nx.Graph) -> nx.Graph:
    if getattr(graph, "is_directed", lambda: True)():
        raise ValueError("graph must be an undirected networkx.Graph")
    if set(graph) != set(range(len(graph))) or not len(graph):
        raise ValueError(
            f"the vertices of graph must be 0 to {len(graph) - 1}: relabel it with "
            "networkx.convert_node_labels_to_integers"
        )
    if any(graph.has_edge(v, v) for v in graph):
        raise ValueError("graph joins a vertex to itself: remove the loop")
    return graph


def _check_distribution(p: Tensor) -> Tensor:
    if not isinstance(p, Tensor) or not p.is_floating_point():
        raise ValueError("p must be a tensor of floating point numbers")
    if not p.ndim or not p.numel():
        raise ShapeError("p must have one axis for each vertex, with at least one state each")
    _check_count(p.numel())
    check_finite("p", p)
    if float(p.min()) < 0:
        raise ValueError(f"p has negative entries, down to {float(p.min()):.3g}: no probabilities")
    total = float(p.sum(dtype=torch.float64 if p.device.type != "mps" else None))
    if abs(total - 1) > 64 * torch.finfo(p.dtype).eps * max(1.0, math.log2(p.numel())):
        raise ValueError(f"p sums to {total:.12g}, not to 1: divide it by its sum")
    return p


def _check_all_positive(p: Tensor) -> None:
    zeros = int((p == 0).sum())
    if zeros:
        raise ValueError(
            f"p vanishes on {zeros} of {p.numel()} states, so it has no potentials: the theorem "
            "needs a positive distribution"
        )


def _check_pair(p: Tensor, graph: nx.Graph, tol: float | None) -> tuple[Tensor, float]:
    p = _check_distribution(p)
    n = len(_check_graph(graph))
    if p.ndim != n:
        raise ShapeError(f"p must have {n} axes, one for each vertex of graph, not {p.ndim}")
    tol = 4096 * torch.finfo(p.dtype).eps if tol is None else check_positive("tol", tol)
    return p, tol


def _check_reference(reference: Sequence[int] | None, shape: Sequence[int]) -> tuple[int, ...]:
    reference = (0,) * len(shape) if reference is None else tuple(int(r) for r in reference)
    fits = len(reference) == len(shape)
    if not fits or any(not 0 <= r < q for r, q in zip(reference, shape, strict=True)):
        raise ValueError(f"reference must name a state of each of the {len(shape)} vertices")
    return reference


def _check_count(states: int) -> None:
    if states > MAX_STATES:
        raise ValueError(
            f"{states} states are too many to enumerate (at most {MAX_STATES}): take fewer "
            "vertices or fewer states, or sample"
        )


def _check_symmetric(name: str, matrix: Tensor, batch: bool = True) -> Tensor:
    if matrix.ndim not in ((2, 3) if batch else (2,)) or matrix.shape[-1] != matrix.shape[-2]:
        raise ShapeError(f"{name} must be square, (n, n), not {tuple(matrix.shape)}")
    check_finite(name, matrix)
    asymmetry = float((matrix - matrix.mT).abs().max())
    if asymmetry > 1e3 * torch.finfo(matrix.dtype).eps * float(matrix.abs().max()):
        raise ValueError(f"{name} is not symmetric: entries differ by up to {asymmetry:.3g}")
    return matrix
