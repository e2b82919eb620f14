from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from physml import exact, exercises
from physml.exercises import (
    NotYet,
    Result,
    compare_function,
    compare_number,
    core,
    seeded_cases,
)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(core, "_CHECKS", {})


def why(call, *args, **kwargs):
    """The reason with which a comparison refuses, or None."""
    try:
        call(*args, **kwargs)
    except NotYet as reason:
        return str(reason)


def test_every_check_of_a_chapter_is_found_in_one_place():
    names = [name for name in exercises.__all__ if name.startswith("check_")]
    assert names == sorted(names) and len(names) > 40
    for name in names:
        assert inspect.getdoc(getattr(exercises, name)), name


# --- checks


def test_result_is_a_sentence_and_a_truth_value():
    assert repr(Result(True, "so it is.")) == "Correct: so it is."
    assert repr(Result(False, "too small.")) == "Not yet: too small."
    assert Result(True, "") and not Result(False, "")


def test_check_answers_in_sentences():
    @exercises.check
    def check_gap(answer, scale=1.0):
        """Check the gap."""
        compare_number(answer, 0.25 * scale, what="the gap")
        return "the gap is the mass squared"

    assert repr(check_gap(0.25)) == "Correct: the gap is the mass squared."
    assert repr(check_gap(0.5, scale=2.0)) == "Correct: the gap is the mass squared."
    assert repr(check_gap(-0.25)) == "Not yet: the gap has the wrong sign."
    for nothing in ((), (None,), (...,)):
        assert repr(check_gap(*nothing)) == "Not yet: there is no answer yet."
    assert check_gap.__doc__ == "Check the gap."
    assert exercises.checks() == ("check_gap",)


def test_faults_of_the_check_itself_are_not_hidden():
    @exercises.check
    def check_broken(answer):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        check_broken(1)


def test_names_are_checked():
    with pytest.raises(ValueError, match="must be called check_"):

        @exercises.check
        def gap(answer):
            return ""

    def check_it(answer):
        return ""

    exercises.check(check_it)
    with pytest.raises(ValueError, match="there is a check called check_it already"):
        exercises.check(check_it)


# --- numbers


@pytest.mark.parametrize(
    "answer", [2.0, 2, np.float32(2.0), np.array([2.0]), torch.tensor(2.0), torch.tensor([[2]])]
)
def test_numbers_of_any_kind_are_taken(answer):
    assert why(compare_number, answer, 2.0) is None


def test_tolerance_of_numbers_is_what_it_says():
    assert why(compare_number, 100.09, 100.0, rtol=1e-3) is None
    assert (
        why(compare_number, 100.11, 100.0, rtol=1e-3) == "the answer is close, but not within 0.1%"
    )
    assert why(compare_number, 0.009, 0.0, atol=0.01) is None
    assert "too large" in why(compare_number, 0.011, 0.0, atol=0.01)
    assert "too small" in why(compare_number, -0.011, 0.0, atol=0.01)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (-3.0, "has the wrong sign"),
        (6.0, "is twice what it should be"),
        (1.5, "is half of what it should be"),
        (1 / 3, "is upside down"),
        (7.0, "is not 7, which is too large"),
        (2.0, "is not 2, which is too small"),
        (math.nan, "should be finite, and it is nan"),
        (1j, "complex"),
        ("3", "should be a number, and it is text"),
        ([1.0, 2.0], r"should be one number, and it is a tensor of shape \(2,\)"),
        (lambda: 3.0, "a function: call it"),
        ({}, "a dictionary"),
        (object(), "of type object"),
    ],
)
def test_wrong_numbers_get_a_reason_that_keeps_the_solution(answer, reason):
    with pytest.raises(NotYet, match=f"the gap .*{reason}") as caught:
        compare_number(answer, 3.0, what="the gap", hint="think of zero")
    assert "3.0" not in str(caught.value)


def test_hint_is_told_when_the_value_is_wrong():
    assert why(compare_number, 7, 3, what="the gap", hint="think of zero").endswith(
        "too large; think of zero"
    )


# --- functions


def kernel(weights, mu2):
    return mu2 * torch.eye(len(weights), dtype=weights.dtype) - weights @ weights.T


CASES = seeded_cases(lambda g: (torch.randn(4, 2, generator=g, dtype=torch.float64), 3.0))


def refuse(function, **kwargs):
    kwargs = {"what": "the kernel", "describe": lambda w, m: f"{len(w)} sites", **kwargs}
    return why(compare_function, function, kernel, CASES, **kwargs)


def test_right_functions_pass():
    assert refuse(kernel) is None
    assert refuse(lambda w, m: kernel(w, m).numpy()) is None
    assert refuse(lambda w, m: kernel(w, m).float()) is None  # rounding is below rtol
    assert refuse(lambda w, m: kernel(w, m).tolist()) is None
    assert refuse(lambda w, m: kernel(w.requires_grad_(), m)) is None


