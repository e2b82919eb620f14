r"""Errors of averages over Markov chains: the :math:`\Gamma`-method and the jackknife.

Conventions. A series has the shape ``(time,)``, ``(chains, time)`` or
``(chains, time, observables)``; the chains are independent, equally long and share one
distribution, so the mean that is subtracted everywhere is the one over all of them. With
:math:`\Gamma(t)=\langle(a_s-\bar a)(a_{s+t}-\bar a)\rangle` and :math:`\rho=\Gamma/\Gamma(0)`,

.. math:: \tau_{\rm int}=\tfrac12+\sum_{t\ge1}\rho(t),\qquad
          \sigma^2(\bar a)=\frac{2\tau_{\rm int}}{n}\Gamma(0),

for `n` measurements in all. Uncorrelated data have :math:`\tau_{\rm int}=\frac12`; other codes
(emcee among them) quote :math:`2\tau_{\rm int}` under the same name.

The sum must be cut at a window `W`: too early and the error is too small, too late and it is
noise. `mean` and `function_of_means` choose `W` as in U. Wolff, Comput. Phys. Commun. 156 (2004)
143, hep-lat/0306017, with the errors of :math:`\tau_{\rm int}` (eq. 42) and of the error there.

Squares are taken in units of a power of two close to the largest number of each observable, so that
weights of :math:`10^{-200}` have errors like any others: in a series times :math:`2^k` all results
are the same to the bit, those with a unit times :math:`2^k`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import torch

from .device import derivatives
from .errors import ShapeError, check_finite, check_positive, check_positive_int

__all__ = [
    "Estimate",
    "JackknifeEstimate",
    "MeanEstimate",
    "ShortChainError",
    "ShortChainWarning",
    "autocorrelation",
    "function_of_means",
    "jackknife",
    "mean",
    "split_rhat",
]


@dataclass(frozen=True, repr=False)
class Estimate:
    """A number with its standard error, printed as ``0.762(3)``.

    The error is rounded to one significant digit, to two if the first is a 1, and the value to
    the last digit of the error; ``f"{x:.2}"`` asks for two digits of the error instead, and
    ``f"{x:>12.2}"`` also for a width. An error of at least 1 with a decimal point keeps it, as in
    ``12.0(1.2)``; numbers from a million up and below 1e-4 are printed as ``1.602(3)e-19``. A zero
    error marks an exact number, printed in full with ``(0)``.

    Parameters
    ----------
    value
        The estimate.
    error
        One standard deviation, not negative.
    """

    value: float
    error: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "error", float(self.error))
        if self.error < 0:
            raise ValueError(f"error must not be negative, but is {self.error}")

    def __str__(self) -> str:
        return _value_with_error(self.value, self.error, None)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        layout, digits = re.fullmatch(r"(.*?)(?:\.([1-9]))?", spec).groups()
        text = _value_with_error(self.value, self.error, int(digits) if digits else None)
        try:
            return format(text, layout)
        except ValueError:
            raise ValueError(
                f"format {spec!r} is not known for a number with an error: '.2' gives two digits "
                "of the error, '>12.2' also a width"
            ) from None

    def __float__(self) -> float:
        return self.value

    def __add__(self, other: Estimate | float) -> Estimate:
        """Return the sum; the two are taken as independent, so errors add in quadrature.

        They are not where both come from the same chains: `function_of_means` knows how those are
        correlated. A plain number has no error.
        """
        if isinstance(other, Estimate):
            return Estimate(self.value + other.value, math.hypot(self.error, other.error))
        return Estimate(self.value + other, self.error) if _is_number(other) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Estimate | float) -> Estimate:
        """Return the difference; the two are taken as independent, as in a sum."""
        return self + -other if isinstance(other, Estimate) or _is_number(other) else NotImplemented

    def __rsub__(self, other: float) -> Estimate:
        return Estimate(other - self.value, self.error) if _is_number(other) else NotImplemented

    def __mul__(self, factor: float) -> Estimate:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        names = [n for n in ("error", "error_of_error") if hasattr(self, n)]
        scaled = {name: abs(factor) * getattr(self, name) for name in names}
        if hasattr(self, "bias"):
            scaled["bias"] = factor * self.bias
        return replace(self, value=factor * self.value, **scaled)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Estimate:
        return self * (1 / divisor) if isinstance(divisor, (int, float)) else NotImplemented

    def __neg__(self) -> Estimate:
        return self * -1.0

    def z(self, other: Estimate | float) -> float:
        """Return ``self - other`` in units of the combined standard error.

        The two are taken as independent; a plain number has no error. Between two exact numbers
        the result is 0 if they agree and infinite if not.
        """
        error = math.hypot(self.error, other.error if isinstance(other, Estimate) else 0.0)
        difference = self.value - float(other)
        if error == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / error


@dataclass(frozen=True, repr=False)
class MeanEstimate(Estimate):
    r"""An average over Markov chains, with what is known about its error.

    Parameters
    ----------
    value, error
        The average and its standard error, autocorrelation included.
    error_of_error
        Standard error of `error`.
    tau_int, tau_int_error
        Integrated autocorrelation time :math:`\tau_{\rm int}=\frac12+\sum\rho(t)` in units of the
        measurement interval, and its standard error. Codes that leave out the factor
        :math:`\frac12` quote twice this number.
    window
        The lag `W` at which the sum was cut.
    n
        Number of measurements, all chains together.
    """

    error_of_error: float
    tau_int: float
    tau_int_error: float
    window: int
    n: int

    @property
    def tau(self) -> Estimate:
        r""":math:`\tau_{\rm int}=\frac12+\sum\rho(t)` with its error, to be printed."""
        return Estimate(self.tau_int, self.tau_int_error)


@dataclass(frozen=True, repr=False)
class JackknifeEstimate(Estimate):
    """A function of means with its jackknife error.

    Parameters
    ----------
    value, error
        The function at the means of all data, and its standard error.
    error_of_error
        Standard error of `error`, from the number of bins.
    bias
        Jackknife estimate of the bias of `value`; ``value - bias`` is free of it to order 1/n.
    bins, bin_size
        Number of bins in all, and the smallest number of measurements in one.
    """

    error_of_error: float
    bias: float
    bins: int
    bin_size: int


class _WithEstimate(Exception):
    """A message, and the best estimate there is; copies and pickles keep both."""

    def __init__(self, message: str, estimate: Estimate) -> None:
        super().__init__(message)
        self.estimate = estimate

    def __reduce__(self) -> tuple:  # by default only the message would come back
        return type(self), (*self.args, self.estimate)


class ShortChainWarning(_WithEstimate, UserWarning):
    """The chains are too short for a trustworthy error; `estimate` is the best there is."""


class ShortChainError(_WithEstimate, ValueError):
    """As `ShortChainWarning`, raised where ``strict=True`` was asked for."""


def autocorrelation(
    series: torch.Tensor, max_lag: int | None = None, *, normalised: bool = True
) -> torch.Tensor:
    r"""Return the autocorrelation function of a series.

    :math:`\Gamma(t)=\frac1{R(T-t)}\sum_{r=1}^R\sum_{s=1}^{T-t}
    (a_{r,s}-\bar a)(a_{r,s+t}-\bar a)` for `R` chains of length `T`, with the mean over all chains
    (Wolff, hep-lat/0306017); no bias of order 1/n is corrected. The sums are done by fast
    Fourier transformation in blocks of about `max_lag`, so a short `max_lag` is much faster.

    Parameters
    ----------
    series
        ``(time,)``, ``(chains, time)`` or ``(chains, time, observables)``.
    max_lag
        The largest lag; by default all, ``time - 1``.
    normalised
        Divide by :math:`\Gamma(0)` (the default), which gives :math:`\rho(t)`. A constant series
        has no fluctuations to correlate: its :math:`\rho` is returned as 1 at lag 0, 0 elsewhere.

    Returns
    -------
    ``(max_lag + 1,)``, or ``(observables, max_lag + 1)``; dtype and device as the series.
    """
    rows, vector = _series("series", series)
    longest = rows.shape[-1] - 1
    if max_lag is None:
        max_lag = longest
    elif isinstance(max_lag, bool) or int(max_lag) != max_lag or not 0 <= max_lag <= longest:
        raise ValueError(
            f"max_lag must be an integer from 0 to time - 1 = {longest}, not {max_lag}"
        )
    _, deviations, unit = _centre(rows)
    gamma = torch.stack([_gamma(d, int(max_lag)) for d in deviations])
    if not normalised:
        size = _power_of_2(unit, gamma)[:, None]
        gamma = gamma * size * size
    else:
        variance = gamma[:, :1]
        flat = torch.zeros_like(gamma)
        flat[:, 0] = 1
        gamma = torch.where(variance > 0, gamma / variance, flat)
    gamma = gamma if vector else gamma[0]
    return gamma.to(series.dtype) if _is_float(series) else gamma


def mean(
    series: torch.Tensor,
    *,
    window: str = "gamma",
    s_tau: float = 1.5,
    c: float = 5.0,
    strict: bool = False,
) -> MeanEstimate | list[MeanEstimate]:
    r"""Return the mean of a series with its error, autocorrelation included.

    The integrated autocorrelation time :math:`\tau_{\rm int}=\frac12+\sum_{t=1}^W\rho(t)` (0.5 for
    uncorrelated data) is summed up to a window `W`, which is

    * ``"gamma"``: the first `W` with :math:`e^{-W/\tau}<\tau/\sqrt{Wn}`, where the decay time
      :math:`\tau` is `s_tau` times what :math:`\tau_{\rm int}(W)` implies for a single
      exponential; there the bias of the cut and the noise of the sum balance (Wolff,
      hep-lat/0306017);
    * ``"sokal"``: the first :math:`W\ge c\,\tau_{\rm int}(W)` (A. Sokal, Monte Carlo Methods in
      Statistical Mechanics, 1997). emcee quotes :math:`2\tau_{\rm int}` and measures windows in
      it: its ``c=5`` is `c` = 10 here.

    In both, :math:`|\rho|` takes the place of :math:`\rho` in the rule (not in the result) where
    the sum says that the chain is anticorrelated, or the window would close at once. The bias of
    order 1/n from subtracting the mean is corrected (Wolff, eq. 49).

    Parameters
    ----------
    series
        ``(time,)``, ``(chains, time)`` or ``(chains, time, observables)``.
    window
        ``"gamma"`` or ``"sokal"``.
    s_tau
        Guess of the ratio of the slowest decay time to that of a single exponential; for
        ``"gamma"`` only.
    c
        Windows in units of :math:`\tau_{\rm int}`; for ``"sokal"`` only.
    strict
        Raise `ShortChainError` instead of warning.

    Returns
    -------
    A `MeanEstimate`, or a list of one for each observable.

    Warns
    -----
    ShortChainWarning
        If all chains together hold fewer than :math:`50\,\tau_{\rm int}` measurements, or if the
        window does not close within half a chain. Its `estimate` holds the result (the worst of
        several observables).
    """
    rule = _rule(window, s_tau, c)
    rows, vector = _series("series", series, least=2)
    centre, deviations, unit = _centre(rows)
    results = [
        _gamma_method(value, d, rule, power)
        for value, d, power in zip(centre.tolist(), deviations, unit.tolist(), strict=True)
    ]
    _complain(results, strict)
    estimates = [estimate for estimate, _ in results]
    return estimates if vector else estimates[0]


def function_of_means(
    f: Callable[..., torch.Tensor],
    *series: torch.Tensor,
    window: str = "gamma",
    s_tau: float = 1.5,
    c: float = 5.0,
    strict: bool = False,
) -> MeanEstimate | list[MeanEstimate]:
    r"""Return a function of means with its error by linear error propagation.

    With :math:`f_\alpha=\partial f/\partial\bar a_\alpha` at the means, by automatic
    differentiation, the error is that of the mean of the single series
    :math:`\sum_\alpha f_\alpha a_\alpha` (Wolff, hep-lat/0306017); correlations
    between the series are thereby included, and :math:`\tau_{\rm int}=\frac12+\sum\rho(t)` is that
    of `f`. The value has a bias of order 1/n, which `jackknife` estimates.

    Parameters
    ----------
    f
        Called with one mean for each series, and written in torch operations. A mean has the shape
        ``()``, or ``(observables,)`` for a series with that axis. The result is a number or a
        vector.
    series
        Measurements on the same chains: their ``(chains, time)`` must agree.
    window, s_tau, c, strict
        As for `mean`.

    Returns
    -------
    A `MeanEstimate`, or a list of one for each component of `f`.

    Examples
    --------
    >>> phi2 = torch.tensor([1.0, 3.0, 2.0, 2.5, 1.5] * 40)
    >>> function_of_means(lambda m2, m4: 1 - m4 / (3 * m2**2), phi2, phi2**2).n
    200
    """
    rule = _rule(window, s_tau, c)
    arguments = _arguments(series)
    with derivatives():
        means = [(m if vector else m[0]).clone().requires_grad_(True)
                 for (m, _, _), vector in arguments]
        values = _call(f, means)
        if not values.requires_grad:
            raise ValueError(
                "f returns a tensor that does not depend on the means it was given: write it in "
                "torch operations, without `float`, `item` or numpy"
            )
        components = values.reshape(-1)
        slopes = [torch.autograd.grad(value, means, retain_graph=True, allow_unused=True)
                  for value in components]
    results = []
    for value, gradients in zip(components, slopes, strict=True):
        projected = 0
        for gradient, ((_, deviations, unit), _) in zip(gradients, arguments, strict=True):
            if gradient is not None:
                check_finite("the derivative of f", gradient)
                slope = gradient.reshape(-1) * _power_of_2(unit, gradient)
                projected = projected + torch.einsum("o,ort->rt", slope, deviations)
        if isinstance(projected, int):
            raise ValueError("a component of f depends on none of the series")
        check_finite("the derivative of f times a series", projected)
        projected, unit = _in_units(projected[None])
        results.append(_gamma_method(float(value.detach()), projected[0], rule, int(unit)))
    _complain(results, strict)
    estimates = [estimate for estimate, _ in results]
    return estimates if values.ndim else estimates[0]


def jackknife(
    f: Callable[..., torch.Tensor],
    *series: torch.Tensor,
    bin_size: int | None = None,
    strict: bool = False,
) -> JackknifeEstimate | list[JackknifeEstimate]:
    r"""Return a function of means with its error by the binned jackknife.

    Each chain is cut into bins of nearly equal length, none shorter than `bin_size`. From the
    values :math:`f_b` at the means of all data but those of bin `b`, the error is
    :math:`\sigma^2=\frac{B-1}B\sum_b(f_b-\bar f)^2` and the bias :math:`(B-1)(\bar f-f)`
    (B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chs. 2 and 3). The
    leave-one-out means come from the sums of the bins, in a time linear in the data.

    Parameters
    ----------
    f
        Called with one mean for each series: shape ``()``, or ``(observables,)`` for a series with
        that axis. The result is a number or a vector.
    series
        Measurements on the same chains: their ``(chains, time)`` must agree.
    bin_size
        Must be much longer than the autocorrelation time. By default
        :math:`(2n\tau_{\rm int}^2)^{1/3}` with the largest :math:`\tau_{\rm int}=\frac12+\sum\rho`
        of all series, where the remaining correlation between bins costs as much as their small
        number (derivation: for one exponential the two relative errors of the error are
        :math:`\tau_{\rm int}/2b` and :math:`\sqrt{b/2n}`).
    strict
        Raise `ShortChainError` instead of warning.

    Returns
    -------
    A `JackknifeEstimate`, or a list of one for each component of `f`.

    Warns
    -----
    ShortChainWarning
        If there are fewer than 20 bins, or if the bin size was left to the autocorrelation time
        and that cannot be trusted (see `mean`).
    """
    arguments = _arguments(series)
    chains, time = arguments[0][0][1].shape[-2:]
    n = chains * time
    short = False
    if bin_size is None:
        rule = _rule("gamma", 1.5, 5.0)
        found = [_gamma_method(0.0, d, rule, 0) for (_, ds, _), _ in arguments for d in ds]
        short = any(unsafe for _, unsafe in found)
        tau = max(max(estimate.tau_int for estimate, _ in found), 0.5)
        bin_size = max(1, round((2 * n * tau**2) ** (1 / 3)))
    else:
        bin_size = check_positive_int("bin_size", bin_size)
    per_chain = max(1, time // bin_size)
    bins = per_chain * chains
    if bins < 2:
        raise ValueError(
            f"bin_size={bin_size} leaves a single bin of {n} measurements: choose it smaller, or "
            "measure for longer"
        )

    device = arguments[0][0][1].device
    edges = torch.arange(per_chain + 1, device=device) * time // per_chain
    left = n - edges.diff().repeat(chains)
    whole, reduced = [], []
    for (means, deviations, unit), vector in arguments:
        running = torch.nn.functional.pad(deviations.cumsum(-1), (1, 0))[..., edges]
        in_bin = running.diff(dim=-1).flatten(1)  # (observables, bins)
        # deviations add up to zero, so what is left has the sum -in_bin: nothing large cancels
        without = means - (in_bin / left).T * _power_of_2(unit, means)
        whole.append(means if vector else means[0])
        reduced.append(without if vector else without[:, 0])

    value = _call(f, whole).detach()
    samples = _each(f, reduced).detach().reshape(bins, -1)
    check_finite("f at the leave-one-out means", samples)
    # small next to the value: centre it before squaring
    offset, unit = _in_units((samples - value.reshape(-1)).T[:, None])
    offset, size = offset[:, 0].T, _power_of_2(unit, value)
    bias = (bins - 1) * offset.mean(0) * size
    error = ((bins - 1) * (offset - offset.mean(0)).square().mean(0)).sqrt() * size
    results = [
        JackknifeEstimate(v, e, e / math.sqrt(2 * (bins - 1)), b, bins, time // per_chain)
        for v, e, b in zip(
            value.reshape(-1).tolist(), error.tolist(), bias.tolist(), strict=True
        )
    ]
    if short or bins < 20:
        why = "the autocorrelation time is not known well" if short else f"only {bins} bins"
        _emit(
            f"the jackknife error may be wrong: {why} in {chains} x {time} measurements; "
            "run longer chains",
            results[0],
            strict,
        )
    return results if value.ndim else results[0]


def split_rhat(series: torch.Tensor) -> float | list[float]:
    r"""Return the potential scale reduction :math:`\hat R` of chains cut in half.

    :math:`\hat R^2=\frac{T-1}T+\frac{B}{TW}` for half chains of length `T`, with the variance
    within them, `W`, and `B/T` the variance of their means (A. Gelman et al., Bayesian Data
    Analysis, 3rd ed., sect. 11.4). It is 1 when all halves agree; above about 1.01 the chains
    have not met yet, or drift.

    Parameters
    ----------
    series
        ``(time,)``, ``(chains, time)`` or ``(chains, time, observables)``, at least 4 times. Of an
        odd number of times the middle one is left out.

    Returns
    -------
    A float, or a list of one for each observable: NaN if nothing moves at all, infinite if chains
    are stuck at different values.
    """
    rows, vector = _series("series", series, least=4)
    if rows.shape[-1] < 4:
        raise ShapeError(f"series must hold at least 4 times, not {rows.shape[-1]}")
    half = rows.shape[-1] // 2
    _, deviations, _ = _centre(rows)
    halves = torch.cat([deviations[..., :half], deviations[..., -half:]], dim=-2)
    within = halves.var(-1).mean(-1)
    between = halves.mean(-1).var(-1)
    rhat = ((half - 1) / half + between / within).sqrt().tolist()
    return rhat if vector else rhat[0]


# ---------------------------------------------------------------------------------------------


def _is_number(x: object) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def _is_float(series: object) -> bool:
    return isinstance(series, torch.Tensor) and series.is_floating_point()


def _series(name: str, series: torch.Tensor, least: int = 1) -> tuple[torch.Tensor, bool]:
    """Return the series as ``(observables, chains, time)`` in double precision where the device
    has it, and whether it came with an axis of observables."""
    if isinstance(series, torch.Tensor):  # where it is: `as_tensor` would take it elsewhere
        tensor = series.detach()
    else:
        tensor = torch.as_tensor(series, device="cpu")
        if isinstance(series, (list, tuple)) and not tensor.is_complex():  # Python's are wide
            tensor = torch.as_tensor(series, dtype=torch.float64, device="cpu")
    if tensor.is_complex():
        raise ValueError(f"{name} is complex: give its `.real` and `.imag` as two series")
    if not 1 <= tensor.ndim <= 3:
        raise ShapeError(
            f"{name} must have shape (time,), (chains, time) or (chains, time, observables), "
            f"not {tuple(tensor.shape)}"
        )
    vector = tensor.ndim == 3
    observables = tensor.shape[-1] if vector else 1
    if tensor.numel() < least * max(observables, 1):
        raise ShapeError(
            f"{name} of shape {tuple(tensor.shape)} holds too few measurements: at least {least} "
            "are needed"
        )
    check_finite(name, tensor)
    rows = tensor.movedim(-1, 0).contiguous() if vector else tensor.reshape(1, -1, tensor.shape[-1])
    return rows.to(torch.float32 if tensor.device.type == "mps" else torch.float64), vector


def _in_units(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows of each observable over a power of two, and its exponent: a new tensor.

    The largest number is then about 1, so that squares neither vanish nor overflow; what is not
    lost is the same to the bit, for a power of two changes no digit.
    """
    low, high = torch.aminmax(rows.flatten(1), dim=1)
    top = torch.maximum(-low, high)
    exponent = torch.frexp(top.cpu() if top.device.type == "mps" else top).exponent
    # short of the ends of the range, where the power itself would vanish or overflow
    most = 1020 if rows.dtype == torch.float64 else 120
    exponent = exponent.to(rows.device).clamp(-most, most)
    return rows * _power_of_2(-exponent, rows)[:, None, None], exponent


