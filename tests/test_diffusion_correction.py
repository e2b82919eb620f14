"""The independence sampler and reweighting, exact on small systems and on fields."""

from __future__ import annotations

import math

import pytest
import torch

from physml import exact, statistics
from physml.actions import FreeField, ZeroDimensionalPhi4
from physml.device import generator
from physml.diffusion import (
    GaussianScore,
    MixtureScore,
    VarianceExploding,
    effective_sample_size,
    expected_acceptance,
    independence_metropolis,
    log_partition,
    log_weights,
    propose,
    reweight,
)
from physml.errors import ShapeError
from physml.lattice import Lattice

F64 = {"dtype": torch.float64}
TARGET = torch.tensor([0.5, 0.3, 0.15, 0.05], **F64)
MODEL = torch.tensor([0.1, 0.4, 0.2, 0.3], **F64)
LATTICE = Lattice((4, 4))


def states(n, seed):
    """Return states of a system of four, drawn from the model, and their log weights."""
    state = torch.multinomial(MODEL, n, replacement=True, generator=generator(seed))
    return state, (TARGET / MODEL).log()[state]


def transitions():
    """Return the exact transition matrix of the independence sampler, rows to columns."""
    w = TARGET / MODEL
    matrix = MODEL * torch.minimum(torch.ones(4, 4, **F64), w / w[:, None])
    return matrix + torch.diag(1 - matrix.sum(1))


