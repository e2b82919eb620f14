"""Two-point functions and their modes against matrices with known spectra, and against MNIST's."""

from __future__ import annotations

import math

import pytest
import torch

from physml import datasets, device, exercises, rbm, spectra
from physml.errors import DataUnavailable, ShapeError


def test_two_point_streams_to_the_plain_products():
    data = torch.randn(1001, 7, generator=device.generator(1)) + 1
    second, mean = spectra.two_point(data, block=100)
    wide = data.double()
    assert second.dtype == mean.dtype == torch.float64
    torch.testing.assert_close(second, wide.T @ wide / 1001, rtol=1e-12, atol=0)
    torch.testing.assert_close(mean, wide.mean(0), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(
        spectra.connected(second, mean), torch.cov(wide.T, correction=0), rtol=1e-9, atol=1e-12
    )


def test_two_point_of_bytes_is_that_of_grey_values():
    data = torch.randint(0, 256, (50, 5), generator=device.generator(1), dtype=torch.uint8)
    got, mean = spectra.two_point(data)
    want, want_mean = spectra.two_point(data.double() / 255)
    torch.testing.assert_close(got, want, rtol=1e-13, atol=0)
    torch.testing.assert_close(mean, want_mean, rtol=1e-13, atol=0)


def test_float64_sums_do_not_lose_small_terms():
    data = torch.full((5000, 2), 1e-4)
    data[0] = 1e3
    second, _ = spectra.two_point(data, block=64)
    exact = (1e6 + 4999 * float(torch.tensor(1e-4)) ** 2) / 5000
    assert float(second[0, 0]) == pytest.approx(exact, rel=1e-12)  # without the rest: 5e-11


def test_spectrum_of_a_known_matrix_counts_zero_modes():
    u = torch.linalg.qr(torch.randn(5, 5, generator=device.generator(2), dtype=torch.float64)).Q
    c = torch.tensor([5.0, 3.0, 1e-3, 0.0, 0.0], dtype=torch.float64)
    second = torch.zeros(8, 8, dtype=torch.float64)
    second[:5, :5] = (u * c) @ u.T
    got = spectra.spectrum(second)
    assert (got.zero_rows, got.zero_modes, got.rank) == (3, 5, 3)
    torch.testing.assert_close(got.variance[:3], c[:3], rtol=1e-11, atol=0)
    assert bool((got.variance[3:] == 0).all()) and bool(torch.isinf(got.kappa[3:]).all())
    torch.testing.assert_close(got.kappa[:3], 1 / c[:3], rtol=1e-11, atol=0)
    identity = torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(got.modes.T @ got.modes, identity, rtol=0, atol=1e-13)
    torch.testing.assert_close((got.modes * got.variance) @ got.modes.T, second, rtol=0, atol=1e-14)
    assert bool((got.modes.gather(0, got.modes.abs().argmax(0, keepdim=True)) > 0).all())


def test_spectrum_of_nothing_is_all_zero_modes():
    got = spectra.spectrum(torch.zeros(3, 3, dtype=torch.float64))
    assert (got.zero_rows, got.zero_modes, got.rank) == (3, 3, 0)
    torch.testing.assert_close(got.modes.sum(0), torch.ones(3, dtype=torch.float64))


def test_integer_rank_sees_what_rounding_hides():
    rows = torch.tensor([[1, 2, 3], [2, 4, 6], [0, 1, 10**6]], dtype=torch.int64)
    assert spectra.integer_rank(rows) == 2
    nearly = rows.clone()
    nearly[1, 2] += 1
    assert spectra.integer_rank(nearly) == 3
    assert spectra.integer_rank(torch.zeros(4, 4, dtype=torch.int64)) == 0
    assert spectra.integer_rank(7 * torch.eye(3, dtype=torch.int64), prime=7) == 0
    a = torch.randint(-9, 9, (30, 12), generator=device.generator(3))
    assert spectra.integer_rank((a @ a.T).double()) == 12
    with pytest.raises(ValueError, match="integers"):
        spectra.integer_rank(torch.full((2, 2), 0.5))


def test_noise_floor_of_equal_and_of_orthogonal_halves():
    a = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    same = spectra.noise_floor(a, a)
    torch.testing.assert_close(same.inside, same.outside)
    torch.testing.assert_close(same.overlap, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(same.subspace, torch.ones(3, dtype=torch.float64))
    b = torch.diag(torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64))
    swapped = spectra.noise_floor(a, b)
    assert swapped.outside.tolist() == pytest.approx([2, 3, 1])
    assert swapped.overlap.tolist() == pytest.approx([0, 0, 1])
    assert swapped.subspace.tolist() == pytest.approx([0, 1, 1])


def test_reconstruction_error_is_the_variance_left_out():
    scale = torch.tensor([3.0, 2.0, 1.0, 0.5])
    data = torch.randn(200, 4, generator=device.generator(4)) * scale
    second, _ = spectra.two_point(data)
    got = spectra.spectrum(second)
    lost = spectra.reconstruction_error(second, got.modes)
    for n in range(5):
        direct = ((data - spectra.reconstruct(data, got.modes, n)) ** 2).double().mean()
        assert float(lost[n]) == pytest.approx(float(direct), rel=1e-5, abs=1e-12)
    few = spectra.reconstruction_error(second, got.modes[:, :2])
    torch.testing.assert_close(few, lost[:3], rtol=1e-12, atol=0)
    white, _ = spectra.two_point(spectra.whiten(data.double(), got, 3))
    torch.testing.assert_close(white, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="n must lie"):
        spectra.reconstruct(data, got.modes, 5)


def test_shuffled_pixels_have_one_collective_mode():
    data = torch.randint(0, 9, (3000, 6), generator=device.generator(5)).float()
    data[:, :3] = 0
    before = data.clone()
    out = spectra.shuffle_pixels(data, device.generator(6), block=700)
    torch.testing.assert_close(data, before)
    torch.testing.assert_close(out.sort(1).values, data.sort(1).values, rtol=0, atol=0)
    second, _ = spectra.two_point(out)
    ones = torch.full((6,), 6**-0.5, dtype=torch.float64)
    # the mode of ones is the ink, which shuffling keeps exactly
    assert float(ones @ second @ ones) == pytest.approx(float((data.sum(1) ** 2).mean() / 6))
    mean = data.double().mean()
    # each column's mean is that of all entries: z-score below 4 (variance of an entry over n)
    z = (out.double().mean(0) - mean) / (data.double().std() / math.sqrt(3000))
    assert float(z.abs().max()) < 4


def test_excess_kurtosis_of_two_values_and_of_gaussians():
    signs = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
    got = spectra.excess_kurtosis(signs, torch.eye(2))
    assert got.tolist() == pytest.approx([-2, 7 / 3 - 3])  # p = 1/4: 1/(p(1-p)) - 6 = -2/3
    z = torch.randn(100_000, 1, generator=device.generator(7), dtype=torch.float64)
    # the estimate has the error sqrt(24/n) for Gaussians: z-score below 4
    assert abs(float(spectra.excess_kurtosis(z, torch.eye(1)))) < 4 * math.sqrt(24 / 100_000)


def test_energy_distance_between_gaussians_on_a_line():
    def normal(shift, seed):
        return torch.randn(20_000, 1, generator=device.generator(seed), dtype=torch.float64) + shift

    same = spectra.energy_distance(normal(0, 1), normal(0, 2))
    assert abs(same.value) < 4 * same.error
    got = spectra.energy_distance(normal(0, 1), normal(1, 3))
    # <|z|> for z normal with mean d and variance 2
    def mean_abs(d):
        return 2 / math.sqrt(math.pi) * math.exp(-(d**2) / 4) + d * math.erf(d / 2)

    exact = 2 * mean_abs(1) - 2 * mean_abs(0)
    assert abs(got.value - exact) < 4 * got.error
    assert got.error < 0.1 * exact


def test_errors_name_the_argument():
    with pytest.raises(ShapeError, match="data"):
        spectra.two_point(torch.zeros(3))
    with pytest.raises(ValueError, match="second"):
        spectra.spectrum(torch.full((2, 2), float("nan")))
    with pytest.raises(ShapeError, match="two"):
        spectra.energy_distance(torch.zeros(10, 2), torch.zeros(10, 3))
    with pytest.raises(ValueError, match="groups"):
        spectra.energy_distance(torch.zeros(10, 2), torch.zeros(10, 2))


def test_leading_modes_of_mnist():
    try:
        images = datasets.mnist(download=False)
    except DataUnavailable:
        pytest.skip("MNIST is not on this disk: run python -m physml.datasets mnist")
    second, mean = spectra.two_point(images.images.flatten(1))
    got = spectra.spectrum(second)
    assert got.variance[:4].tolist() == pytest.approx([38.09, 4.390, 3.741, 3.226], rel=2e-4)
    inner = spectra.spectrum(spectra.connected(second, mean))
    assert inner.variance[:4].tolist() == pytest.approx([5.117, 3.741, 3.253, 2.842], rel=2e-4)
    assert (got.zero_rows, inner.zero_rows) == (67, 67)
    gram = second * len(images) * 255**2
    assert float((gram - gram.round()).abs().max()) < 0.01
    assert spectra.integer_rank(gram.round()) == got.rank == 712


def test_checks_of_the_chapter_tell_right_from_wrong():
    c = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    assert exercises.check_modes_that_count(2, c, 0.2)
    assert not exercises.check_modes_that_count(3, c, 0.2)

    def lost(variance, n_hidden, mu2):
        # from the closed-form machines themselves
        second = torch.diag(variance)
        few, all_ = (rbm.ScalarFieldRBM.optimum(second, n, mu2) for n in (n_hidden, len(variance)))
        return all_.mean_log_likelihood(second) - few.mean_log_likelihood(second)

    assert exercises.check_likelihood_lost(lost)
    assert not exercises.check_likelihood_lost(lambda c, n, mu2: lost(c, n + 1, mu2))

    def shuffled(images):
        # the average over all cyclic shifts and their partners: all pairs of different pixels
        n = images.shape[1]
        other = sum((images * images.roll(k, 1)).mean() for k in range(1, n)) / (n - 1)
        same = (images**2).mean()
        matrix = other + (same - other) * torch.eye(n, dtype=images.dtype)
        return torch.linalg.eigvalsh(matrix)[[-1, 0]]

    assert exercises.check_shuffled_modes(shuffled)
    assert not exercises.check_shuffled_modes(lambda images: shuffled(images).flip(0))


def test_learned_levels_average_degenerate_modes_with_the_error_of_an_ar1_series():
    kappa = torch.tensor([4.0, 4.4, 4.4, 5.4, 8.0], dtype=torch.float64)
    a, n = 0.8, 40_000
    kick = torch.randn(n, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = [kick[0] / (1 - a**2) ** 0.5]
    for one in kick[1:]:
        noise.append(a * noise[-1] + one)
    series = kappa + 0.01 * torch.stack(noise)
    # a split pair: its mean is what counts
    final = kappa + torch.tensor([0.0, -0.1, 0.1, 0.0, 0.0])
    levels = spectra.learned_levels(series, final, kappa, mu2=7.0, n_hidden=4)
    assert [level.members for level in levels] == [(0,), (1, 2), (3,)]
    assert [level.kappa for level in levels] == [4.0, 4.4, 5.4]
    for level in levels:
        exact = 0.01 / (1 - a) / (n * len(level.members)) ** 0.5  # sqrt(2 tau_int / n) sigma
        assert level.learned.error == pytest.approx(exact, rel=0.1)
        assert level.learned.value == pytest.approx(level.kappa, abs=1e-12)
        assert level.z == pytest.approx(0, abs=1e-6)
    assert [m for level in spectra.learned_levels(series, final, kappa, 9.0, 2)
            for m in level.members] == [0, 1]
    shifted = spectra.learned_levels(series, final + levels[0].learned.error, kappa, 9.0, 1)
    assert shifted[0].z == pytest.approx(1)


def test_learned_levels_checks_shapes():
    kappa = torch.arange(1.0, 4.0)
    with pytest.raises(ValueError, match="series"):
        spectra.learned_levels(torch.ones(9, 2), kappa, kappa, 9.0, 2)
    with pytest.raises(ValueError, match="n_hidden"):
        spectra.learned_levels(torch.ones(9, 3), kappa, kappa, 9.0, 0)
    assert spectra.learned_levels(torch.ones(9, 3), kappa, kappa, 0.5, 2) == []