def test_cases_follow_the_seed():
    again = seeded_cases(lambda g: (torch.randn(4, 2, generator=g, dtype=torch.float64), 3.0))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(CASES, again, strict=True))
    assert len({float(case[0].sum()) for case in CASES}) == 5
    later = seeded_cases(lambda g: (torch.rand(1, generator=g),), count=2, seed=1)
    first = seeded_cases(lambda g: (torch.rand(1, generator=g),), count=2, seed=0)
    assert torch.equal(later[0][0], first[1][0])


def test_function_may_spoil_its_arguments():
    before = [case[0].clone() for case in CASES]

    def spoils(weights, mu2):
        result = kernel(weights, mu2)
        weights.zero_()
        return result

    assert refuse(spoils) is None
    assert all(torch.equal(a, case[0]) for a, case in zip(before, CASES, strict=True))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda w, m: -kernel(w, m), "for 4 sites, the kernel has the wrong sign"),
        (lambda w, m: 2 * kernel(w, m), "is twice what it should be"),
        (lambda w, m: kernel(w, m) / 2, "is half of what it should be"),
        (lambda w, m: kernel(w, m) + torch.eye(4), "is not right: 4 of 16 entries differ by"),
        (
            lambda w, m: w.T @ w,
            r"returns a tensor of shape \(2, 2\) where a tensor of shape \(4, 4\)",
        ),
        (lambda w, m: 1.0, "returns a number where a tensor of shape"),
        (lambda w, m: kernel(w, m) / 0, "returns values that are not finite"),
        (lambda w, m: None, "returns nothing yet"),
        (lambda w, m: ..., "returns nothing yet"),
        (lambda w, m: "text", "returns text"),
        (lambda w, m: kernel(w, m) * 1j, "complex"),
        (lambda w: w, "fails with TypeError: .*takes 1 positional argument"),
        (lambda w, m: w @ w, "fails with RuntimeError"),
        (lambda w, m: 1 / 0, "fails with ZeroDivisionError: division by zero"),
        (torch.eye(4), "should be a function, and it is of type Tensor"),
        (3.0, "should be a function, and it is of type float"),
    ],
)
def test_wrong_functions_get_a_reason(function, reason):
    with pytest.raises(NotYet, match=reason):
        compare_function(
            function, kernel, CASES, what="the kernel", describe=lambda w, m: f"{len(w)} sites"
        )


def test_transposed_answer_is_recognised():
    def shear(x):
        return torch.tensor([[1.0, x], [0.0, 1.0]])

    reason = why(compare_function, lambda x: shear(x).T, shear, [(2.0,)])
    assert reason == "in case 1, your function is the transpose of what it should be"


def test_an_error_in_one_case_only_is_found_and_named():
    def forgets_the_mass(n, mass):
        return float(n)

    cases = [(1, 0.0), (2, 0.0), (3, 0.5)]
    reason = why(
        compare_function,
        forgets_the_mass,
        lambda n, mass: n + mass,
        cases,
        describe=lambda n, mass: f"{n} sites of mass {mass}",
        hint="what does the mass do?",
    )
    assert reason.startswith("for 3 sites of mass 0.5, your function is not right: the value ")
    assert "differs by 0.14 of what it should be" in reason
    assert reason.endswith("; what does the mass do?")


def test_tolerance_of_functions_is_relative_to_the_largest_entry():
    reference = torch.tensor([100.0, 0.0], dtype=torch.float64)

    def off_by(error):
        return lambda x: reference + torch.tensor([0.0, error])

    assert why(compare_function, off_by(9e-4), lambda x: reference, [(0,)], rtol=1e-5) is None
    assert "1 of 2 entries" in why(
        compare_function, off_by(1.1e-3), lambda x: reference, [(0,)], rtol=1e-5
    )
    zero = torch.zeros(2)
    assert why(compare_function, lambda x: zero, lambda x: zero, [(0,)]) is None
    assert why(compare_function, lambda x: zero + 1, lambda x: zero, [(0,)]).endswith("from zero")


# --- the checks of the chapters

VARIANCE = torch.tensor([4.0, 1.0, 0.5, 0.25, 0.0], dtype=torch.float64)


def hidden_eigenvalues(weight, mu2, sigma):
    return 1 / sigma**2 - torch.linalg.svdvals(weight) ** 2 / mu2


def nats_lost(variance, n_hidden, mu2):
    c = variance[n_hidden:]
    c = c[c > 1 / mu2]
    return 0.5 * (mu2 * c - 1 - (mu2 * c).log()).sum()


def shuffled_pair(images):
    n = images.shape[1]
    square, ink = (images**2).sum(1).mean() / n, (images.sum(1) ** 2).mean() / n
    return [ink, (n * square - ink) / (n - 1)]


def bias(weight, mu2, mean):
    kernel = mu2 * torch.eye(len(weight), dtype=weight.dtype) - weight @ weight.T
    return torch.linalg.pinv(torch.linalg.inv(kernel) @ weight) @ mean