def _power_of_2(exponent: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return ``2**exponent`` in the type of the tensor `like`."""
    return torch.exp2(exponent.to(like.dtype))  # `ldexp` goes through float32


def _centre(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the means over all chains, ``(observables,)``, the deviations from them in units of a
    power of two each, and the exponents of these."""
    shifted, unit = _in_units(rows)
    # the first entry goes first: constants become exact zeros, and a large offset costs no digits
    first = shifted[:, :1, :1].clone()
    shift = shifted.sub_(first).mean((-2, -1), keepdim=True)
    means = (first + shift).reshape(-1) * _power_of_2(unit, rows)
    return means, shifted.sub_(shift), unit


def _arguments(
    series: Sequence[torch.Tensor],
) -> list[tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], bool]]:
    if not series:
        raise TypeError("give at least one series after f")
    found = [_series(f"series {i}", s, least=2) for i, s in enumerate(series)]
    shapes = [tuple(rows.shape[1:]) for rows, _ in found]
    if len(set(shapes)) > 1:
        raise ShapeError(f"all series must have the same (chains, time), but these have {shapes}")
    return [(_centre(rows), vector) for rows, vector in found]


def _call(f: Callable[..., torch.Tensor], means: Sequence[torch.Tensor]) -> torch.Tensor:
    value = f(*means)
    if not isinstance(value, torch.Tensor) or value.ndim > 1 or value.numel() == 0:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ShapeError(f"f must return a tensor with a number or a vector, not {got}")
    return check_finite("f at the means", value)


