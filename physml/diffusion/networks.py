r"""Networks for scores, with what is known built in: the Gaussian part, the symmetries, the limits.

A `ScoreModel` is a callable ``score(phi, t)`` like the exact ones. In :math:`x=\phi/a`, with noise
ratio :math:`r=s/a`, its denoiser is

.. math::

    D(x,r)=\frac{P}{P+r^2}\,x+\frac{\sigma_d\,r^2}{\sigma_d^2+r^2}\,F(\hat x,r),\qquad
    \hat x=\frac x{\sqrt{\sigma_d^2+r^2}},

with `P` the spectrum of the field, which acts mode by mode, :math:`\sigma_d^2` its mean and `F` the
network. The first term is the exact denoiser of the free field with that spectrum: where `F`
vanishes, as it does before training, the model *is* that field (in the spirit of the
preconditioning of arXiv:2206.00364, eq. 7, which has a number in place of `P`). The score,

.. math:: s=\frac1a\Big[-\frac x{P+r^2}+\frac{\sigma_d}{\sigma_d^2+r^2}\,F\Big],

has no small denominator: `F` may be of order one at both ends, where the score is that of the field
without noise and that of noise alone.

Both networks are *odd*, :math:`F(-x)=-F(x)`, to the last bit, so that the law is symmetric under
:math:`\phi\to-\phi` by construction. `UNet` is covariant under translations by its `factor`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..errors import ShapeError, check_positive_int
from .scores import GaussianScore
from .sde import Process, Time, check_field, over_sites

__all__ = ["OddMLP", "ScoreModel", "UNet"]


class ScoreModel(nn.Module):
    r"""A score: a free field's and a network's, in the form at the top of this module.

    Parameters
    ----------
    network
        :math:`F`, called with fields ``(chains, *shape)`` and :math:`\frac14\ln r`, ``(chains,)``.
    process
        The forward process.
    spectrum
        `P`, the variance :math:`\langle|\phi_k|^2\rangle/V` of each mode, of the lattice's shape:
        measured, or exact; ``()`` for a single degree of freedom.

    The network works in the type of its weights, all else in that of the fields.
    """

    def __init__(self, network: nn.Module, process: Process, spectrum: Tensor) -> None:
        super().__init__()
        self.gaussian = GaussianScore.of_spectrum(1 / spectrum, process)
        self.network, self.process = network, process
        self.scale = math.sqrt(float(self.gaussian.variance.mean()))  # sigma_d

    @property
    def shape(self) -> tuple[int, ...]:
        """The lattice's shape."""
        return self.gaussian.shape

    @property
    def parameter_count(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, phi: Tensor, t: Time) -> Tensor:
        """Return the score, shape as `phi`; `t` is a number or ``(chains,)``."""
        check_field(phi, self.shape)
        factor, ratio = self.process.mean_factor(t), self.process.ratio(t)
        wide, output = self._network(phi, factor, ratio)
        return self.gaussian(phi, t) + self.scale / (wide * over_sites(factor, phi)) * output

    def denoise(self, phi: Tensor, t: Time) -> Tensor:
        """Return the denoiser `D`, shape as `phi`."""
        factor, variance = self.process.mean_factor(t), self.process.variance(t)
        return (phi + over_sites(variance, phi) * self(phi, t)) / over_sites(factor, phi)

    def check_network(self, phi: Tensor) -> None:
        """Raise `ShapeError` unless the network takes fields `phi` to fields like them."""
        with evaluated(self):
            self(phi, 0.5)

    def _network(self, phi: Tensor, factor: Time, ratio: Time) -> tuple[Time, Tensor]:
        wide = over_sites(ratio**2, phi) + self.scale**2
        x = phi / (over_sites(factor, phi) * wide**0.5)
        # in the type of its weights, which may be another one than that of the field
        kind = next(self.network.parameters()).dtype
        if not isinstance(ratio, Tensor):
            ratio = torch.tensor(ratio, dtype=kind, device=phi.device)
        level = ratio.to(kind).to(phi.device).expand(len(phi)).clamp(min=1e-6 * self.scale)
        return wide, one_field(self.network(x.to(kind), level.log() / 4), phi).to(phi.dtype)


class _Level(nn.Module):
    """Features of the noise level: sines and cosines, and a layer on them."""

    def __init__(self, width: int, frequencies: int = 16) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.layer = nn.Linear(2 * frequencies, width)

    def forward(self, level: Tensor) -> Tensor:
        rates = torch.arange(1, self.frequencies + 1, dtype=level.dtype, device=level.device)
        phase = 0.5 * rates * level[:, None]  # level runs over a few units
        return nn.functional.silu(self.layer(torch.cat([phase.sin(), phase.cos()], 1)))


class OddMLP(nn.Module):
    """The odd part of a perceptron, for one degree of freedom: ``(chains,)`` to ``(chains,)``.

    Parameters
    ----------
    hidden
        Width of the hidden layers.
    layers
        Number of hidden layers.
    generator
        Draws the first weights, on the CPU.
    """

    def __init__(self, hidden: int = 64, layers: int = 2, *, generator: torch.Generator) -> None:
        super().__init__()
        check_positive_int("hidden", hidden)
        check_positive_int("layers", layers)
        with _seeded(generator):
            self.level = _Level(hidden)
            self.first = nn.Linear(1, hidden)
            self.middle = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
            self.last = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Return :math:`[N(x)-N(-x)]/2` of the perceptron `N`."""
        features = self.level(level)
        return 0.5 * (self._raw(x, features) - self._raw(-x, features))

    def _raw(self, x: Tensor, features: Tensor) -> Tensor:
        h = self.first(x[:, None]) + features
        for layer in self.middle:
            h = h + layer(nn.functional.silu(h))
        return self.last(nn.functional.silu(h))[:, 0]


class _Gate(nn.Module):
    r"""The odd activation :math:`h\,\mathrm{sigmoid}(b_c+(1+w_c)h^2)`, set by the noise level."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, 2 * channels)

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        bias, slope = self.layer(features)[:, :, None, None].chunk(2, 1)
        return h * torch.addcmul(bias, slope + 1, h * h).sigmoid()


