r"""Ways to train a `ScalarFieldRBM`, on one driver.

The gradient of the mean log-likelihood is a difference of expectations,

.. math::

    \partial_W&=\langle\phi h^T\rangle_{\rm data}-\langle\phi h^T\rangle_{\rm model},\\
    \partial_\eta&=W^T(\langle\phi\rangle_{\rm data}-\langle\phi\rangle_{\rm model}),\\
    \partial_{\mu^2}&=-\tfrac12(\langle\phi^2\rangle_{\rm data}-\langle\phi^2\rangle_{\rm model}),

with :math:`\langle\phi h^T\rangle=\langle\phi\rangle\eta^T+\sigma^2\langle\phi\phi^T\rangle W`.
The methods differ in the second term (persistent chains, short chains from the data, or the exact
:math:`K^{-1}`) and, for ``"natural"``, in the metric that turns the gradient into a step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import exact, training
from ..errors import (
    CheckpointError,
    StabilityError,
    check_finite,
    check_positive,
    check_positive_int,
    check_real,
    check_rows,
    check_shape,
)
from .model import ScalarFieldRBM

__all__ = ["History", "Target", "train"]

METHODS = ("pcd", "cd", "exact", "natural")


@dataclass(frozen=True)
class Target:
    """What is learned: samples, or only their two-point function and mean.

    Build it with `of_data`, `of_kernel` or `of_two_point`. With samples the stochastic methods
    draw minibatches; without, the positive phase is exact, as in arXiv:2309.15002.
    """

    two_point: Tensor
    mean: Tensor
    samples: Tensor | None = None

    @classmethod
    def of_two_point(cls, two_point: Tensor, mean: Tensor | None = None) -> Target:
        """Target known by its (full) two-point function ``(n, n)`` and mean ``(n,)``, or zero."""
        n = two_point.shape[0]
        check_finite("two_point", check_shape("two_point", two_point, (n, n)))
        mean = two_point.new_zeros(n) if mean is None else check_shape("mean", mean, (n,))
        check_finite("mean", mean)
        return cls(two_point, mean)

    @classmethod
    def of_kernel(cls, kernel: Tensor) -> Target:
        """Free field with the positive kernel ``(n, n)``."""
        lower, bad = torch.linalg.cholesky_ex(kernel)
        if int(bad):
            raise StabilityError("kernel must be positive definite to define a free field")
        return cls.of_two_point(torch.cholesky_inverse(lower))

    @classmethod
    def of_data(cls, samples: Tensor) -> Target:
        """Samples ``(n, n_visible)``; their moments are taken in float64 where there is one."""
        check_rows("samples", check_finite("samples", check_shape("samples", samples,
                                                                  (None, None))))
        samples = check_real("samples", samples).detach()
        wide = samples if samples.device.type == "mps" else samples.double()
        return cls(wide.T @ wide / len(wide), wide.mean(0), samples)

    def like(self, tensor: Tensor) -> Target:
        """Return the target on another tensor's device and in its dtype."""
        samples = None if self.samples is None else self.samples.to(tensor)
        return Target(self.two_point.to(tensor), self.mean.to(tensor), samples)


