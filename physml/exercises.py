"""Checks of answers to the book's exercises, which say what is wrong and keep the solution secret.

A check takes a reader's number or function and returns a `Result`, which reads as a sentence:
"Correct: ..." or "Not yet: ...". An answer of the wrong kind, or a function that fails, gets a
sentence too, not a traceback.

To write one, decorate a function that raises `NotYet` with the reason, or returns its praise:

>>> @check
... def check_gap(answer):
...     compare_number(answer, 0.25, what="the gap", hint="it closes as the mass goes to zero")
...     return "the gap is the mass squared."
>>> check_gap(0.25)
Correct: the gap is the mass squared.
>>> check_gap(-0.25)
Not yet: the gap has the wrong sign; it closes as the mass goes to zero.
"""

from __future__ import annotations

import copy
import functools
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from . import exact, lattice

__all__ = [
    "NotYet",
    "Result",
    "check",
    "checks",
    "compare_function",
    "compare_number",
    "seeded_cases",
]

_CHECKS: dict[str, Callable[..., Result]] = {}


@dataclass(frozen=True)
class Result:
    """What a check found. True if the answer is right; prints as a sentence."""

    correct: bool
    message: str

    def __bool__(self) -> bool:
        return self.correct

    def __repr__(self) -> str:
        return f"{'Correct' if self.correct else 'Not yet'}: {self.message}"


class NotYet(Exception):
    """Raised inside a check: what keeps the answer from being right, in a reader's words."""


def check(function: Callable[..., str | None]) -> Callable[..., Result]:
    """Turn a function that returns praise or raises `NotYet` into one that returns a `Result`.

    An answer left open, as None or `...`, is answered before the function is called. Errors of the
    check itself are not caught: they are faults of the book, not of the reader.

    Raises
    ------
    ValueError
        If the name does not begin with `check_`, or is taken.
    """
    name = function.__name__
    if not name.startswith("check_"):
        raise ValueError(f"a check must be called check_..., not {name}")
    if name in _CHECKS and _CHECKS[name].__module__ != "__main__":
        raise ValueError(f"there is a check called {name} already")

    @functools.wraps(function)
    def checked(answer: Any = None, *args: Any, **kwargs: Any) -> Result:
        if answer is None or answer is ...:
            return Result(False, "there is no answer yet.")
        try:
            praise = function(answer, *args, **kwargs)
        except NotYet as why:
            return Result(False, _sentence(str(why)))
        return Result(True, _sentence(praise or "well done"))

    _CHECKS[name] = checked
    return checked


def checks() -> tuple[str, ...]:
    """Return the names of all checks, sorted."""
    return tuple(sorted(_CHECKS))


def compare_number(
    answer: Any,
    expected: float,
    *,
    rtol: float = 1e-3,
    atol: float = 0.0,
    what: str = "the answer",
    hint: str | None = None,
) -> None:
    """Raise `NotYet` unless `answer` is the number expected.

    Parameters
    ----------
    answer
        What the reader found: a number, or a tensor or an array of one entry.
    expected
        What it should be.
    rtol, atol
        It is accepted within `atol + rtol * abs(expected)`.
    what
        What it is in physics, such as `"the KL gap"`.
    hint
        What to think of, told when the answer is wrong.
    """
    value = _number(answer, what)
    # compared in double precision, whatever the reader worked in
    near = functools.partial(_near, rtol=rtol, atol=atol)
    if near(value, expected):
        return
    if near(-value, expected):
        found = "has the wrong sign"
    elif expected and near(value / 2, expected):
        found = "is twice what it should be"
    elif expected and near(2 * value, expected):
        found = "is half of what it should be"
    elif expected and value and near(1 / value, expected):
        found = "is upside down: its inverse is right"
    elif abs(value - expected) < 0.05 * abs(expected):
        found = f"is close, but not within {max(rtol, atol / abs(expected)):.1%}"
    else:
        found = f"is not {value:.6g}, which is too {'large' if value > expected else 'small'}"
    raise NotYet(f"{what} {found}" + (f"; {hint}" if hint else ""))


