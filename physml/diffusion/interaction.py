r"""The score of a field whose action is known: a free field, and what the interaction adds.

Take any spectrum :math:`P_k`, best :math:`\langle|\phi_k|^2\rangle/V` itself, and split the
gradient of the action, mode by mode, into that of the free field and a *residual force*,

.. math:: \frac{\partial S}{\partial\phi}=\frac\phi P+R(\phi).

In :math:`x=\phi_t/a` with the noise ratio :math:`r=s/a`, the field before the noise has the law
:math:`\propto e^{-S(\phi_0)-(\phi_0-x)^2/2r^2}`. Its Schwinger-Dyson equation, that the gradient
of the exponent averages to zero, gives :math:`\langle\phi_0\rangle_x`, and Tweedie's formula the
score:

.. math::

    a\,s_t=-\frac x{P+r^2}-c\,\langle R(\phi_0)\rangle_x,\qquad c=\frac P{P+r^2}.

This is exact. For :math:`r\to0` it is the gradient of the action, and for :math:`r\to\infty` only
the first term is left. What is to be learned is :math:`N=\langle R\rangle_x`.

**The target.** Regression of :math:`R` on `x` finds `N` (the force as a target: V. De Bortoli et
al., arXiv:2402.08667), that of the noise finds the score too, and so does each mixture of both. For
modes with :math:`\langle\phi_kR_k^*\rangle=0`, which is :math:`\langle\phi S'\rangle=1` if `P` is
the spectrum, the mixture of least variance is

.. math::

    y=\frac{R-\rho\,(\phi_0-D)}{1+\rho v},\qquad \rho=\langle|R_k|^2\rangle,\quad
    v=\frac{Pr^2}{P+r^2},\quad D=c\,x,

with the variance :math:`u^2=\rho/(1+\rho v)`, signal and noise together. (Derivation: the residual
of :math:`\phi_0` given `x` has to lowest order the variance `v`; minimise that of
:math:`\alpha R+\beta(\phi_0-D)` over mixtures with the mean `N`. The variance of `y` is exact,
since :math:`R` and :math:`\phi_0-D` are uncorrelated.) With noise alone as the target it would be
:math:`1/v`, larger by :math:`1+1/\rho v`: the modes that hardly interact, nearly all, have next to
nothing to learn from noise.

In nats, an error :math:`\delta N` costs :math:`cv\,|\delta N_k|^2` for each unit of :math:`\ln r`
(see `training`), so that of order one in :math:`N_k/u` costs at most :math:`w=cvu^2\le1`.

**The model.** An `InteractionModel` has :math:`N=u\,F`, with a network `F` of two fields that it
can do something with at every noise: :math:`x/\sqrt{P+r^2}`, all of whose modes have unit variance,
and the denoised `D`, over its root mean square. Where :math:`\lambda` is small
:math:`N=4\lambda\,(D^3-3\langle D^2\rangle D)`, Wick's cube of `D`. (Derivation: given `x`, the
free field is Gaussian with mean `D` and the variance `v`, and :math:`R` is
:math:`4\lambda(\phi^3-3\langle\phi^2\rangle\phi)` to first order.)

**A broken symmetry.** Two narrow peaks at :math:`\pm v` are nothing like one wide Gaussian. With a
*background* `v` all of the above is about :math:`\varphi=\pm\phi-v`, with the sign that makes the
magnetisation positive, and the sign is drawn in the end. The network gets a third field, constant
and 1, which changes its sign with the others: the law is still symmetric by construction.
(Neglected: the fields with :math:`M\approx0` between the peaks, where the identity above has a
boundary term.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..actions import LocalAction
from ..errors import ShapeError, check_finite, check_rows
from .networks import evaluated, one_field
from .scores import GaussianScore
from .sde import Process, Time, check_field, over_sites

__all__ = ["Distilled", "Interaction", "InteractionModel", "ResidualForce"]


_LEAST = 0.02  # noise ratio below which the network is that of this one


@dataclass(frozen=True, eq=False)
class ResidualForce:
    r"""The residual force of an action; made by `measure`, or from a spectrum of your own.

    Attributes
    ----------
    action
        The action, of fields with at least one direction.
    spectrum
        :math:`P_k`, in the order of `torch.fft.fftn`, shape `lattice.shape`, float64 on the CPU.
    variance
        :math:`\rho_k=\langle|R_k|^2\rangle/V`, likewise.
    background
        The `v` of a broken symmetry, 0 for none: `phi` stands for :math:`\varphi=\pm\phi-v`.
    """

    action: LocalAction
    spectrum: Tensor = field(repr=False)
    variance: Tensor = field(repr=False)
    background: float = 0.0

    @classmethod
    def measure(cls, action: LocalAction, phi: Tensor, *, background: float = 0.0
                ) -> ResidualForce:
        r"""Measure `P` and :math:`\rho` on fields of the action, ``(chains, *shape)``.

        Both are averaged over reflections, and over axes of equal lengths.
        """
        check_rows("phi", check_finite("phi", check_field(phi)))
        if phi.ndim < 2:
            raise ShapeError("phi must have a lattice, (chains, *lattice.shape): a single degree "
                             "of freedom has no modes")
        phi = centred(phi, background)
        spectrum = _symmetric(_power(phi))
        residual = cls(action, spectrum, torch.zeros_like(spectrum), background).force(phi)
        return cls(action, spectrum, _symmetric(_power(residual)), background)

    def force(self, phi: Tensor) -> Tensor:
        r"""Return :math:`R(\phi)=\partial S/\partial\phi-\phi/P`, shape as `phi`."""
        check_field(phi, tuple(self.spectrum.shape))
        return -self.action.force(phi + self.background) - _filter(phi, 1 / self.spectrum)

    def on(self, shape: tuple[int, ...]) -> ResidualForce:
        r"""Return the same on a larger lattice, with correlations that end at half the old one.

        Right if the old lattice is many correlation lengths long: then correlations at a distance
        do not know how large the lattice is.

        Raises
        ------
        ShapeError
            If a length is smaller than the old one, or an old one is odd.
        ValueError
            If the spectrum would not be positive: the old lattice was too small.
        """
        old = tuple(self.spectrum.shape)
        if len(shape) != len(old) or any(m < n or n % 2 for m, n in zip(shape, old, strict=True)):
            raise ShapeError(f"shape={tuple(shape)} must have no length below those of the old "
                             f"lattice, {old}, which must be even")
        spectrum, variance = (_padded(x, shape) for x in (self.spectrum, self.variance))
        if float(spectrum.min()) <= 0 or float(variance.min()) < 0:
            raise ValueError(f"the lattice {old} is too small, in correlation lengths, to tell the "
                             "spectrum on a larger one: measure it there")
        return ResidualForce(self.action, spectrum, variance, self.background)


@dataclass(frozen=True, eq=False)
class Interaction:
    """The exact split of a score at one noise ratio for each chain.

    Parameters
    ----------
    residual
        The residual force.
    process
        The forward process.
    t
        A time, or one for each chain, ``(chains,)``.

    Attributes
    ----------
    inverse, share, spread, scale
        :math:`1/(P+r^2)` and `c`, `v`, `u` of the module, ``(*shape)`` or ``(chains, *shape)``.
    """

    residual: ResidualForce
    process: Process
    t: Time

    @property
    def inverse(self) -> Tensor:
        return self._over_noise(torch.ones_like(self.residual.spectrum))

    @property
    def share(self) -> Tensor:
        return self._over_noise(self.residual.spectrum)

    @property
    def spread(self) -> Tensor:
        return self._over_noise(self.residual.spectrum * self._noise)

    @property
    def scale(self) -> Tensor:
        rho = self.residual.variance
        return (rho / (1 + rho * self.spread)).sqrt()

    def denoise(self, phi: Tensor) -> Tensor:
        """Return the free field's denoised field `D`, shape as `phi`."""
        return _filter(self.bare(phi), self.share)

    def score(self, phi: Tensor, mean_residual: Tensor) -> Tensor:
        """Return the score at `phi`, given `N` there; without it, 0, the free field's."""
        x = self.bare(phi)
        pulled = _filter(x, self.inverse) + _filter(mean_residual, self.share)
        return -pulled / over_sites(self.process.mean_factor(self.t), phi)

    def target(self, start: Tensor, phi: Tensor) -> Tensor:
        """Return `y` for fields `start` of the action that became `phi`, shape as both."""
        if start.shape != phi.shape:
            raise ShapeError(f"start must have the shape of phi, {tuple(phi.shape)}, not "
                             f"{tuple(start.shape)}")
        rho = self.residual.variance
        force, miss = self.residual.force(start), start - self.denoise(phi)
        return _filter(force - _filter(miss, rho), 1 / (1 + rho * self.spread))

    @property
    def _noise(self) -> Tensor:
        """The variance of the noise in `x`, with axes to broadcast over modes."""
        ratio = self.process.ratio(self.t)
        if not isinstance(ratio, Tensor):
            return torch.tensor(ratio**2, dtype=torch.float64, device="cpu")
        return (ratio.cpu().double() ** 2).reshape(-1, *[1] * self.residual.spectrum.ndim)

    def _over_noise(self, values: Tensor) -> Tensor:
        return values / (self.residual.spectrum + self._noise)

    def bare(self, phi: Tensor) -> Tensor:
        r"""Return :math:`x=\phi/a`, shape as `phi`."""
        check_field(phi, tuple(self.residual.spectrum.shape))
        return phi / over_sites(self.process.mean_factor(self.t), phi)