@dataclass(repr=False)
class History(training.Records):
    """What a run recorded: one entry for each of `steps`, as tensors on the CPU.

    Attributes
    ----------
    steps, time
        Updates made, and the learning time they add up to (the sum of the step sizes). With
        `average_from` the records show the fluctuating weights, not their average.
    log_likelihood
        Exact mean log-likelihood of the target in nats.
    spectrum
        Eigenvalues of `K`, ascending, ``(records, n_visible)``.
    mu2
        The mass.
    shortened
        How many updates the guard had to shorten so far.
    """

    steps: list = field(default_factory=list)
    time: list = field(default_factory=list)
    log_likelihood: list = field(default_factory=list)
    spectrum: list = field(default_factory=list)
    mu2: list = field(default_factory=list)
    shortened: list = field(default_factory=list)

    def record(self, steps: int, time: float, model: ScalarFieldRBM, target: Target,
               shortened: int) -> None:
        """Append the state of `model` after `steps` updates."""
        self.steps.append(steps)
        self.time.append(time)
        self.log_likelihood.append(float(model.mean_log_likelihood(target.two_point, target.mean)))
        self.spectrum.append(model.spectrum().double().cpu())
        self.mu2.append(float(model.mu2))
        self.shortened.append(shortened)

    def tensors(self) -> dict[str, Tensor]:
        """Return the records as float64 tensors by name."""
        out = {k: torch.tensor(v, dtype=torch.float64, device="cpu")
               for k, v in vars(self).items() if k != "spectrum"}
        return out | {"spectrum": torch.stack(self.spectrum)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> History:
        """Rebuild from `tensors`."""
        lists = {k: v.tolist() for k, v in tensors.items() if k != "spectrum"}
        for name in ("steps", "shortened"):
            lists[name] = [int(v) for v in lists[name]]
        return cls(**lists, spectrum=list(tensors["spectrum"]))


def train(
    model: ScalarFieldRBM,
    target: Target,
    *,
    steps: int,
    lr: float | Callable[[int], float],
    method: str = "pcd",
    sweeps: int = 1,
    chains: int = 64,
    batch_size: int = 64,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    learn_mass: bool = False,
    learn_bias: bool = False,
    on_unstable: str = "raise",
    generator: torch.Generator | None = None,
    average_from: int | None = None,
    record_every: int = 10,
    progress: bool = True,
    seconds: float | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 1000,
) -> History:
    r"""Train `model` in place towards the highest likelihood of `target`; return the history.

    Parameters
    ----------
    steps, lr
        Number of updates, and the step size: a number or a function of the update's index.
    method
        ``"pcd"``: persistent chains, advanced by `sweeps` block-Gibbs sweeps after each update
        (so that an update uses chains that the weights before it moved; they start exactly
        distributed). ``"cd"``: chains that start from the data at each update. ``"exact"``:
        :math:`K^{-1}` itself. ``"natural"``: the exact gradient in the Fisher metric, in which
        every mode relaxes at the same rate (see `natural_step`); step sizes up to 1.
    chains, batch_size
        Of the stochastic methods. Minibatches are drawn with replacement if the target holds
        samples; otherwise the positive phase is exact (``"cd"`` draws its starts from the
        Gaussian with the target's moments).
    momentum, weight_decay
        Heavy-ball factor, and the coefficient of the L2 pull on `W`.
    learn_mass, learn_bias
        Whether :math:`\mu^2` and :math:`\eta` follow their gradients too.
    on_unstable
        What to do with an update after which `K` would not be positive: ``"raise"`` refuses it
        (the model is left as it was before), ``"shorten"`` halves it until `K` stays positive.
    generator
        Needed by the stochastic methods.
    average_from
        If given, the model ends with the average of `W` over the updates from this one on
        (Polyak and Juditsky, SIAM J. Control Optim. 30 (1992) 838): the noise of a constant step
        size averages out in all modes alike. `W` is fixed up to :math:`W\to WO`, which drifts
        too slowly to matter.
    record_every
        Updates between records; the first and the last are always recorded.
    seconds
        Stop after this much time even if `steps` are not done (for comparisons at equal cost).
    checkpoint, checkpoint_every
        A ``.safetensors`` file, written whole every so many updates and at the end. If it is
        there, the run goes on from it, to the same records and bits as without a stop. All else
        must be given as the first time (see `physml.checkpoints.identity`), or, for `model` and
        `generator`, as the run left them. The file knows the step sizes of its updates: `lr` must
        give the same ones for them, and may differ only for those still to come; so may
        `on_unstable`, if nothing was shortened yet.

    Raises
    ------
    StabilityError
        At an update that would lose positivity, with the step size that is stable.
    CheckpointError
        If the checkpoint is damaged or belongs to a run with other settings.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, not {method!r}")
    if on_unstable not in ("raise", "shorten"):
        raise ValueError(f"on_unstable must be 'raise' or 'shorten', not {on_unstable!r}")
    if method in ("pcd", "cd") and generator is None:
        raise ValueError(f"method={method!r} draws random numbers: pass a generator")
    if method == "natural" and (learn_mass or learn_bias or momentum or weight_decay):
        raise ValueError("method='natural' trains W alone: use 'exact' with mass, bias or momentum")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), not {momentum}")
    check_positive_int("steps", steps)
    for name, value in (("record_every", record_every), ("sweeps", sweeps), ("chains", chains),
                        ("batch_size", batch_size), ("checkpoint_every", checkpoint_every)):
        check_positive_int(name, value)
    if weight_decay < 0:
        raise ValueError(f"weight_decay must not be negative, not {weight_decay}")
    if not callable(lr):
        check_positive("lr", lr)
    check_shape("target.two_point", target.two_point, (model.n_visible, model.n_visible))
    model.check_stable()

    work = target.like(model.weight)
    options = {"method": method, "sweeps": sweeps, "chains": chains, "batch_size": batch_size,
               "momentum": momentum, "weight_decay": weight_decay, "learn_mass": learn_mass,
               "learn_bias": learn_bias, "average_from": average_from}
    start = {"weight": model.weight, "eta": model.eta, "mu2": model.mu2}
    identity = None if checkpoint is None else training.identity(
        start, generator, model=model, target=work, record_every=record_every,
        device=model.weight.device.type, **options)
    run = _Run(model, work, options, generator, on_unstable)
    run.train(steps, lr=lr, record_every=record_every, seconds=seconds, progress_bar=progress,
           checkpoint=checkpoint, checkpoint_every=checkpoint_every, identity=identity)
    if run.averaged:
        model.weight.copy_(run.average)
    return run.history


class _Run(training.Training):
    """The state of a run."""

    def __init__(self, model: ScalarFieldRBM, target: Target, options: dict,
                 generator: torch.Generator | None, on_unstable: str = "raise") -> None:
        super().__init__(generator)
        self.model, self.target, self.options = model, target, options
        self.on_unstable, self.label = on_unstable, f"RBM, {options['method']}"
        self.time, self.shortened = 0.0, 0
        self.history = History()
        self.velocity = {k: torch.zeros_like(v) for k, v in self.parameters().items()}
        self.buffer = torch.empty_like(model.weight)
        # how far W may still move, in the spectral norm, before K could lose positivity
        self.slack = 0.0
        self.average, self.averaged = torch.zeros_like(model.weight), 0
        self.chains = None
        if options["method"] == "pcd":
            self.chains = model.sample(options["chains"], generator)

    def parameters(self) -> dict[str, Tensor]:
        """The tensors that are trained, by name."""
        model, options = self.model, self.options
        out = {"weight": model.weight}
        if options["learn_bias"]:
            out["eta"] = model.eta
        if options["learn_mass"]:
            out["mu2"] = model.mu2
        return out

    # --- gradients ------------------------------------------------------------------------------

    def gradient(self) -> dict[str, Tensor]:
        """Return the ascent direction by parameter name, good until the next call."""
        method = self.options["method"]
        if method == "exact":
            covariance = self.model.covariance()
            mean = covariance @ self.model.source()
            moments = (covariance + torch.outer(mean, mean), mean)
            return self.difference(positive=self.exact_phase(self.target.two_point,
                                                             self.target.mean),
                                   negative=self.exact_phase(*moments))
        batch = self.draw_batch()
        if method == "cd":
            start = self.draw_gaussian() if batch is None else batch
            negative = self.sampled_phase(self.model.gibbs(start, self.options["sweeps"],
                                                           self.generator))
            if batch is None:
                return self.difference(self.exact_phase(self.target.two_point, self.target.mean),
                                       negative)
            return self.difference(self.sampled_phase(batch), negative)
        return self.persistent(batch)

    def persistent(self, batch: Tensor | None) -> dict[str, Tensor]:
        """PCD: gradient from the chains, which the same products then move on."""
        model, options, n_data = self.model, self.options, 0 if batch is None else len(batch)
        # one product serves data and chains, and the chains' part is the first half of a sweep
        fields = self.chains if batch is None else torch.cat([batch, self.chains])
        hidden = model.hidden_mean(fields)
        noise = torch.empty_like(hidden[n_data:]).normal_(generator=self.generator)
        drawn = noise.mul_(model.sigma).add_(hidden[n_data:])
        hidden[:n_data] /= max(n_data, 1)
        hidden[n_data:] /= -len(self.chains)
        # into memory of its own: fresh pages of this size cost as much as a pass over them
        grad = {"weight": torch.mm(fields.T, hidden, out=self.buffer)}
        if batch is None:
            grad["weight"] += self.exact_phase(self.target.two_point, self.target.mean)["weight"]
        if options["learn_bias"] or options["learn_mass"]:
            data = ((self.target.mean, self.target.two_point.trace()) if batch is None
                    else (batch.mean(0), (batch**2).sum(-1).mean()))
            grad["eta"] = (data[0] - self.chains.mean(0)) @ model.weight
            grad["mu2"] = -0.5 * (data[1] - (self.chains**2).sum(-1).mean())
        phi = model.sample_visible(drawn, self.generator)
        if options["sweeps"] > 1:
            phi = model.gibbs(phi, options["sweeps"] - 1, self.generator)
        self.chains = phi
        return grad

    def exact_phase(self, two_point: Tensor, mean: Tensor) -> dict[str, Tensor]:
        """Moments that enter the gradient, from the two-point function."""
        model = self.model
        return {"weight": torch.addmm(torch.outer(mean, model.eta), two_point, model.weight,
                                      alpha=model.sigma**2),
                "eta": mean, "mu2": two_point.trace()}

    def sampled_phase(self, phi: Tensor) -> dict[str, Tensor]:
        """The same moments from samples ``(n, n_visible)``."""
        return {"weight": phi.T @ self.model.hidden_mean(phi) / len(phi), "eta": phi.mean(0),
                "mu2": (phi**2).sum(-1).mean()}

    def difference(self, positive: dict, negative: dict) -> dict[str, Tensor]:
        """Gradient of the log-likelihood from the two phases."""
        return {"weight": positive["weight"] - negative["weight"],
                "eta": (positive["eta"] - negative["eta"]) @ self.model.weight,
                "mu2": -0.5 * (positive["mu2"] - negative["mu2"])}

    def draw_batch(self) -> Tensor | None:
        """Return a minibatch, or None if the target holds no samples."""
        samples = self.target.samples
        if samples is None:
            return None
        pick = torch.randint(len(samples), (self.options["batch_size"],),
                             generator=self.generator, device=samples.device)
        return samples[pick]

    def draw_gaussian(self) -> Tensor:
        """Return starts for CD from the Gaussian with the target's moments."""
        if not hasattr(self, "_factor"):
            centred = self.target.two_point - torch.outer(self.target.mean, self.target.mean)
            c, u = torch.linalg.eigh(centred)
            self._factor = u * c.clamp(min=0).sqrt()
        z = self._factor.new_empty(self.options["chains"], self.model.n_visible)
        return z.normal_(generator=self.generator) @ self._factor.T + self.target.mean

    # --- one update -----------------------------------------------------------------------------

    def update(self, rate: float) -> None:
        """Make one update of size `rate`, and take it into the average."""
        self.move(rate)
        start = self.options["average_from"]
        if start is not None and self.step >= start:
            self.averaged += 1
            self.average.lerp_(self.model.weight, 1 / self.averaged)

    def move(self, rate: float) -> None:
        """Change the parameters by one step of size `rate`."""
        if self.options["method"] == "natural":
            taken = natural_step(self.model, self.target, rate)
            self.step += 1
            self.time += taken
            self.shortened += taken < rate
            return
        steps = self.gradient()
        momentum, decay = self.options["momentum"], self.options["weight_decay"]
        for name, parameter in self.parameters().items():
            if momentum:
                steps[name] = self.velocity[name].mul_(momentum).add_(steps[name])
            if name == "weight" and decay:
                steps[name] = torch.sub(steps[name], parameter, alpha=decay)
        scale = self.admit(steps, rate)
        for name, parameter in self.parameters().items():
            parameter.add_(steps[name], alpha=rate * scale)
        self.step += 1
        self.time += rate * scale
        self.shortened += scale < 1

    def admit(self, steps: dict[str, Tensor], rate: float) -> float:
        r"""Return the fraction of `rate` times the steps after which `K` is still positive.

        A step no longer, in the Frobenius norm, than the slack :math:`\mu/\sigma-\xi_{\max}` left
        since the last exact look is safe, as the spectral norm is not larger.
        """
        model, mu2 = self.model, float(self.model.mu2)
        learn_mass = self.options["learn_mass"]
        new_mu2 = mu2 + rate * float(steps["mu2"]) if learn_mass else mu2
        length = rate * float(steps["weight"].norm())
        if new_mu2 > 0:
            length += max(0.0, math.sqrt(mu2) - math.sqrt(new_mu2)) / model.sigma
            if length < self.slack:
                self.slack -= length
                return 1.0
        scale = 1.0
        while scale > 1e-12:
            mass = mu2 + scale * (new_mu2 - mu2)
            top = _largest_singular_value(
                torch.add(model.weight, steps["weight"], alpha=scale * rate))
            if mass > 0 and model.sigma**2 * top**2 < mass * (1 - 1e-9):
                # half of it: matrix norms in float32 are not exact, and rounding adds up
                self.slack = 0.5 * (math.sqrt(mass) / model.sigma - top)
                return scale
            if self.on_unstable == "raise" or not math.isfinite(top):
                raise StabilityError(self.advice(rate))
            scale /= 2
        raise StabilityError(self.advice(rate))

    def advice(self, rate: float) -> str:
        """Say which step size would have been stable."""
        top = float(torch.linalg.eigvalsh(self.target.two_point)[-1])
        mu2 = float(self.model.mu2)
        limit = exact.rbm_step_bound(1 / top, mu2, self.model.sigma)
        bound = (f"plain ascent is stable for lr < kappa_min^2/[sigma^2 (mu2 - kappa_min)] = "
                 f"{limit:.3g} (kappa_min={1 / top:.4g}), with noise or momentum for less")
        return (f"update {self.step + 1} with lr={rate:.4g} would make K = mu2 - sigma^2 W W^T "
                f"lose positivity (mu2={mu2:.4g}), and was refused: {bound}; "
                "or pass on_unstable='shorten'")

    # --- records, stop and go on ----------------------------------------------------------------

    def record(self) -> None:
        self.history.record(self.step, self.time, self.model, self.target, self.shortened)

    begin = record  # before the first update as well

    def result(self) -> dict[str, Tensor]:
        model = self.model
        return {"weight": self.average if self.averaged else model.weight, "eta": model.eta,
                "mu2": model.mu2}

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        model = self.model
        tensors = {"model.weight": model.weight, "model.eta": model.eta, "model.mu2": model.mu2,
                   "average": self.average}
        tensors |= {f"velocity.{k}": v for k, v in self.velocity.items()}
        tensors |= {f"history.{k}": v for k, v in self.history.tensors().items()}
        if self.chains is not None:
            tensors["chains"] = self.chains
        return tensors, {"time": self.time, "shortened": self.shortened, "slack": self.slack,
                         "averaged": self.averaged}

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        model = self.model
        if facts["shortened"] and self.on_unstable == "raise" and (
                self.options["method"] != "natural"):
            raise CheckpointError(f"the checkpoint's run has shortened {facts['shortened']} "
                                  "updates, and on_unstable='raise' would have refused them: pass "
                                  "on_unstable='shorten', or use another file")
        for name in ("weight", "eta", "mu2"):
            getattr(model, name).copy_(tensors[f"model.{name}"])
        for name, velocity in self.velocity.items():
            velocity.copy_(tensors[f"velocity.{name}"])
        if self.chains is not None:
            self.chains = tensors["chains"].to(model.weight)
        self.history = History.from_tensors({k.removeprefix("history."): v
                                             for k, v in tensors.items()
                                             if k.startswith("history.")})
        self.time, self.shortened = facts["time"], facts["shortened"]
        self.slack, self.averaged = facts["slack"], facts["averaged"]
        self.average.copy_(tensors["average"])


def natural_step(model: ScalarFieldRBM, target: Target, rate: float) -> float:
    r"""Move `W` along the exact gradient in the Fisher metric; return the step size taken.

    In the space of kernels the natural direction is :math:`\delta K=K-KCK`, which makes every mode
    relax at the rate 1: :math:`\dot\lambda=-\lambda(\lambda-\kappa)/\kappa` (derivation: the metric
    of centred Gaussians is :math:`\frac12\operatorname{tr}(K^{-1}\delta K)^2`). With
    :math:`W=U\Xi V^T`, :math:`KU=U\Lambda` and :math:`P=UU^T` its projection on the kernels that
    `W` reaches is :math:`PM+MP-PMP` with :math:`M=K-KCK`. The step is made there, and the result
    brought back to the nearest kernel of the same rank. It is no longer than `rate`, and short
    enough that no eigenvalue falls by more than half: `K` stays positive from any start.

    The mixed part turns a learned mode :math:`a` towards directions outside `U`. On a mode `b`
    that is cut there, a step of size 1 in the full metric turns it by
    :math:`\frac{\mu^2}{\mu^2-\kappa_a}(1-\frac{\kappa_a}{\kappa_b})` times the angle between
    them, which overshoots if :math:`\kappa_a` is close to :math:`\mu^2` (the Fisher metric is the
    curvature only where the model fits). So there :math:`\mu^2` is replaced by the gap
    :math:`\mu^2-\lambda_a` that the step will leave, divided by its size, if that is less.

    A mode that the data push to zero keeps a trace of weight, so that it may come back, and points
    from then on where the data vary most in the space that is left: as an exact eigenvector of
    another cut mode it would never meet the one that is missing.
    """
    sigma2, mu2 = model.sigma**2, model.mu2
    n = model.n_visible
    u, xi, vt = torch.linalg.svd(model.weight, full_matrices=False)
    rank = len(xi)
    lam = mu2 - sigma2 * xi**2
    along = target.two_point @ u
    inside = u.T @ along
    change = lam[:, None] * inside * lam - torch.diag(lam)
    rate = _halving_at_most(lam, change, rate)
    basis = u
    if rank < n:
        # directions that the data would turn the learned modes into
        extra = torch.linalg.qr(along - u @ inside).Q
        extra = torch.linalg.qr(extra - u @ (u.T @ extra)).Q[:, : n - rank]
        # where the data turn a mode nowhere, QR returns any direction, perhaps one inside `u`
        extra = extra * (torch.linalg.vector_norm(u.T @ extra, dim=0) < 1e-3)
        gap = mu2 - lam + rate * change.diagonal().clamp(min=0)
        mixed = (extra.T @ along) * lam * torch.minimum(mu2, gap / rate)
        change = torch.cat([torch.cat([change, mixed.T], 1),
                            torch.cat([mixed, torch.zeros_like(extra.T @ extra)], 1)])
        basis = torch.cat([u, extra], 1)
        lam = torch.cat([lam, mu2.expand(extra.shape[1])])
        rate = _halving_at_most(lam, change, rate)
    value, vector = torch.linalg.eigh(torch.diag(mu2 - lam) + rate * change)
    trace = 1e-12 * float(mu2)
    basis = basis @ vector
    idle = rank - int((value[-rank:] > trace).sum())
    if idle and rank < n:
        rest = basis[:, : idle - rank or None]
        turn = torch.linalg.eigh(rest.T @ target.two_point @ rest).eigenvectors
        basis[:, : idle - rank or None] = rest @ turn
    value = value[-rank:].clamp(min=trace)
    model.weight.copy_(basis[:, -rank:] * (value / sigma2).sqrt() @ vt)
    return rate


def _halving_at_most(lam: Tensor, change: Tensor, rate: float) -> float:
    """Return the step, at most `rate`, that lowers no eigenvalue of diag(lam) by more than half."""
    root = lam.rsqrt()
    fall = float(torch.linalg.eigvalsh(root[:, None] * change * root)[-1])
    return min(rate, 0.5 / max(fall, 1e-12))


def _largest_singular_value(w: Tensor) -> float:
    gram = w.T @ w if w.shape[0] > w.shape[1] else w @ w.T
    if not bool(torch.isfinite(gram).all()):
        return math.inf
    return math.sqrt(max(float(torch.linalg.eigvalsh(gram)[-1]), 0.0))