def seeded_cases(
    make: Callable[[torch.Generator], Sequence[Any]], count: int = 5, seed: int = 0
) -> list[tuple[Any, ...]]:
    """Return `count` tuples of arguments, each made from a generator of its own.

    Parameters
    ----------
    make
        Takes a `torch.Generator`, returns the arguments of one case.
    count, seed
        How many, and the seed of the first; the next ones follow.
    """
    return [tuple(make(torch.Generator().manual_seed(seed + i))) for i in range(count)]


def compare_function(
    answer: Any,
    reference: Callable[..., Any],
    cases: Iterable[Sequence[Any]],
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    what: str = "your function",
    describe: Callable[..., str] | None = None,
    hint: str | None = None,
) -> None:
    """Raise `NotYet` unless a reader's function returns what `reference` does, in each case.

    Parameters
    ----------
    answer
        The reader's function. It gets copies of the arguments, and may change them.
    reference
        A function that is right; it returns a number or a tensor.
    cases
        Tuples of arguments, such as those of `seeded_cases`.
    rtol, atol
        Each entry is accepted within `atol + rtol * s`, with `s` the largest entry of the
        reference in size: an entry that is zero up to rounding need not be so to more digits.
    what
        What the function is in physics, such as `"the induced kernel"`.
    describe
        Says in physics terms what a case is, from its arguments, such as
        `"4 sites with mass squared 2"`; by default the cases are counted.
    hint
        What to think of, told when a value is wrong.
    """
    if not callable(answer):
        raise NotYet(f"{what} should be a function, and it is {_kind(answer)}")
    for i, arguments in enumerate(cases, start=1):
        case = f"for {describe(*arguments)}" if describe else f"in case {i}"
        expected = torch.as_tensor(reference(*copy.deepcopy(arguments)))
        try:
            returned = answer(*copy.deepcopy(arguments))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise NotYet(f"{case}, {what} fails with {type(error).__name__}: {reason}") from error
        if returned is None or returned is ...:
            raise NotYet(f"{what} returns nothing yet; is there a `return`?")
        found = _tensor(returned, f"{case}, {what} returns")
        if found.shape != expected.shape:
            raise NotYet(
                f"{case}, {what} returns {_form(found)} where {_form(expected)} is expected"
            )
        found, expected = found.double(), expected.detach().cpu().double()
        if not torch.isfinite(found).all():
            raise NotYet(f"{case}, {what} returns values that are not finite")
        _compare_entries(found, expected, rtol, atol, f"{case}, {what}", hint)


def _compare_entries(
    found: torch.Tensor,
    expected: torch.Tensor,
    rtol: float,
    atol: float,
    subject: str,
    hint: str | None,
) -> None:
    if not expected.numel():
        return
    scale = float(expected.abs().max())

    def off(values: torch.Tensor) -> torch.Tensor:
        return (values - expected).abs() > atol + rtol * scale

    wrong = off(found)
    if not wrong.any():
        return
    if not off(-found).any():
        deviation = "has the wrong sign"
    elif not off(found / 2).any():
        deviation = "is twice what it should be"
    elif not off(found * 2).any():
        deviation = "is half of what it should be"
    elif expected.ndim == 2 and expected.shape[0] == expected.shape[1] and not off(found.T).any():
        deviation = "is the transpose of what it should be"
    else:
        share = f"{int(wrong.sum())} of {wrong.numel()} entries" if wrong.ndim else "the value"
        largest = float((found - expected).abs().max())
        size = f"by {largest / scale:.2g} of the largest" if scale else "from zero"
        size = size if wrong.ndim or not scale else f"by {largest / scale:.2g} of what it should be"
        deviation = f"is not right: {share} {'differ' if wrong.ndim else 'differs'} {size}"
    raise NotYet(f"{subject} {deviation}" + (f"; {hint}" if hint else ""))


def _near(value: float, expected: float, rtol: float, atol: float) -> bool:
    return abs(value - expected) <= atol + rtol * abs(expected)