class InteractionModel(nn.Module):
    r"""A learned score in the form at the top of this module, a callable ``score(phi, t)``.

    Parameters
    ----------
    network
        :math:`F`, called with fields ``(chains, 2, *shape)`` and :math:`\frac14\ln r`,
        ``(chains,)``: a `UNet` with ``inputs=2``, or 3 and ``(chains, 3, *shape)`` with a
        background.
    process
        The forward process.
    residual
        The residual force. Its lattice may be replaced, by `on`.
    """

    def __init__(self, network: nn.Module, process: Process, residual: ResidualForce) -> None:
        super().__init__()
        self.network, self.process, self.residual = network, process, residual
        # levels of noise and how much there is to learn at each, for `levels`
        log = torch.linspace(math.log(_LEAST), math.log(process.ratio(1.0)), 512,
                             dtype=torch.float64, device="cpu")
        split = Interaction(residual, process, process.time_of(log.exp()))
        self._log_ratios = log
        self._stakes = (split.share * split.spread * split.scale**2).flatten(1).sum(1)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lattice's shape."""
        return tuple(self.residual.spectrum.shape)

    @property
    def free(self) -> GaussianScore:
        """The score of the free field with the same spectrum: the model where `F` vanishes."""
        return GaussianScore.of_spectrum(1 / self.residual.spectrum, self.process)

    @property
    def parameter_count(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def on(self, residual: ResidualForce) -> InteractionModel:
        """Return the same network on another lattice, or with another spectrum."""
        return InteractionModel(self.network, self.process, residual)

    def forward(self, phi: Tensor, t: Time) -> Tensor:
        """Return the score, shape as `phi`; `t` is a number or ``(chains,)``."""
        factor = over_sites(self.process.mean_factor(t), phi)
        modes, split, scaled = self._network(phi / factor, t)
        pulled = modes * half(split.inverse, phi) + scaled * half(split.share * split.scale, phi)
        return -field_of(pulled, phi) / factor

    def mean_residual(self, phi: Tensor, t: Time) -> Tensor:
        r"""Return the model's :math:`N=\langle R\rangle_x`, shape as `phi`."""
        return self.mean_residual_at(phi / over_sites(self.process.mean_factor(t), phi), t)

    def mean_residual_at(self, x: Tensor, t: Time) -> Tensor:
        r"""Return :math:`N`, given :math:`x=\phi/a`, shape as `x`."""
        _, split, scaled = self._network(x, t)
        return field_of(scaled * half(split.scale, x), x)

    def check_network(self, phi: Tensor) -> None:
        """Raise an error unless the network is what the model needs, tried on fields `phi`.

        Raises
        ------
        ShapeError
            If it does not return one field for each chain.
        ValueError
            If the action is even in the field and the network is not odd: the model would be as
            little symmetric.
        """
        kind = next(self.network.parameters()).dtype
        inputs = torch.stack([phi] * (3 if self.residual.background else 2), 1).to(kind)
        level = inputs.new_zeros(len(phi))
        with evaluated(self):
            there, back = (one_field(self.network(x, level), phi) for x in (inputs, -inputs))
        off, size = float((there + back).abs().max()), float(there.abs().max())
        if getattr(self.residual.action, "symmetric", False) and off > 1e-3 * size:
            raise ValueError(
                f"the network is not odd: F(x) + F(-x) is up to {off:.2g}, next to F up to "
                f"{size:.2g}, but the action is even; let it return [F(x) - F(-x)] / 2, or leave "
                "out biases and even activations"
            )

    def levels(self, chains: int, generator: torch.Generator) -> Tensor:
        r"""Return times at random, ``(chains,)``, with :math:`\ln r` as dense as :math:`\sum_kw_k`.

        One in each of `chains` equal parts.
        """
        device = generator.device
        place = torch.arange(chains, device=device) + torch.rand(chains, generator=generator,
                                                                  device=device)
        rising = self._stakes.cumsum(0) / self._stakes.sum()
        found = torch.searchsorted(rising, place.cpu().double() / chains).clamp(max=511)
        ratio = self._log_ratios[found].exp().clamp(max=self.process.ratio(1.0))
        return self.process.time_of(ratio).float().clamp(max=1.0).to(device)

    def level_weight(self, split: Interaction) -> Tensor:
        r"""Return what makes a mean over `levels` an integral over :math:`\ln r`, ``(chains,)``.

        It is one over their density, at the times of `split`: :math:`\int d\ln r\sum_kw_k` over
        :math:`\sum_kw_k`, float64 on the CPU.
        """
        stakes = (split.share * split.spread * split.scale**2).flatten(1).sum(1)
        step = self._log_ratios[1] - self._log_ratios[0]
        return self._stakes.sum() * step / stakes

    def loss(self, start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        r"""Return the loss of fields `start` of the action, in nats, ``(chains,)``.

        With `t` drawn by `levels`, its mean is :math:`\int d\ln r\sum_kcv\,|N_k-y_k|^2`, without
        bias: what it has above its least value is the divergence of path measures.
        """
        start = centred(start, self.residual.background)
        phi = self.process.perturb(start, t, noise)
        split = Interaction(self.residual, self.process, t)
        _, _, scaled = self._network(split.bare(phi), t)
        rho = self.residual.variance
        force = modes_of(self.residual.force(start))
        miss = modes_of(start) - modes_of(split.bare(phi)) * half(split.share, phi)
        target = (force - miss * half(rho, phi)) * half(1 / (1 + rho * split.spread), phi)
        return self._nats(scaled * half(split.scale, phi) - target, phi, split)

    def _nats(self, miss: Tensor, phi: Tensor, split: Interaction) -> Tensor:
        """Return what modes of `N` that are off by `miss` cost, ``(chains,)``."""
        weight = half((split.share * split.spread).sqrt(), phi)
        error = field_of(weight * miss, phi).square().flatten(1).sum(1)
        return error * self.level_weight(split).to(error.dtype).to(error.device)

    def white_residual(self, y: Tensor, t: Time) -> Tensor:
        r"""Return the modes of `N` at the field `y` whose modes are :math:`x_k/\sqrt{P_k+r^2}`.

        As `torch.fft.rfftn` orders them, ``(chains, ...)``; `y` is ``(chains, *shape)``.
        """
        check_field(y, self.shape)
        split = Interaction(self.residual, self.process, t)
        return self._output(y, modes_of(y), split) * half(split.scale, y)

    def _network(self, x: Tensor, t: Time) -> tuple[Tensor, Interaction, Tensor]:
        """Return the modes of `x`, the split, and the modes of `F`."""
        check_field(x, self.shape)
        split = Interaction(self.residual, self.process, t)
        modes = modes_of(x)
        white = modes * half(split.inverse.sqrt(), x)
        return modes, split, self._output(field_of(white, x), white, split)

    def _output(self, y: Tensor, modes: Tensor, split: Interaction) -> Tensor:
        """Return the modes of `F`, given the field of `white_residual` and its modes."""
        spectrum = self.residual.spectrum
        power = (split.share * spectrum).flatten(-spectrum.ndim)
        width = power.mean(-1).sqrt().reshape(-1, *[1] * (y.ndim - 1))
        smooth = field_of(modes * half(split.share / split.inverse.sqrt() / width, y), y)
        kind = next(self.network.parameters()).dtype
        ratio = torch.as_tensor(self.process.ratio(split.t)).cpu().double()
        level = (ratio.clamp(min=_LEAST).log() / 4).to(kind).to(y.device).expand(len(y))
        inputs = [y, smooth]
        if self.residual.background:
            inputs.append(torch.full_like(y, math.copysign(1.0, self.residual.background)))
        found = self.network(torch.stack(inputs, 1).to(kind), level)
        return modes_of(one_field(found, y).to(y.dtype))


class Distilled(InteractionModel):
    r"""An `InteractionModel` whose network learns the `N` of another model, and not a noisy target.

    What the teacher says at a noised field is the same each time, where the targets of fields
    scatter; so a small network gets near to a large one in little time (distillation: G. Hinton et
    al., arXiv:1503.02531).

    Parameters
    ----------
    network
        The network of this model, as for `InteractionModel`.
    teacher
        The other model, on the same device; it stays as it is.
    """

    def __init__(self, network: nn.Module, teacher: InteractionModel) -> None:
        super().__init__(network, teacher.process, teacher.residual)
        self._teacher = (teacher,)  # in a tuple, so that its parameters are not those of this one

    @property
    def teacher(self) -> InteractionModel:
        """The model to learn from."""
        return self._teacher[0]

    def loss(self, start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        r"""Return the distance from the teacher, in nats, ``(chains,)``, at noised fields `start`.

        With `t` drawn by `levels`, its mean is :math:`\int d\ln r\sum_kcv\,|N_k-N'_k|^2`, the
        divergence of the path measures of both models on the way of the data; 0 is the least.
        """
        start = centred(start, self.residual.background)
        phi = self.process.perturb(start, t, noise)
        split = Interaction(self.residual, self.process, t)
        x = split.bare(phi)
        with torch.no_grad():
            _, _, wanted = self.teacher._network(x, t)
        _, _, scaled = self._network(x, t)
        return self._nats((scaled - wanted) * half(split.scale, phi), phi, split)


def centred(phi: Tensor, background: float) -> Tensor:
    r"""Return :math:`\pm\phi-v`, with the sign that makes the magnetisation positive."""
    if not background:
        return phi
    sign = phi.flatten(1).mean(1).sign().reshape(-1, *[1] * (phi.ndim - 1))
    return sign * phi - background


def half(gain: Tensor, phi: Tensor) -> Tensor:
    """Return a gain of all modes as one of those that `modes_of` has, like `phi`."""
    return gain[..., : phi.shape[-1] // 2 + 1].to(phi.dtype).to(phi.device)


def modes_of(phi: Tensor) -> Tensor:
    return torch.fft.rfftn(phi, dim=_axes(phi))


def field_of(modes: Tensor, phi: Tensor) -> Tensor:
    return torch.fft.irfftn(modes, s=phi.shape[1:], dim=_axes(phi))


def _axes(phi: Tensor) -> tuple[int, ...]:
    return tuple(range(1, phi.ndim))


def _filter(phi: Tensor, gain: Tensor) -> Tensor:
    """Return fields with each mode multiplied by `gain`, real and even in momentum."""
    modes = torch.fft.fftn(phi, dim=_axes(phi)) * gain.to(phi.dtype).to(phi.device)
    return torch.fft.ifftn(modes, dim=_axes(phi)).real


def _padded(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a spectrum on a larger lattice, with zeros between the halves of its transform."""
    for axis, m in enumerate(shape):
        n = values.shape[axis]
        if m > n:
            near = torch.fft.ifft(values, dim=axis)
            ends = near.narrow(axis, n // 2, 1) / 2  # half of it at either side
            gap = torch.zeros_like(ends).repeat_interleave(m - n - 1, axis)
            values = torch.fft.fft(torch.cat([
                near.narrow(axis, 0, n // 2), ends, gap, ends,
                near.narrow(axis, n // 2 + 1, n // 2 - 1)], axis), dim=axis).real
    return values


def _power(phi: Tensor) -> Tensor:
    """Return the mean of each mode's square over the volume, float64 on the CPU."""
    modes = torch.fft.fftn(phi, dim=_axes(phi))
    return modes.abs().square().mean(0).cpu().double() / phi[0].numel()


def _symmetric(values: Tensor) -> Tensor:
    """Return the average over reflections, and the transposition of a square."""
    for axis in range(values.ndim):
        values = (values + values.flip(axis).roll(1, axis)) / 2
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        values = (values + values.T) / 2
    return values
