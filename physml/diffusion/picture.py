r"""The probability flow in the interaction picture: the free field's part solved, mode by mode.

With an `InteractionModel` (see `interaction`), the flow of :math:`x=\phi/a` is linear but for the
interaction's :math:`N`. In

.. math:: y_k=\frac{x_k}{\sqrt{P_k+r^2}},\qquad
          \frac{dy_k}{dr}=\frac{r\,c_k}{\sqrt{P_k+r^2}}\,N_k,

white noise where the field is free, nothing moves but by `N` (derivation:
:math:`dx/dr=-r\,a\,s_t`, and the derivative of the root takes the first term of the score away). So
few steps do, and they end at :math:`r=0` itself, where the right-hand side vanishes. They are
equidistant in :math:`\theta` with :math:`r=r_0\sinh\theta`: linear below :math:`r_0`, logarithmic
above. For fields alone they are those of Adams and Bashforth, of the third order, with one
evaluation each; the first two are of a lower order, where hardly anything moves.

**The density.** Along the flow :math:`d\ln q_y/dr=-r\operatorname{tr}(c\,\partial N/\partial x)`,
and at its end :math:`\ln q(\phi)=\ln q_y-\frac12\sum_k\ln P_k`. The steps are now of Runge and
Kutta's fourth order, and so is the integral, Gregory's over their ends: the divergence of the
widest modes depends on the field, and what is missed there is a bias of the reweighted, not noise.
The twelve steps of the default leave 0.01 in the shipped models (against 64 steps with the same
signs).

Where the trace is estimated (see `likelihood`), the free field adds no noise, and the interaction's
response falls off with the distance. Signs that live on every m-th site of each direction, one such
set after the other, :math:`m^d` probes in all, see it only from distance m on: *dilution*, as for
quark propagators (J. Foley et al., hep-lat/0505023). The signs are drawn anew at each node, so that
their errors average along the flow.

With a background the sign is drawn too, with probability :math:`\frac12`; a field is worth
nothing should its magnetisation not have the sign drawn for it, which is yet to be seen.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ..actions import lattice_sum
from ..device import derivatives
from ..errors import ShapeError, check_finite, check_positive, check_positive_int, check_rows
from ..progress import bar
from .interaction import InteractionModel, centred, field_of, half, modes_of
from .likelihood import LogDensity
from .samplers import BLOCK, block_noise, block_streams
from .sde import check_field

__all__ = ["flow", "flow_from"]

_GREGORY = (3 / 8, 7 / 6, 23 / 24)  # of the fourth order, at either end
_ADAMS = (1,), (3 / 2, -1 / 2), (23 / 12, -4 / 3, 5 / 12)  # of slopes, the latest first


def flow(
    model: InteractionModel,
    chains: int,
    *,
    steps: int | None = None,
    dilution: int = 0,
    repeats: int = 1,
    knee: float = 0.3,
    batch: int = 128,
    threads: int = 1,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> LogDensity:
    r"""Draw fields of a model, on request with their log densities.

    Parameters
    ----------
    model
        The model.
    chains
        Number of fields; all are independent.
    steps
        Steps of the flow: for fields alone 16 of one evaluation each, and with densities 12 of
        four, unless given.
    dilution
        The m of the module, which must divide the lattice's lengths: :math:`m^d` derivatives at
        each of ``steps`` nodes. With 0, ``value`` is None; the lattice's length is exact.
    repeats
        Independent estimates of each density; from 2 on their scatter gives its error.
    knee
        The noise ratio :math:`r_0` of the grid.
    batch
        Fields at a time, rounded up to full blocks of 64; results do not depend on it.
    threads
        Batches at once: on two cores 2, with ``torch.set_num_threads(1)``.
    generator
        Seeds the streams of the blocks.
    """
    chains = check_positive_int("chains", chains)
    steps = (12 if dilution else 16) if steps is None else steps
    streams = block_streams(chains, generator, device)
    noise = block_noise(streams, model.shape, dtype, device)[:chains]
    drawn = _run(model, noise, streams, False, steps, dilution, repeats, knee, batch, threads,
                progress)
    background = model.residual.background
    if not background:
        return drawn
    sign = block_noise(streams, (1,) * len(model.shape), dtype, device)[:chains].sign()
    return dataclasses.replace(drawn, fields=sign * (drawn.fields + background),
                               value=drawn.value - math.log(2) if dilution else None)


def flow_from(
    model: InteractionModel,
    phi: Tensor,
    *,
    steps: int = 12,
    dilution: int = 4,
    repeats: int = 1,
    knee: float = 0.3,
    batch: int = 128,
    threads: int = 1,
    generator: torch.Generator,
    progress: bool = False,
) -> LogDensity:
    """Return the log densities of fields ``(chains, *shape)``: the flow run the other way.

    What comes back as ``fields`` is where each of them ends: white noise, if the fields are those
    of the model. Arguments as for `flow`.
    """
    check_rows("phi", check_finite("phi", check_field(phi, model.shape)))
    check_positive_int("dilution", dilution)  # 0 would give no density, all there is to give
    streams = block_streams(len(phi), generator, phi.device)
    phi = centred(phi, model.residual.background)
    found = _run(model, phi, streams, True, steps, dilution, repeats, knee, batch, threads,
                progress)
    return dataclasses.replace(found, value=found.value - math.log(2)) if (
        model.residual.background) else found


@torch.no_grad()
def _run(model, start, streams, upward, steps, dilution, repeats, knee, batch, threads,
                progress):
    check_positive("knee", knee)
    check_positive_int("steps", steps)
    check_positive_int("repeats", repeats)
    if dilution and steps < len(_GREGORY) * 2:
        raise ValueError(f"steps={steps} are too few for a density: {2 * len(_GREGORY)} at least")
    if dilution and any(n % check_positive_int("dilution", dilution) for n in model.shape):
        raise ShapeError(f"dilution={dilution} does not divide the lengths of {model.shape}")
    top = math.asinh(model.process.ratio(1.0) / knee)
    grid = [top * n / steps for n in (range(steps + 1) if upward else range(steps, -1, -1))]
    size = -(-check_positive_int("batch", batch) // BLOCK) * BLOCK

    def part(first: int) -> tuple[Tensor, Tensor, Tensor]:
        some = start[first : first + size]
        mine = streams[first // BLOCK : (first + size) // BLOCK]
        return _Flow(model, mine, knee, dilution, repeats).go(some, grid, upward)

    firsts = range(0, len(start), size)
    with ThreadPoolExecutor(check_positive_int("threads", threads)) as pool:
        parts = list(bar(pool.map(part, firsts), total=len(firsts), label="fields",
                         show=progress, unit="batch"))
    fields, value, error = (torch.cat(p) for p in zip(*parts, strict=True))
    return LogDensity(fields, value if dilution else None, error if dilution else None, None,
                      4 * steps - 1 if dilution or upward else steps)


class _Flow:
    """The flow of one batch."""

    def __init__(self, model, streams, knee, dilution, repeats):
        self.model, self.streams, self.knee = model, streams, knee
        self.repeats = repeats if dilution else 0
        self.masks = list(_combs(model.shape, dilution)) if dilution else []
        self.spectrum = model.residual.spectrum

    @torch.no_grad()  # in each thread anew
    def go(self, start: Tensor, grid: list[float], upward: bool) -> tuple[Tensor, Tensor, Tensor]:
        width = half(self.spectrum.sqrt(), start)
        y = field_of(modes_of(start) / width, start) if upward else start
        weights = [1.0] * len(grid)
        if self.repeats:
            weights[:3], weights[-3:] = _GREGORY, _GREGORY[::-1]
        trace, slopes = self.nothing(y), deque(maxlen=len(_ADAMS))
        single = self.repeats or upward  # the first steps up, from r = 0, matter most
        for weight, theta, end in zip(weights, grid, grid[1:], strict=False):
            h = end - theta
            slope, here = self.slope(y, theta, True)
            trace += weight * h * here
            slopes.appendleft(slope)
            if single:
                y = self.step(y, slope, theta, h)
            else:
                y = y + h * sum(map(operator.mul, _ADAMS[len(slopes) - 1], slopes))
        if self.repeats:
            trace += weights[-1] * h * self.slope(y, end, True)[1]
        white = y if upward else start
        end = y if upward else field_of(modes_of(y) * width, y)
        lost = self.nothing(y)[0] + math.nan
        if not self.repeats:
            return end, lost, lost
        normal = -0.5 * lattice_sum(white * white) - 0.5 * self.spectrum.numel() * math.log(
            2 * math.pi)
        values = (normal - 0.5 * float(self.spectrum.log().sum())
                  + (trace if upward else -trace))
        n = self.repeats
        return end, values.mean(0), values.std(0) / math.sqrt(n) if n > 1 else lost

    def nothing(self, y: Tensor) -> Tensor:
        """Return zeros ``(repeats, chains)``, float64 where there is one."""
        kind = torch.float32 if y.device.type == "mps" else torch.float64
        return torch.zeros(max(1, self.repeats), len(y), dtype=kind, device=y.device)

    def step(self, y: Tensor, one: Tensor, theta: float, h: float) -> Tensor:
        """Return `y` after a step of Runge and Kutta, whose first slope is `one`."""
        two, _ = self.slope(y + 0.5 * h * one, theta + 0.5 * h, False)
        three, _ = self.slope(y + 0.5 * h * two, theta + 0.5 * h, False)
        four, _ = self.slope(y + h * three, theta + h, False)
        return y + h / 6 * (one + 2 * two + 2 * three + four)

    def slope(self, y: Tensor, theta: float, wanted: bool) -> tuple[Tensor, Tensor]:
        r"""Return :math:`dy/d\theta` and estimates of its divergence, ``(repeats, chains)``."""
        trace = self.nothing(y)
        r = self.knee * math.sinh(theta)
        if r < 1e-9:
            return torch.zeros_like(y), trace
        process = self.model.process
        r = min(r, process.ratio(1.0))
        speed = r * self.knee * math.cosh(theta)
        wide = self.spectrum + r * r
        wanted = wanted and bool(self.masks)
        with derivatives() if wanted else torch.no_grad():
            y = y.detach().clone().requires_grad_(True) if wanted else y
            modes = self.model.white_residual(y, process.time_of(r))
            found = field_of(modes, y) if wanted else modes
        share, width = half(self.spectrum / wide, y), half(wide**-0.5, y)
        for n in range(self.repeats if wanted else 0):
            signs = block_noise(self.streams, tuple(y.shape[1:]), y.dtype, y.device)[: len(y)]
            signs = torch.where(signs < 0, -1.0, 1.0).to(y)
            for mask in self.masks:
                # of c dN/dx, which is local where dy/dr's own Jacobian is not, and so less noisy
                probe = modes_of(signs * mask.to(y))
                pulled, = torch.autograd.grad(found, y, field_of(probe * share, y),
                                              retain_graph=True)
                trace[n] += speed * lattice_sum(pulled * field_of(probe * width, y))
        gain = half(speed * self.spectrum / wide**1.5, y)
        return field_of(modes.detach() * gain, y), trace


def _combs(shape: tuple[int, ...], spacing: int):
    """Yield masks that share the sites out, each with every `spacing`-th of each direction."""
    for offset in itertools.product(range(spacing), repeat=len(shape)):
        mask = torch.zeros(shape, device="cpu")
        mask[tuple(slice(n, None, spacing) for n in offset)] = 1.0
        yield mask