def _number(answer: Any, what: str) -> float:
    tensor = _tensor(answer, f"{what} should be a number, and it is")
    if tensor.numel() != 1:
        raise NotYet(f"{what} should be one number, and it is {_form(tensor)}")
    value = float(tensor.double())
    if not math.isfinite(value):
        raise NotYet(f"{what} should be finite, and it is {value}")
    return value


def _tensor(answer: Any, subject: str) -> torch.Tensor:
    """Return a real tensor on the CPU, or raise `NotYet` beginning with `subject`."""
    if isinstance(answer, numbers.Number) and isinstance(answer, complex):
        raise NotYet(f"{subject} complex")
    try:
        tensor = torch.as_tensor(answer).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotYet(f"{subject} {_kind(answer)}") from error
    if tensor.is_complex():
        raise NotYet(f"{subject} complex")
    return tensor


def _kind(answer: Any) -> str:
    if callable(answer):
        return "a function: call it, and pass on what it returns"
    name = {"str": "text", "list": "a list", "tuple": "a tuple", "dict": "a dictionary"}
    return name.get(type(answer).__name__, f"of type {type(answer).__name__}")


def _form(tensor: torch.Tensor) -> str:
    return f"a tensor of shape {tuple(tensor.shape)}" if tensor.ndim else "a number"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


# --- The scalar-field RBM as an ultraviolet regulator ---------------------------------------------


@check
def check_hidden_kernel(answer: Any) -> str:
    """A function of the weights ``(n, m)``, mass and sigma: eigenvalues of the hidden kernel."""

    def reference(weight: torch.Tensor, mu2: float, sigma: float) -> torch.Tensor:
        unit = torch.eye(weight.shape[1], dtype=weight.dtype)
        return torch.linalg.eigvalsh(unit / sigma**2 - weight.T @ weight / mu2)

    def given(weight: torch.Tensor, mu2: float, sigma: float) -> torch.Tensor:
        return _tensor(answer(weight, mu2, sigma), "it returns").double().sort().values

    def make(generator: torch.Generator) -> tuple[torch.Tensor, float, float]:
        return torch.randn(5, 3, generator=generator, dtype=torch.float64), 5.0, 0.5

    compare_function(
        given if callable(answer) else answer, reference, seeded_cases(make),
        what="the set of eigenvalues",
        describe=lambda w, mu2, sigma: f"{w.shape[0]} visible and {w.shape[1]} hidden units",
        hint="complete the square in phi, which has the mass mu2, and mind sigma")
    return "each is positive exactly if the eigenvalue of K with the same singular value is."


@check
def check_step_order(answer: Any) -> str:
    """The power of the step size with which gradient ascent deviates from its flow."""
    compare_number(answer, 1, what="the power of the step size",
                   hint="compare two runs with the same learning time, one with half the step")
    return "gradient ascent is Euler's method for the flow."


@check
def check_growth_ratio(answer: Any) -> str:
    """How many times slower kappa = 8 grows than kappa = 4 at mu2 = 9, from small xi."""
    compare_number(answer, (1 / 4 - 1 / 9) / (1 / 8 - 1 / 9), what="the ratio of the rates",
                   hint="while xi is small, lambda is mu2; put that into the flow")
    return "the closer a mode is to the cut-off, the longer it has to wait."


@check
def check_mass_plateau(answer: Any) -> str:
    """The learned mass of a machine with five hidden units, on the chapter's ring."""
    expected = exact.rbm_mass_plateau(exact.chain_spectrum(10, 4.0), 5)
    compare_number(answer, expected, rtol=2e-3, what="the plateau",
                   hint="it is a mean over the modes that are cut, and not the arithmetic one")
    return "the mass is the harmonic mean of what it stands for."


@check
def check_smallest_machine(answer: Any) -> str:
    """The fewest hidden units at mu2 = 9 for a KL gap below 0.02 nats, on the chapter's ring."""
    kappa = exact.chain_spectrum(10, 4.0)
    expected = next(n for n in range(1, 11) if exact.rbm_kl_gap(kappa, 9.0, n) < 0.02)
    compare_number(answer, expected, rtol=0, what="the number of hidden units",
                   hint="add up the gap mode by mode from the ultraviolet end")
    return "the modes next to the cut-off cost almost nothing."


