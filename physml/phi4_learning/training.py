r"""Training a `Phi4Network` by persistent contrastive divergence.

The gradient of the mean log-likelihood is a difference of expectations,

.. math:: \partial_{w_{ij}}=\langle\phi_ih_j\rangle_{\rm data}-\langle\phi_ih_j\rangle_{\rm model},
          \qquad\partial_{a_i}=\langle\phi_i^2\rangle_{\rm model}-\langle\phi_i^2\rangle_{\rm data},

and alike for the other site terms, with hidden units drawn given the data in the first expectation
and chains that are never restarted in the second (T. Tieleman, ICML 2008).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import training
from ..errors import (
    StabilityError,
    check_finite,
    check_positive,
    check_positive_int,
    check_real,
    check_rows,
    check_shape,
)
from .network import Phi4Network

__all__ = ["NetworkHistory", "train_network"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's usual ones


@dataclass(repr=False)
class NetworkHistory(training.Records):
    r"""What a run recorded, one entry for each of `steps`.

    Attributes
    ----------
    steps
        Updates made.
    mismatch
        Root mean square, over visible units, of the difference of :math:`\langle\phi_i^2\rangle`
        between the last minibatch and the chains.
    weight_norm
        Frobenius norm of the weights.
    shortened
        Updates that were made shorter, or not at all, to keep the norm of :math:`e^{-S}`.
    """

    steps: list = field(default_factory=list)
    mismatch: list = field(default_factory=list)
    weight_norm: list = field(default_factory=list)
    shortened: list = field(default_factory=list)


@torch.no_grad()
def train_network(
    network: Phi4Network,
    data: Tensor,
    *,
    steps: int,
    lr: float | Callable[[int], float],
    generator: torch.Generator,
    method: str = "adam",
    chains: int = 128,
    batch_size: int = 128,
    sweeps: int = 1,
    train: Sequence[str] | None = None,
    floor: float = 1e-3,
    average_from: int | None = None,
    record_every: int = 50,
    seconds: float | None = None,
    progress: bool = True,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
) -> NetworkHistory:
    r"""Train `network` in place towards the highest likelihood of `data`; return the history.

    Parameters
    ----------
    data
        ``(samples, n_visible)``; minibatches are drawn with replacement.
    steps, lr
        Number of updates, and their size: a number or a function of the update's index.
    method
        ``"adam"`` (Kingma and Ba, arXiv:1412.6980), whose steps are about `lr` in each coupling, or
        ``"sgd"``, plain ascent.
    chains, batch_size, sweeps
        Persistent chains, which start from data; block-Gibbs sweeps between updates.
    train
        Names of the couplings to be learned; by default all that `Phi4Network.parameters` has,
        without the quartic ones that are zero throughout (a Gaussian layer stays Gaussian).
    floor
        Trained quartic couplings stay above this, so that :math:`e^{-S}` keeps its norm.
    average_from
        If given, the network ends with the mean of its couplings over the updates from this one on.
    record_every
        Updates between records; the last is always recorded.
    seconds
        Stop after this much time even if `steps` are not done.
    checkpoint, checkpoint_every
        A ``.safetensors`` file, written whole every so many updates and at the end. If it is
        there, the run goes on from it, to the same records and bits as without a stop. All else
        must be given as the first time (see `physml.checkpoints.identity`), or, for `network` and
        `generator`, as the run left them; `lr` may differ for updates still to come.

    Raises
    ------
    StabilityError
        If the network has no norm at the start.
    ValueError
        If the chains run away.
    CheckpointError
        If the checkpoint is damaged or belongs to a run with other settings.
    """
    check_rows("data", check_finite("data", check_shape("data", data, (None, network.n_visible))))
    network._check_units("data", check_real("data", data))
    if method not in ("adam", "sgd"):
        raise ValueError(f"method must be 'adam' or 'sgd', not {method!r}")
    for name, value in (("steps", steps), ("chains", chains), ("batch_size", batch_size),
                        ("sweeps", sweeps), ("record_every", record_every),
                        ("checkpoint_every", checkpoint_every)):
        check_positive_int(name, value)
    if not callable(lr):
        check_positive("lr", lr)
    check_positive("floor", floor)
    if average_from is not None and not 0 <= average_from < steps:
        raise ValueError(f"average_from must lie in [0, steps), not {average_from}")
    known = network.parameters()
    if train is None:
        train = [k for k, v in known.items() if k not in ("b", "n") or bool(v.any())]
    unknown = sorted(set(train) - set(known))
    if unknown or not train:
        raise ValueError(f"train must name some of {sorted(known)}, not {list(train)}")
    network.check_stable()
    data = data.to(network.weight)
    options = {"method": method, "chains": chains, "batch_size": batch_size, "sweeps": sweeps,
               "train": sorted(train), "floor": floor, "average_from": average_from}
    identity = None if checkpoint is None else training.identity(
        known, generator, network=network, data=data, record_every=record_every,
        device=network.weight.device.type, **options)
    run = _Run(network, data, options, generator)
    run.train(steps, lr=lr, record_every=record_every, seconds=seconds, progress_bar=progress,
           checkpoint=checkpoint, checkpoint_every=checkpoint_every, identity=identity)
    for name, value in run.final().items():
        getattr(network, name).copy_(value)
    return run.history


class _Run(training.Training):
    """The state of a run."""

    label = "phi^4 network"

    def __init__(self, network: Phi4Network, data: Tensor, options: dict,
                 generator: torch.Generator) -> None:
        super().__init__(generator)
        self.network, self.data, self.options = network, data, options
        self.shortened, self.averaged, self.mismatch = 0, 0, 0.0
        self.trained = {name: getattr(network, name) for name in options["train"]}
        self.first = {k: torch.zeros_like(v) for k, v in self.trained.items()}
        self.second = {k: torch.zeros_like(v) for k, v in self.trained.items()}
        self.average = {k: torch.zeros_like(v) for k, v in self.trained.items()}
        self.chains = self.draw(options["chains"]).clone()
        self.history = NetworkHistory()

    def draw(self, n: int) -> Tensor:
        """Return `n` random data."""
        pick = torch.randint(len(self.data), (n,), generator=self.generator,
                             device=self.data.device)
        return self.data[pick]

    def gradient(self) -> dict[str, Tensor]:
        """Return the ascent direction by name, and move the chains on."""
        network, batch = self.network, self.draw(self.options["batch_size"])
        n = len(batch)
        phi = torch.cat([batch, self.chains])
        h = network.sample_hidden(phi, self.generator)
        sign = torch.full((len(phi), 1), -1 / len(self.chains)).to(phi)
        sign[:n] = 1 / n

        def difference(x: Tensor) -> Tensor:
            return (sign * x).sum(0)

        squares = difference(phi**2)
        grad = {"weight": (sign * phi).T @ h, "r": -difference(phi), "s": -difference(h),
                "a": -squares, "b": -difference(phi**4), "m": -difference(h**2),
                "n": -difference(h**4)}
        self.mismatch = float(squares.square().mean().sqrt())
        chains = network.sample_visible(h[n:], self.generator)
        if self.options["sweeps"] > 1:
            chains = network.gibbs(chains, self.options["sweeps"] - 1, self.generator)
        self.chains = check_finite("the chains", chains)
        return {name: grad[name] for name in self.trained}

    def update(self, rate: float) -> None:
        """Make one update of size `rate`."""
        deltas = self.gradient()
        self.step += 1
        for name, g in deltas.items():
            if self.options["method"] == "adam":
                first = self.first[name].mul_(_BETA1).add_(g, alpha=1 - _BETA1)
                second = self.second[name].mul_(_BETA2).addcmul_(g, g, value=1 - _BETA2)
                root = (second / (1 - _BETA2**self.step)).sqrt_().add_(_EPSILON)
                g = first / (1 - _BETA1**self.step) / root
            deltas[name] = g * rate
        before = {name: v.clone() for name, v in self.trained.items()}
        scale = 1.0
        while not self.moved(before, deltas, scale):
            # at the edge of what has a norm: stay, and let the chains, which lag behind, catch up
            scale = scale / 2 if scale > 1e-3 else 0.0
        self.shortened += scale < 1
        start = self.options["average_from"]
        if start is not None and self.step > start:
            self.averaged += 1
            for name, v in self.trained.items():
                self.average[name].lerp_(v, 1 / self.averaged)

    def moved(self, before: dict[str, Tensor], deltas: dict[str, Tensor], scale: float) -> bool:
        """Go `scale` times `deltas` from `before`, and say whether exp(-S) has a norm there."""
        for name, v in self.trained.items():
            v.copy_(before[name] + scale * deltas[name])
            if name in ("b", "n"):
                v.clamp_(min=self.options["floor"])
        try:
            self.network.check_stable()
        except StabilityError:
            if not scale:
                raise
            return False
        return True

    def record(self) -> None:
        """Append to the history."""
        history = self.history
        history.steps.append(self.step)
        history.mismatch.append(self.mismatch)
        history.weight_norm.append(float(self.network.weight.norm()))
        history.shortened.append(int(self.shortened))

    # --- stop and go on -------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that change, by name: the very ones, to be written to."""
        out = {"chains": self.chains}
        for group in ("trained", "first", "second", "average"):
            out |= {f"{group}.{k}": v for k, v in getattr(self, group).items()}
        return out

    def final(self) -> dict[str, Tensor]:
        """Return what the couplings that are trained end with."""
        return self.average if self.averaged else self.trained

    def result(self) -> dict[str, Tensor]:
        return self.network.parameters() | self.final()

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        return self.tensors(), {
            "history": vars(self.history), "shortened": int(self.shortened),
            "averaged": self.averaged, "mismatch": self.mismatch}

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.history = NetworkHistory(**facts["history"])
        self.shortened, self.averaged = facts["shortened"], facts["averaged"]
        self.mismatch = facts["mismatch"]
