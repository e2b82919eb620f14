"""`physml.reweighting`: one order of arguments, and what its parts have in common."""

from __future__ import annotations

import math

import pytest
import torch

from physml import diffusion, phi4_learning, reweighting, statistics
from physml.device import generator


def weights(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fields of N(0, 1), and the weights that make them those of N(0, 1/2)."""
    phi = torch.randn(n, generator=generator(1), dtype=torch.float64)
    return phi, -0.5 * phi**2


def test_both_ways_to_reweight_independent_fields_agree():
    phi, log_w = weights(20_000)
    one = reweighting.reweight_independent(phi**2, log_weight=log_w)
    two = reweighting.reweight((phi**2)[:, None], log_weight=log_w[:, None])
    assert abs(one.z(0.5)) < 4
    assert two.real.value == pytest.approx(one.value, rel=1e-12)
    assert abs(two.real.error - one.error) < 4 * one.error_of_error
    assert two.fraction * len(phi) == pytest.approx(
        reweighting.effective_sample_size(log_w), rel=1e-12)
    ratio = reweighting.log_mean_weight(log_w)  # of the norms: sqrt(1/2)
    assert abs(ratio.z(-0.5 * math.log(2))) < 4
    assert two.log_ratio.value == pytest.approx(ratio.value, rel=1e-12)


@pytest.mark.parametrize("reweight", [
    diffusion.reweight, phi4_learning.reweight, reweighting.reweight,
    reweighting.reweight_independent])
def test_weights_are_given_by_name(reweight):
    """In either order the two were numbers, and one of them was wrong."""
    phi, log_w = (x.reshape(20, 10) for x in weights(200))
    for call in (lambda: reweight(phi, log_w), lambda: reweight(log_w, phi),
                 lambda: reweight(phi), lambda: reweight(phi, log_w, log_weight=log_w)):
        with pytest.raises(TypeError, match=r"^log_weight must be given by name, after (values|"
                                            r"observable): reweight\(\w+, log_weight=...\)"):
            call()


def test_names_in_their_old_places():
    assert diffusion.IndependenceChain is reweighting.IndependenceChain
    assert diffusion.effective_sample_size is reweighting.effective_sample_size
    assert phi4_learning.Reweighted is reweighting.Reweighted
    assert isinstance(diffusion.log_partition(torch.zeros(3)), statistics.Estimate)