@pytest.mark.parametrize("chains", [1, 50])
def test_a_small_system(chains):
    """Occupations, transitions, acceptance and autocorrelation time, all in closed form."""
    state, log_weight = states(60000, 1)
    chain = independence_metropolis(log_weight, chains=chains, burn_in=20, generator=generator(2))
    matrix = transitions()
    torch.testing.assert_close(TARGET @ matrix, TARGET)  # the rule, before its code
    series = chain.series(state)
    assert series.shape == chain.accepted.shape == (chains, 60000 // chains - 21)
    for k in range(4):
        found = statistics.mean((series == k).double())
        assert abs(found.z(float(TARGET[k]))) < 3.5
    # transitions from a state are independent of each other
    for i in range(4):
        after = series[:, 1:][series[:, :-1] == i]
        for j in range(4):
            p = float(matrix[i, j])
            share = float((after == j).double().mean())
            assert abs(share - p) < 3.5 * math.sqrt(p * (1 - p) / len(after)) + 1e-12
    w = TARGET / MODEL
    pairs = torch.minimum(torch.ones(4, 4, **F64), w / w[:, None])
    accepted = float(TARGET @ pairs @ MODEL)
    found = statistics.mean(chain.accepted.double())
    assert abs(found.z(accepted)) < 3.5 and found.value == pytest.approx(chain.acceptance)
    # tau_int of the state's number: 1/2 + sum over t of its correlation, by the resolvent
    f = torch.arange(4, **F64) - float(TARGET @ torch.arange(4, **F64))
    ones = torch.ones(4, 1, **F64) * TARGET
    summed = torch.linalg.inv(torch.eye(4, **F64) - matrix + ones) - ones
    tau = float((TARGET * f) @ summed @ f / (TARGET @ f**2)) - 0.5
    got = chain.mean(torch.arange(4, **F64)[state])
    assert abs(got.tau_int - tau) < 3.5 * got.tau_int_error


def test_weights_of_a_small_system():
    state, log_weight = states(40000, 3)
    w = TARGET / MODEL
    ratio = 1 / float(MODEL @ w**2)
    assert effective_sample_size(log_weight) / 40000 == pytest.approx(ratio, rel=0.02)
    accepted = float(TARGET @ torch.minimum(torch.ones(4, 4, **F64), w / w[:, None]) @ MODEL)
    assert expected_acceptance(log_weight) == pytest.approx(accepted, abs=0.005)
    for k in range(4):
        assert abs(reweight((state == k).double(), log_weight=log_weight).z(float(TARGET[k]))) < 3.5
    assert abs(log_partition(log_weight).z(0.0)) < 3.5


def test_equal_weights():
    flat = torch.full((100,), -1e4)
    assert effective_sample_size(flat) == pytest.approx(100)
    assert expected_acceptance(flat) == pytest.approx(1)
    assert log_partition(flat).value == pytest.approx(-1e4) and log_partition(flat).error == 0
    chain = independence_metropolis(flat, generator=generator(1))
    assert chain.acceptance == 1 and chain.longest_stay == 0
    assert torch.equal(chain.index, torch.arange(1, 100)[None])


def test_gaussian_weights():
    """Acceptance erfc(s/2) and n_eff = n exp(-s^2)."""
    s = 0.8
    log_weight = s * torch.randn(200000, generator=generator(5), **F64)
    assert expected_acceptance(log_weight) == pytest.approx(math.erfc(s / 2), abs=0.005)
    assert effective_sample_size(log_weight) / 200000 == pytest.approx(math.exp(-s * s), rel=0.03)
    chain = independence_metropolis(log_weight, chains=200, burn_in=50, generator=generator(6))
    found = statistics.mean(chain.accepted.double())
    assert abs(found.z(math.erfc(s / 2))) < 3.5


def test_a_stuck_chain_is_seen():
    log_weight = torch.zeros(50)
    log_weight[3] = 100.0
    chain = independence_metropolis(log_weight, generator=generator(1))
    assert chain.longest_stay == 46 and int(chain.index[0, -1]) == 3
    assert "1 chains of 49" in repr(chain)


def test_a_wrong_model_of_one_degree_of_freedom_is_made_exact():
    """Two Gaussian peaks for the double well: biased by themselves, exact with either mend."""
    action, process = ZeroDimensionalPhi4(-1.0, 0.4), VarianceExploding(100.0)
    score = MixtureScore(process, torch.ones(2), torch.tensor([3.4, -3.4]), torch.full((2,), 1.5))
    drawn = propose(score, process, (), 20000, steps=30, generator=generator(1), **F64)
    log_weight = log_weights(action, drawn.fields, drawn.value)
    law = exact.quadrature(action)
    chain = independence_metropolis(log_weight, chains=20, burn_in=50, generator=generator(2))
    assert 0.5 < chain.acceptance < 0.95
    assert abs(log_partition(log_weight).z(law.log_z)) < 3.5
    for f in (torch.square, torch.abs, lambda x: x):
        values = f(drawn.fields)
        true = law.mean(f)
        assert abs(chain.mean(values).z(true)) < 3.5
        assert abs(reweight(values, log_weight=log_weight).z(true)) < 3.5
    assert abs(statistics.mean(drawn.fields**2).z(law.moment(2))) > 5  # it was wrong


def test_a_wrong_model_of_a_field_is_made_exact():
    """A free field of another mass, from the process's prior: <phi^2>, ln Z, the acceptance."""
    process, action = VarianceExploding(), FreeField(1.0, 2)
    score = GaussianScore.of_spectrum(LATTICE.free_spectrum(0.8), process)
    drawn = propose(score, process, LATTICE, 6000, steps=24, trace="analytic",
                    generator=generator(3), **F64)
    log_weight = log_weights(action, drawn.fields, drawn.value)
    spectrum = LATTICE.free_spectrum(1.0)
    phi2 = drawn.fields.square().mean((1, 2))
    chain = independence_metropolis(log_weight, chains=20, burn_in=20, generator=generator(4))
    for found in (chain.mean(phi2), reweight(phi2, log_weight=log_weight)):
        assert abs(found.z(exact.free_phi2(spectrum))) < 3.5
    assert abs(log_partition(log_weight).z(exact.free_log_z(spectrum))) < 3.5
    assert abs(statistics.mean(phi2).z(exact.free_phi2(spectrum))) > 5
    share = statistics.mean(chain.accepted.double())
    assert abs(share.z(expected_acceptance(log_weight))) < 3.5


def test_noise_in_the_log_density_costs_acceptance():
    """Constant noise biases nothing: erfc of the sum of both variances."""
    g = generator(7)
    log_weight = 0.5 * torch.randn(100000, generator=g, **F64)
    noise = 1.2 * torch.randn(100000, generator=g, **F64)
    expected = math.erfc(math.hypot(0.5, 1.2) / 2)
    assert expected_acceptance(log_weight + noise) == pytest.approx(expected, abs=0.01)
    chain = independence_metropolis(log_weight + noise, chains=100, burn_in=100, generator=g)
    # under the weights, ln w itself is shifted by its own variance, whatever the noise
    assert abs(chain.mean(log_weight).z(0.25)) < 3.5


def test_float32_weights():
    log_weight = torch.randn(500, generator=generator(1))
    assert effective_sample_size(log_weight) == pytest.approx(
        effective_sample_size(log_weight.double()), rel=1e-12)


@pytest.mark.parametrize(("call", "kind", "says"), [
    (lambda: effective_sample_size(torch.tensor([0.0, math.nan])), ValueError, "log_weight holds"),
    (lambda: effective_sample_size(torch.zeros(2, 2)), ShapeError, r"shape \(any\)"),
    (lambda: effective_sample_size(torch.zeros(0)), ShapeError, "empty"),
    (lambda: expected_acceptance(torch.zeros(1)), ValueError, "needs another field"),
    (lambda: reweight(torch.zeros(4), log_weight=torch.zeros(3)), ShapeError, "values must have"),
    (lambda: independence_metropolis(torch.zeros(7), chains=2, generator=generator(1)),
     ValueError, "leave 1 out"),
    (lambda: independence_metropolis(torch.zeros(6), burn_in=5, generator=generator(1)),
     ValueError, "burn_in must be"),
    (lambda: independence_metropolis(torch.zeros(6), chains=0, generator=generator(1)),
     ValueError, "chains must be"),
    (lambda: independence_metropolis(torch.zeros(6), generator=generator(1)).mean(torch.zeros(3)),
     ShapeError, "one for each field"),
    (lambda: log_weights(FreeField(1.0, 2), torch.zeros(3, 4, 4), torch.zeros(2)), ShapeError,
     "log_q must have"),
    (lambda: log_weights(FreeField(1.0, 2), torch.full((1, 4, 4), math.inf), torch.zeros(1)),
     ValueError, "phi holds"),
])
def test_bad_input(call, kind, says):
    with pytest.raises(kind, match=says):
        call()