@check
def check_mixing_time(answer: Any) -> str:
    """A function of kappa and the mass: the autocorrelation time of a learned mode, in sweeps."""
    compare_function(
        answer, lambda kappa, mu2: mu2 / kappa - 0.5,
        [(kappa, mu2) for kappa in (0.5, 4.0) for mu2 in (4.5, 9.0, 160.0)],
        what="the autocorrelation time",
        describe=lambda kappa, mu2: f"kappa = {kappa:g} and mass squared {mu2:g}",
        hint="sum the geometric series of rho, and count the half at t = 0")
    return "so a large cut-off makes slow chains, and the infrared is the slowest."


@check
def check_cd_factor(answer: Any) -> str:
    """A function of lambda, the mass and the sweeps: by what CD-k multiplies the gradient."""
    compare_function(
        answer, lambda lam, mu2, sweeps: 1 - (1 - lam / mu2) ** (2 * sweeps),
        [(lam, 9.0, sweeps) for lam in (2.0, 4.0, 8.0) for sweeps in (1, 3, 10)],
        what="the factor",
        describe=lambda lam, mu2, k: f"lambda = {lam:g}, mass squared {mu2:g} and {k} sweeps",
        hint="a sweep multiplies the amplitude of a mode by rho; the gradient needs its square")
    return "it is never negative, so the fixed points stay where they are."


@check
def check_square_modes(answer: Any) -> str:
    """How many modes of the free field on 8 x 8 sites with mass 1 lie below the cut-off 5."""
    kappa = lattice.Lattice((8, 8)).free_spectrum(1.0)
    compare_number(answer, int((kappa < 5 - 1e-9).sum()), rtol=0, what="the number of modes",
                   hint="modes exactly at the cut-off do not count, and rounding moves them")
    return "the others, with those that sit on the cut-off, are white noise to the machine."


# --- The spectrum of handwritten digits -----------------------------------------------------------


@check
def check_modes_that_count(answer: Any, variance: torch.Tensor, threshold: float) -> str:
    """How many hidden units hold all modes of a data set above a variance?"""
    expected = int((torch.as_tensor(variance) > threshold).sum())
    compare_number(answer, expected, rtol=0, atol=0.5, what="the number of hidden units",
                   hint="a hidden unit holds one mode, and a mode is learned if c > 1/mu2")
    return "one hidden unit for each mode below the cut-off."


@check
def check_likelihood_lost(answer: Any) -> str:
    """A function of variances, largest first, number of hidden units and mass: nats lost."""

    def reference(variance: torch.Tensor, n_hidden: int, mu2: float) -> torch.Tensor:
        ratio = mu2 * variance[n_hidden:]
        ratio = ratio[ratio > 1]
        return 0.5 * (ratio - 1 - ratio.log()).sum()

    def make(generator: torch.Generator) -> tuple[torch.Tensor, int, float]:
        c = torch.rand(8, generator=generator, dtype=torch.float64).sort(descending=True).values
        c[-1] = 0  # a zero mode
        return c, 2, 3.0

    compare_function(
        answer, reference, seeded_cases(make), what="the likelihood lost",
        describe=lambda c, n, mu2: f"{len(c)} modes, {n} hidden units and mass squared {mu2:g}",
        hint="modes with c < 1/mu2 sit at the cut-off in both machines")
    return "and zero modes cancel, for the regulator holds them in both machines."


@check
def check_shuffled_modes(answer: Any) -> str:
    """A function of images ``(n, pixels)``: the two eigenvalues after shuffling each image."""

    def reference(images: torch.Tensor) -> torch.Tensor:
        pixels = images.shape[1]
        a = (images**2).mean()
        b = ((images.sum(1) ** 2).mean() - pixels * a) / (pixels * (pixels - 1))
        return torch.stack([a + (pixels - 1) * b, a - b])

    def make(generator: torch.Generator) -> tuple[torch.Tensor]:
        return (torch.rand(5, 6, generator=generator, dtype=torch.float64),)

    compare_function(
        answer, reference, seeded_cases(make), what="the pair of eigenvalues",
        describe=lambda images: f"{len(images)} images of {images.shape[1]} pixels",
        hint="return the collective mode first; average over the permutations of one image")
    return "one mode carries the ink, all others are alike."