class _Block(nn.Module):
    """A residual block: two gates, each before a convolution; it starts as the identity."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(_Gate(channels, features) for _ in range(2))
        self.convolutions = nn.ModuleList(_periodic(channels, channels) for _ in range(2))
        nn.init.zeros_(self.convolutions[1].weight)

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        new = h
        for gate, convolution in zip(self.gates, self.convolutions, strict=True):
            new = convolution(gate(new, features))
        return h + new


class UNet(nn.Module):
    r"""An odd, periodic U-Net for two-dimensional lattices.

    The field is cut into patches of 2 by 2, its channels from there on. Each further level halves
    the lattice and works on more channels; on the way back its result is added to what the finer
    level had. Convolutions are 3 by 3, periodic and without bias, and activations are odd, with
    gates set by the noise level, so the network is odd at no cost; nothing normalises over the
    lattice, so that it can be used at other sizes.

    Shifts by a multiple of `factor`, 2 to the power of levels, commute with it; lengths must be
    multiples of that (one level: any even length). For 32 and 64 channels and two blocks a level it
    has 308,544 parameters and costs 29,300 multiplications a site, nearly all in convolutions, and
    an output sees inputs at most 39 sites away in each direction (`reach`).

    Parameters
    ----------
    channels
        Channels of each level, finest first.
    blocks
        Residual blocks on each level, on the way down and again on the way up.
    features
        Width of the features of the noise level.
    inputs
        Fields that it takes, at equal footing: 1, or 2 for an `InteractionModel`.
    generator
        Draws the first weights, on the CPU.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 64), blocks: int = 2,
                 features: int = 64, *, inputs: int = 1, generator: torch.Generator) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels is empty: give the number of each level, finest first")
        for width in channels:
            check_positive_int("channels", width)
        self.blocks = check_positive_int("blocks", blocks)
        self.factor = 2 ** len(channels)
        check_positive_int("features", features)
        self.inputs = check_positive_int("inputs", inputs)
        pairs = list(itertools.pairwise(channels))
        with _seeded(generator):
            self.level = _Level(features)
            self.first = _periodic(4 * inputs, channels[0])
            self.last = _periodic(channels[0], 4)
            self.down = nn.ModuleList(_blocks(c, blocks, features) for c in channels)
            self.up = nn.ModuleList(_blocks(c, blocks, features) for c in channels[:-1])
            self.coarser = nn.ModuleList(nn.Conv2d(a, b, 2, 2, bias=False) for a, b in pairs)
            self.finer = nn.ModuleList(nn.Conv2d(b, 4 * a, 1, bias=False) for a, b in pairs)
        nn.init.zeros_(self.last.weight)

    @property
    def reach(self) -> int:
        """How far away, in sites of each direction, an input may matter to an output."""
        n = len(self.down)
        # a convolution at level l sees 2^(l+1) sites further; and patches add their own size
        steps = [2 * self.blocks * (1 if level == n - 1 else 2) for level in range(n)]
        return sum(s * 2 ** (level + 1) for level, s in enumerate(steps)) + 4 + self.factor - 1

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Return fields ``(chains, L1, L2)`` for `x`, like them, and noise levels ``(chains,)``.

        For several `inputs`, `x` is ``(chains, inputs, L1, L2)``.
        """
        if self.inputs == 1 and x.ndim == 3:
            x = x[:, None]
        if x.ndim != 4 or x.shape[1] != self.inputs or any(n % self.factor for n in x.shape[2:]):
            want = "(chains, L1, L2)" if self.inputs == 1 else f"(chains, {self.inputs}, L1, L2)"
            raise ShapeError(f"this network takes fields {want} with lengths that are "
                             f"multiples of {self.factor}, not {tuple(x.shape)}: fewer levels "
                             "would fit more lengths")
        features, kept = self.level(level), []
        h = self.first(nn.functional.pixel_unshuffle(x, 2))
        for n, blocks in enumerate(self.down):
            if n:
                kept.append(h)
                h = self.coarser[n - 1](h)
            for block in blocks:
                h = block(h, features)
        for n in reversed(range(len(self.up))):
            h = kept.pop() + nn.functional.pixel_shuffle(self.finer[n](h), 2)
            for block in self.up[n]:
                h = block(h, features)
        return nn.functional.pixel_shuffle(self.last(h), 2)[:, 0]


def one_field(found: Tensor, phi: Tensor) -> Tensor:
    """Return what a network found; raise `ShapeError` unless it is a field like `phi`."""
    if found.shape != phi.shape:
        raise ShapeError(f"the network must return one field for each chain, {tuple(phi.shape)}, "
                         f"not {tuple(found.shape)}: drop an axis of channels with [:, 0]")
    return found


@contextlib.contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Let a model be tried out: without derivatives, and without statistics being kept."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():  # some may have been frozen
            module.training = training


@contextlib.contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Let modules draw their weights from `generator`: they know only torch's own, kept as is."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _periodic(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="circular", bias=False)


def _blocks(channels: int, number: int, features: int) -> nn.ModuleList:
    return nn.ModuleList(_Block(channels, features) for _ in range(number))