def _each(f: Callable[..., torch.Tensor], samples: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return `f` of each row of the samples, ``(rows, ...)``."""
    try:
        return torch.func.vmap(f)(*samples)
    except RuntimeError:  # `f` branches on a value, say: one row after another then
        return torch.stack([f(*row) for row in zip(*samples, strict=True)])


def _smooth(n: int) -> int:
    """Return the smallest number from `n` up with no prime factor above 5."""
    best = 1 << (n - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            quotient = -(-n // three)
            best = min(best, three << (quotient - 1).bit_length())
            three *= 3
        five *= 5
    return best


def _gamma(deviations: torch.Tensor, max_lag: int) -> torch.Tensor:
    """Return Gamma(t) of deviations ``(chains, time)`` for t = 0, ..., max_lag.

    Each chain is cut into blocks of L > max_lag values, and its last one followed by a block of
    zeros. A block correlates with itself and with the next one; in a transform of length 2 L the
    next block differs from the first only by the sign (-1)^k, so one transform of each block is
    enough, and only the sum over blocks is transformed back.
    """
    chains, time = deviations.shape
    length = _smooth(max_lag + 1)
    # a CPU is fastest on what fits its cache, an accelerator on large pieces
    step = max(1, (1 << (16 if deviations.device.type == "cpu" else 24)) // length)
    power = 0
    if time <= length:  # one block for each chain, and nothing after it
        for rows in deviations.split(step):
            parts = torch.view_as_real(torch.fft.rfft(rows, n=2 * length))
            power = power + parts.square().sum((0, -1))
    else:
        blocks = -(-time // length) + 1
        sign = torch.ones(length + 1, dtype=deviations.dtype.to_complex(), device=deviations.device)
        sign[1::2] = -1
        for rows in deviations.split(max(1, step // blocks)):
            for start in range(0, blocks - 1, step):
                piece = rows[:, start * length : (start + step + 1) * length]
                count = min(step + 1, blocks - start)
                piece = torch.nn.functional.pad(piece, (0, count * length - piece.shape[-1]))
                piece = piece.view(-1, count, length)
                transform = torch.fft.rfft(piece, n=2 * length)
                one, two = transform[:, :-1], transform[:, 1:]
                power = power + (one.conj() * torch.addcmul(one, sign, two)).sum((0, 1))
    sums = torch.fft.irfft(power, n=2 * length)[: max_lag + 1]
    pairs = chains * (time - torch.arange(max_lag + 1, device=deviations.device))
    return sums / pairs


def _rule(window: str, s_tau: float, c: float) -> Callable[[torch.Tensor, int], int | None]:
    """Return the function of rho(0..) and n that gives the window, or None if it stays open."""
    s_tau, c = check_positive("s_tau", s_tau), check_positive("c", c)
    if window not in ("gamma", "sokal"):
        raise ValueError(f'window must be "gamma" or "sokal", not {window!r}')

    def rule(rho: torch.Tensor, n: int) -> int | None:
        lag = torch.arange(1, len(rho), dtype=rho.dtype, device=rho.device)
        tau = 0.5 + rho[1:].cumsum(0)
        # rounding alone may lift the sum above 1/2
        tau = torch.where(tau > 0.5 + 1e-10, tau, 0.5 + rho[1:].abs().cumsum(0))
        if window == "sokal":
            closed = lag >= c * tau
        else:
            decay = s_tau / torch.log((2 * tau + 1) / (2 * tau - 1))
            closed = torch.exp(-lag / decay) <= decay / (lag * n).sqrt()
        first = closed.nonzero()
        return int(first[0]) + 1 if len(first) else None

    return rule


def _gamma_method(
    value: float,
    deviations: torch.Tensor,
    rule: Callable[[torch.Tensor, int], int | None],
    unit: int,
) -> tuple[MeanEstimate, bool]:
    """Return the estimate from deviations ``(chains, time)`` in units of ``2**unit``, and whether
    they are too few."""
    chains, time = deviations.shape
    n = chains * time
    # chains of one measurement each are independent by assumption: there is nothing to sum
    longest = max(1, time // 2) if time > 1 else 0
    lags = min(511, longest)  # blocks of 512
    while True:  # most windows close early; only slow chains pay for long lags
        gamma = _gamma(deviations, lags).cpu().double()
        variance = float(gamma[0])
        if variance <= 0:
            return MeanEstimate(value, 0.0, 0.0, 0.5, 0.0, 0, n), False
        window = 0 if longest == 0 else rule(gamma / variance, n)
        if window is not None or lags == longest:
            break
        lags = min(8 * lags + 7, longest)
    unsafe = window is None
    window = lags if window is None else window
    total = float(2 * gamma[: window + 1].sum()) - variance
    # a sum of noise, or of nothing but rounding: take the data as uncorrelated, and say so
    if total <= 1e-10 * variance:
        unsafe, window, total = True, 0, variance
    # subtracting the mean of the data has lowered every Gamma(t) by sigma^2 = total / n
    variance += total / n
    total *= 1 + (2 * window + 1) / n
    tau = total / (2 * variance)
    error = math.ldexp(math.sqrt(total / n), unit)
    estimate = MeanEstimate(
        value=value,
        error=error,
        error_of_error=error * math.sqrt((window + 0.5) / n),
        tau_int=tau,
        tau_int_error=2 * tau * math.sqrt(max(window + 0.5 - tau, 0.0) / n),
        window=window,
        n=n,
    )
    return estimate, unsafe or n < 50 * tau


def _complain(results: Sequence[tuple[MeanEstimate, bool]], strict: bool) -> None:
    short = [estimate for estimate, unsafe in results if unsafe]
    if short:
        worst = max(short, key=lambda estimate: estimate.tau_int)
        which = f" ({len(short)} of {len(results)} observables)" if len(results) > 1 else ""
        _emit(
            f"the chains are too short for a safe error{which}: {worst.n} measurements, summed up "
            f"to lag {worst.window}, give tau_int = {worst.tau}; run at least 50 tau_int = "
            f"{math.ceil(50 * worst.tau_int)} measurements, in chains of more than twice the lag "
            "at which the autocorrelation has died out",
            worst,
            strict,
        )


def _emit(message: str, estimate: Estimate, strict: bool) -> None:
    if strict:
        raise ShortChainError(message, estimate)
    caller = 4 if isinstance(estimate, MeanEstimate) else 3
    warnings.warn(ShortChainWarning(message, estimate), stacklevel=caller)


def _value_with_error(value: float, error: float, digits: int | None) -> str:
    if not (math.isfinite(value) and math.isfinite(error)):
        return f"{value:.6g}({error:.2g})"
    if error == 0:
        return f"{value:.10g}(0)"
    if error < 1e-16 * abs(value):  # below the last digit of the value
        return f"{value:.17g}({error:.1g})"
    v, e = Decimal(repr(value)), Decimal(repr(error))
    power = max(abs(v), e).adjusted()
    suffix = ""
    if power >= 6 or power < -4:
        v, e = v.scaleb(-power), e.scaleb(-power)
        suffix = f"e{power}"
    # the place of the last digit shown, after rounding: 0.0096 has one digit 1 at the place -2
    if digits is None:
        rounded = Decimal(f"{e:.0e}")
        two = e.as_tuple().digits[0] == 1 or rounded.as_tuple().digits[0] == 1
        last = rounded.adjusted() - two
    else:
        last = Decimal(f"{e:.{digits - 1}e}").adjusted() - digits + 1
    unit = Decimal(1).scaleb(last)
    v, e = v.quantize(unit), e.quantize(unit)
    if v == 0:
        v = abs(v)
    shown = f"{e:f}" if last >= 0 or e >= 1 else str(int(e.scaleb(-last)))
    return f"{v:f}({shown}){suffix}"