@check
def check_modes_for_error(answer: Any, variance: torch.Tensor, error: float) -> str:
    """How many modes rebuild images to within a mean squared error per pixel?"""
    variance = torch.as_tensor(variance).double()
    left = (variance.sum() - variance.cumsum(0)) / len(variance)
    expected = 1 + int((left > error).sum())
    if float(variance.sum()) / len(variance) <= error:
        expected = 0
    compare_number(answer, expected, rtol=0, what="the number of modes",
                   hint="what is left out adds up, and is shared by all pixels")
    return "the infrared carries the image."


@check
def check_sweeps_to_reach(answer: Any) -> str:
    """A function of kappa, mass and a fraction: sweeps until a chain from zero has it."""
    compare_function(
        answer, lambda kappa, mu2, part: math.log(1 - part) / (2 * math.log(1 - kappa / mu2)),
        [(kappa, 100.0, part) for kappa in (0.02625, 0.3, 10.0) for part in (0.5, 0.95)],
        what="the number of sweeps",
        describe=lambda kappa, mu2, part: f"kappa = {kappa:g} and {part:.0%} of the variance",
        hint="after t sweeps the variance has reached 1 - rho^(2t) of its value")
    return "for small kappa it grows like mu2/kappa."


@check
def check_mean_bias(answer: Any) -> str:
    """A function of weights, mass and a mean: the bias with which the machine comes closest."""

    def reach(weight: torch.Tensor, mu2: float) -> torch.Tensor:
        unit = torch.eye(weight.shape[0], dtype=weight.dtype)
        return torch.linalg.solve(mu2 * unit - weight @ weight.T, weight)

    def reference(weight: torch.Tensor, mu2: float, mean: torch.Tensor) -> torch.Tensor:
        return torch.linalg.lstsq(reach(weight, mu2), mean[:, None]).solution[:, 0]

    def make(generator: torch.Generator) -> tuple[torch.Tensor, float, torch.Tensor]:
        draws = torch.rand(6, 4, generator=generator, dtype=torch.float64)
        return 0.5 * draws[:, :3], 4.0, draws[:, 3]

    compare_function(
        answer, reference, seeded_cases(make), what="the bias",
        describe=lambda w, mu2, mean: f"{w.shape[0]} pixels and {w.shape[1]} hidden units",
        hint="the mean of the machine is K^-1 W eta, with sigma = 1 here; least squares does it")
    return "as close to the mean as the hidden units reach."


# --- Markov random fields -------------------------------------------------------------------------


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
        _as_vector(answer),
        lambda beta, field, n: torch.tensor([4 * beta, 2 * field - 2 * beta * n]).double(),
        [(0.3, 0.1, 4), (0.5, -0.2, 2), (-0.4, 0.0, 6)], what="the pair of potentials",
        describe=lambda beta, field, n: f"beta = {beta}, B = {field} and {n} neighbours",
        hint="the edge first; the reference is all spins down, so a difference of spins is 2")
    return "the Ising model, written as a lattice gas."


