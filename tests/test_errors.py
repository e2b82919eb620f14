"""`physml.errors`: each check lets good input through and names what is wrong with the rest."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from physml.errors import (
    CheckpointError,
    DataUnavailable,
    ShapeError,
    StabilityError,
    check_finite,
    check_positive,
    check_positive_int,
    check_shape,
)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ShapeError, ValueError),
        (StabilityError, ValueError),
        (DataUnavailable, RuntimeError),
        (CheckpointError, RuntimeError),
    ],
)
def test_errors_are_built_in_ones_too(error, builtin):
    with pytest.raises(builtin, match="so it is"):
        raise error("so it is")


@pytest.mark.parametrize("good", [1, 0.5, 1e-300, np.float32(2), torch.tensor(3.0)])
def test_positive_numbers_pass_as_floats(good):
    assert check_positive("mass", good) == float(good)
    assert type(check_positive("mass", good)) is float


@pytest.mark.parametrize(
    "bad", [0, -1.0, math.nan, math.inf, -math.inf, "two", None, torch.ones(2), 10**400]
)
def test_other_numbers_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=r"^mass must be a finite positive number, not"):
        check_positive("mass", bad)


@pytest.mark.parametrize("good", [1, 7.0, np.int64(3), torch.tensor(5)])
def test_positive_integers_pass_as_integers(good):
    assert check_positive_int("sites", good) == int(good)
    assert type(check_positive_int("sites", good)) is int


@pytest.mark.parametrize("bad", [0, -3, 2.5, True, math.nan, math.inf, "4", None])
def test_other_integers_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=r"^sites must be an integer of at least 1, not"):
        check_positive_int("sites", bad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64])
@pytest.mark.parametrize(
    ("values", "count"),
    [([math.nan, 1, 2], 1), ([1, math.inf, -math.inf], 2), ([0, -math.inf, math.nan], 2)],
)
def test_nan_and_infinity_are_counted(dtype, values, count):
    with pytest.raises(ValueError, match=f"^field holds {count} NaN or infinite entries of 3"):
        check_finite("field", torch.tensor(values).to(dtype))


def test_a_single_nan_is_found_wherever_it_is():
    for at in (0, 4999, 9999):
        x = torch.zeros(100, 100)
        x.view(-1)[at] = math.nan
        with pytest.raises(ValueError, match="holds 1 NaN or infinite entries of 10000"):
            check_finite("field", x)


@pytest.mark.parametrize(
    "good",
    [
        torch.tensor([1.0, -1e38]),
        torch.tensor([1 + 2j]),
        torch.arange(3),
        torch.tensor([True]),
        torch.empty(0),
        torch.empty(3, device="meta"),
        torch.ones(2, requires_grad=True),
    ],
    ids=str,
)
def test_finite_tensors_pass_unchanged(good):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_finite("field", good) is good


def test_shapes():
    x = torch.zeros(3, 4)
    assert check_shape("x", x, (3, None)) is x
    with pytest.raises(ShapeError, match=r"^x must have shape \(any, 5\), not \(3, 4\)"):
        check_shape("x", x, (None, 5))
    with pytest.raises(ShapeError, match=r"^x must have shape \(any\), not \(3, 4\)"):
        check_shape("x", x, (None,))