# by name: arguments after the answer, a right answer, and wrong ones with what is said of them
CHECKS = {
    "hidden_kernel": ((), hidden_eigenvalues, [
        (lambda w, mu2, sigma: sigma**2 * hidden_eigenvalues(w, mu2, sigma), "mind sigma"),
        (lambda w, mu2, sigma: mu2 - sigma**2 * torch.linalg.svdvals(w.T) ** 2, "is not right"),
        (lambda w, mu2, sigma: torch.linalg.eigvalsh(mu2 - w @ w.T), "a tensor of shape (5,)"),
        (0.25, "should be a function")]),
    "step_order": ((), 1, [(2, "is twice"), (0.5, "is half"), ("first", "it is text")]),
    "growth_ratio": ((), 10.0, [
        (0.1, "upside down"), (2, "put that into the flow"), (5 / 36, "too small")]),
    "mass_plateau": ((), 5 / (2 / 6.618 + 2 / 7.618 + 1 / 8), [
        ((2 * 6.618 + 2 * 7.618 + 8) / 5, "is close, but"), (5.657, "too small"), (8, "large")]),
    "smallest_machine": ((), 7, [(6, "too small"), (8, "too large")]),
    "mixing_time": ((), lambda kappa, mu2: (2 - kappa / mu2) / (2 * kappa / mu2), [
        (lambda kappa, mu2: mu2 / kappa, "count the half"),
        (lambda kappa, mu2: 2 * mu2 / kappa - 1, "is twice")]),
    "cd_factor": ((), lambda lam, mu2, k: 1 - ((mu2 - lam) / mu2) ** (2 * k), [
        (lambda lam, mu2, k: 1 - ((mu2 - lam) / mu2) ** k, "needs its square"),
        (lambda lam, mu2, k: ((mu2 - lam) / mu2) ** (2 * k) - 1, "has the wrong sign")]),
    "square_modes": ((), 25, [(39, "exactly at the cut-off"), (64, "too large")]),
    "modes_that_count": ((VARIANCE, 0.3), 3, [(4, "one mode"), (2, "too small")]),
    "likelihood_lost": ((), nats_lost, [
        (lambda c, n, mu2: 2 * nats_lost(c, n, mu2), "is twice"),
        (lambda c, n, mu2: 0.5 * (mu2 * c[n:-1] - 1 - (mu2 * c[n:-1]).log()).sum(), "both")]),
    "shuffled_modes": ((), shuffled_pair, [
        (lambda x: shuffled_pair(x)[::-1], "collective mode first"),
        (lambda x: shuffled_pair(x)[0], "a number where a tensor of shape (2,)")]),
    "modes_for_error": ((VARIANCE, 0.2), 2, [(1, "adds up"), (3, "too large")]),
    "sweeps_to_reach": ((), lambda kappa, mu2, part: 0.5 * math.log(1 - part)
                        / math.log(1 - kappa / mu2), [
        (lambda kappa, mu2, part: math.log(1 - part) / math.log(1 - kappa / mu2), "is twice"),
        (lambda kappa, mu2, part: mu2 / kappa, "rho^(2t)")]),
    "mean_bias": ((), bias, [
        (lambda w, mu2, mean: torch.linalg.pinv(w) @ mean, "K^-1 W eta"),
        (lambda w, mu2, mean: w @ bias(w, mu2, mean), "a tensor of shape (6,)")]),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_right_answer_is_praised_and_typical_wrong_ones_told_why(name):
    arguments, right, wrong = CHECKS[name]
    checked = getattr(exercises, f"check_{name}")
    assert repr(checked(right, *arguments)).startswith("Correct: ")
    assert repr(checked(None, *arguments)) == "Not yet: there is no answer yet."
    for answer, reason in wrong:
        result = checked(answer, *arguments)
        assert not result
        assert reason in result.message, result.message
        if isinstance(right, (int, float)) and right != 1:  # the solution is not given away
            assert f"{right:g}" not in result.message


def test_an_open_stub_is_told_that_it_returns_nothing():
    """Whatever a check does with the function: no reader should read of types of Python."""
    for name in exercises.checks():
        if len(inspect.signature(getattr(exercises, name)).parameters) > 1:
            continue  # it wants numbers of the reader's as well
        for empty in (None, ...):
            said = str(getattr(exercises, name)(lambda *_, empty=empty: empty))
            assert said.startswith("Not yet") and "type" not in said, (name, said)


def test_no_chapter_check_is_without_a_test(root):
    defined = {name for name in vars(exercises) if name.startswith("check_")}
    others = "".join(p.read_text() for p in (root / "tests").glob("test_*_*.py"))
    tested = {f"check_{name}" for name in CHECKS} | {n for n in defined if f"{n}," in others}
    assert defined == tested


def test_checks_know_the_library_s_own_closed_forms():
    kappa = exact.chain_spectrum(10, 4.0)
    assert exercises.check_mass_plateau(exact.rbm_mass_plateau(kappa, 5))
    rho = exact.rbm_gibbs_correlation
    assert exercises.check_mixing_time(
        lambda kappa, mu2: (1 + float(rho(torch.tensor(kappa), mu2)))
        / (2 * (1 - float(rho(torch.tensor(kappa), mu2)))))
    assert exercises.check_modes_for_error(0, VARIANCE, 2.0)