@check
def check_diagonal_links(answer: Any) -> str:
    """A function of L: sizes of blanket and clique and number of cliques, with diagonal links."""
    compare_function(
        _as_vector(answer), lambda length: torch.tensor([8.0, 4.0, length**2]).double(),
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
        _as_vector(answer), reference, cases, what="the pair of mean and variance",
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


def _as_vector(answer: Any) -> Any:
    """Return a function that gives a tuple of numbers as one that gives a tensor."""
    if not callable(answer):
        return answer

    def as_vector(*arguments: Any) -> Any:
        returned = answer(*arguments)
        if isinstance(returned, tuple | list):
            return torch.stack([torch.as_tensor(r).double() for r in returned])
        return returned

    return as_vector


# --- Stochastic quantisation ----------------------------------------------------------------------


@check
def check_euler_variance(answer: Any) -> str:
    """A function of the kernel, the step and the noise strength: Euler's stationary variance."""

    def make(generator: torch.Generator) -> tuple[float, float, float]:
        k, eps, alpha = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        return 0.5 + k, 0.1 + eps, 0.2 + alpha

    compare_function(
        answer, lambda k, eps, alpha: alpha / (k * (1 - eps * k / 2)), seeded_cases(make),
        what="the variance",
        describe=lambda k, eps, alpha: f"K = {k:.2f}, step {eps:.2f} and noise {alpha:.2f}",
        hint="in the stationary state one step changes nothing: v = (1 - eps K)^2 v + noise")
    return "too large by 1/(1 - eps K/2), and proportional to the strength of the noise."


@check
def check_relaxation_rate(answer: Any) -> str:
    """The rate at which the average of phi^2 relaxes in a Gaussian theory with K = 3."""
    compare_number(answer, 6.0, what="the rate", hint="phi^2 - 1/K is an eigenfunction: of which "
                   "energy of the harmonic oscillator?")
    return "the second excited state: twice the rate of phi itself."


@check
def check_largest_step(answer: Any) -> str:
    """A function of mass squared and dimension: the stability bound of Euler's scheme."""

    def make(generator: torch.Generator) -> tuple[float, int]:
        mass2 = float(torch.rand((), generator=generator, dtype=torch.float64))
        return mass2, int(torch.randint(1, 5, (), generator=generator))

    compare_function(
        answer, lambda mass2, dim: 2 / (mass2 + 4 * dim), seeded_cases(make),
        what="the largest step", describe=lambda mass2, dim: f"m^2 = {mass2:.2f}, d = {dim}",
        hint="the fastest mode decides, the one with the largest momentum")
    return "set by the ultraviolet, while the infrared waits."


@check
def check_noise_correlation(answer: Any) -> str:
    """The correlation of field and noise in the second-order scheme at a step of 0.1."""
    compare_number(answer, math.sqrt(0.05), what="the correlation",
                   hint="how did the noise of step n enter the field of step n?")
    return "the same random number is used twice, and that cancels the bias."


@check
def check_action_density(answer: Any) -> str:
    """A function of lambda and <phi^4>: the average action per site."""

    def make(generator: torch.Generator) -> tuple[float, float]:
        lam, phi4 = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        return lam, 1 + phi4

    compare_function(
        answer, lambda lam, phi4: 0.5 - lam * phi4, seeded_cases(make), what="S/V",
        describe=lambda lam, phi4: f"lambda = {lam:.2f} and <phi^4> = {phi4:.2f}",
        hint="count how often phi dS/dphi contains each term of S")
    return "for lambda = 0 it is one half a site: equipartition."


@check
def check_trajectory_length(answer: Any) -> str:
    """The shortest trajectory after which a mode with K = 9 is minus itself."""
    compare_number(answer, math.pi / 3, what="the length",
                   hint="a mode of frequency sqrt(K) turns by sqrt(K) t: by which angle here?")
    return "half a period: the mode changes its sign, and its size never."


# --- learning with phi^4 --------------------------------------------------------------------------


@check
def check_gap_equation(answer: Any) -> str:
    """A function of lambda: the coupling of the best Gaussian for phi^2/2 + lambda phi^4/4."""
    compare_function(
        answer, lambda lam: (1 + math.sqrt(1 + 12 * lam)) / 4, [(0.0,), (1.0,), (0.3,), (50.0,)],
        what="the coupling a", describe=lambda lam: f"lambda = {lam}",
        hint="with <phi^2> = 1/(2a) the gap equation is quadratic; a is positive")
    return "the mass that a mean field gives itself."


@check
def check_rescaled_couplings(answer: Any) -> str:
    """A function of w, a, b: the couplings (a, b) of the same theory with w = 1."""
    compare_function(
        _as_vector(answer), lambda w, a, b: torch.tensor([a / w, b / w**2]).double(),
        [(2.0, 1.0, 0.5), (0.5, -1.0, 0.3), (1.0, 2.0, 0.1)], what="the pair of couplings",
        describe=lambda w, a, b: f"w = {w}, a = {a} and b = {b}",
        hint="phi goes to zeta phi in all three terms; choose zeta so that w becomes 1")
    return "two couplings tell all that three did."


@check
def check_natural_step(answer: Any) -> str:
    """A function of actions ``(n,)`` and statistics ``(n, k)``: couplings after a natural step."""

    def reference(values: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        centred = statistics - statistics.mean(0)
        return torch.linalg.solve(centred.T @ centred, centred.T @ (values - values.mean()))

    def make(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        statistics = torch.randn(40, 3, generator=generator, dtype=torch.float64) + 1
        noise = torch.randn(40, generator=generator, dtype=torch.float64)
        return statistics @ torch.tensor([1.0, -2.0, 0.5]).double() + 3 + 0.1 * noise, statistics

    compare_function(
        answer, reference, seeded_cases(make), what="the vector of couplings",
        describe=lambda values, statistics: f"{len(values)} samples",
        hint="a least-squares fit with a constant: subtract the means first")
    return "to learn an action is to fit it."


@check
def check_effective_size(answer: Any) -> str:
    """A function of complex log weights ``(n,)``: the effective sample size."""

    def reference(log_weights: torch.Tensor) -> torch.Tensor:
        w = torch.exp(log_weights - log_weights.real.max())
        return w.sum().abs() ** 2 / (w.abs() ** 2).sum()

    def make(generator: torch.Generator) -> tuple[torch.Tensor]:
        real, imaginary = torch.randn(2, 30, generator=generator, dtype=torch.float64)
        return (torch.complex(real + 1000, imaginary),)

    compare_function(
        answer, reference, seeded_cases(make), what="the effective sample size",
        describe=lambda log_weights: f"{len(log_weights)} weights",
        hint="take the largest real part out before the exponential, and moduli at the right place")
    return "a common factor of all weights means nothing."


@check
def check_mass_overlap(answer: Any) -> str:
    """A function of rho and V: ESS/n of reweighting V free sites from mass 1 to rho."""
    compare_function(
        answer, lambda rho, volume: (math.sqrt(2 * rho - 1) / rho) ** volume,
        [(1.0, 5), (2.0, 1), (0.7, 3), (1.1, 100)], what="the fraction",
        describe=lambda rho, volume: f"rho = {rho} and {volume} sites",
        hint="<w>^2 / <w^2> on one site, two Gaussian integrals")
    return "exponential in the volume, and it ends at rho = 1/2."


@check
def check_average_phase(answer: Any) -> str:
    """A function of g and V: the average phase of V free sites with an imaginary mass term."""
    compare_function(
        answer, lambda g, volume: (1 + 4 * g * g) ** (-volume / 4),
        [(0.0, 4), (0.5, 1), (0.15, 16), (1.0, 10)], what="the average phase",
        describe=lambda g, volume: f"g = {g} and {volume} sites",
        hint="the mean of exp(-i g phi^2) is a Gaussian integral; take its modulus")
    return "the sign problem of a free field."


@check
def check_spin_humps(answer: Any) -> str:
    """A function of v and sigma: the couplings (a, w) of a hidden spin that makes two humps."""
    compare_function(
        _as_vector(answer),
        lambda v, sigma: torch.tensor([1 / (2 * sigma**2), v / sigma**2]).double(),
        [(1.0, 0.3), (2.0, 1.0), (0.5, 0.2)], what="the pair (a, w)",
        describe=lambda v, sigma: f"v = {v} and sigma = {sigma}",
        hint="complete the square in phi for h = 1: where is its mean, what is its width?")
    return "a hidden spin chooses the hump."


@check
def check_unit_cumulants(answer: Any) -> str:
    """A function of <h^2> and <h^4>: the second and fourth cumulant of a hidden unit."""
    compare_function(
        _as_vector(answer),
        lambda second, fourth: torch.tensor([second, fourth - 3 * second**2]).double(),
        [(1.0, 3.5), (1.0, 1.0), (0.4, 0.3)], what="the pair of cumulants",
        describe=lambda second, fourth: f"<h^2> = {second} and <h^4> = {fourth}",
        hint="ln of 1 + x^2 <h^2>/2 + x^4 <h^4>/24, to fourth order")
    return "what is integrated out comes back as an interaction."
