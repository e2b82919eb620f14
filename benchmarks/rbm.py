"""Training speed of the scalar-field RBM beside plain matrix products and three other codes.

One epoch of persistent contrastive divergence with one Gibbs sweep an update (PCD-1): 60,000
images of 784 pixels, 784 hidden units, minibatches and chains of 128, 469 updates, float32. Run it
by `make bench`, or `python -m benchmarks.rbm`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import tempfile
import warnings

import torch

from benchmarks.harness import compare, machine, missing, rerun_without, versus
from physml import datasets, device, rbm
from physml.errors import DataUnavailable

BATCH, HIDDEN = 128, 784


def images() -> tuple[torch.Tensor, str]:
    """Return 60,000 images in [0, 1] as float32 rows, and what they are.

    The surrogate has 8 bits as MNIST has: no value is so small as to be denormal, which would
    slow every code down by an order of magnitude.
    """
    with contextlib.suppress(DataUnavailable):
        return datasets.mnist(download=False).pixels(), "MNIST"
    generator = device.generator(784)
    grey = torch.randint(1, 256, (60_000, 784), generator=generator)
    lit = torch.rand(grey.shape, generator=generator) < 0.19
    return (grey * lit).float() / 255, "a surrogate (MNIST is not on this disk)"


def products(data: torch.Tensor, updates: int):
    """Only the matrix products of an update, into memory that is there: the most one can reach.

    Hidden fields of data and chains, visible fields of the chains, and the gradient, with data and
    chains in one product: of all ways to group them the fastest.
    """
    n_visible = data.shape[1]
    fields, hidden = torch.rand(2 * BATCH, n_visible), torch.rand(2 * BATCH, HIDDEN)
    weight = 0.01 * torch.rand(n_visible, HIDDEN)
    out = [torch.empty(2 * BATCH, HIDDEN), torch.empty(BATCH, n_visible), torch.empty_like(weight)]

    def run() -> None:
        for _ in range(updates):
            torch.mm(fields, weight, out=out[0])
            torch.mm(hidden[:BATCH], weight.T, out=out[1])
            torch.mm(fields.T, hidden, out=out[2])

    return run


def physml_pcd(data: torch.Tensor, updates: int):
    """`physml.rbm.train`, with its guard of positivity; the moments of the data are set up once."""
    target = rbm.Target.of_data(data)

    def run() -> None:
        model = rbm.ScalarFieldRBM(data.shape[1], HIDDEN, mu2=100.0, init=0.01,
                                   generator=device.generator(1), dtype=torch.float32)
        rbm.train(model, target, method="pcd", steps=updates, lr=1e-4, chains=BATCH,
                  batch_size=BATCH, generator=device.generator(2), record_every=updates,
                  progress=False)

    return run


def rbms_pcd(data: torch.Tensor, updates: int):
    """`rbms` (Bernoulli units): its update by itself, as its own loop reopens a file each time."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    model = BBRBM(0.01 * torch.randn(data.shape[1], HIDDEN), torch.zeros(data.shape[1]),
                  torch.zeros(HIDDEN))
    model.init_grad()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, maximize=True)
    chains, weights = model.init_chains(BATCH), torch.ones(BATCH)

    def run() -> None:
        nonlocal chains
        with torch.no_grad():
            for _ in range(updates):
                pick = torch.randint(len(data), (BATCH,))
                optimiser.zero_grad(set_to_none=False)
                chains, _ = fit_batch_pcd((data[pick], weights), chains, model, 1, 1.0)
                optimiser.step()

    return run


def learnergy_cd(data: torch.Tensor, updates: int):
    """`learnergy` (Gaussian and Bernoulli units) has no persistent chains: its own fit, by CD-1."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        from learnergy.models.gaussian import GaussianRBM  # opens a log file where it is

        logging.disable()
    seen = data[: updates * BATCH]
    dataset = torch.utils.data.TensorDataset(seen, torch.zeros(len(seen)))

    def run() -> None:
        # a step of 0.01 diverges here: the code standardises each pixel, also those nearly black
        model = GaussianRBM(data.shape[1], HIDDEN, steps=1, learning_rate=1e-4)
        model.fit(dataset, batch_size=BATCH, epochs=1)

    return run


def sklearn_pcd(data: torch.Tensor, updates: int):
    """scikit-learn's `BernoulliRBM`, float32."""
    from sklearn.neural_network import BernoulliRBM

    seen = data[: updates * BATCH].numpy()
    return lambda: BernoulliRBM(HIDDEN, learning_rate=0.01, batch_size=BATCH, n_iter=1,
                                random_state=1).fit(seen)


PEERS = {"rbms": rbms_pcd, "learnergy": learnergy_cd, "scikit-learn": sklearn_pcd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=469, help="469 are one epoch")
    options = parser.parse_args()
    rerun_without("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

    data, name = images()
    print(machine("torch", "numpy", *PEERS))
    print(f"PCD-1 on {name}, {HIDDEN} hidden units, batch {BATCH}, {options.updates} updates, "
          f"float32, {torch.get_num_threads()} threads")
    # of a peer's use of TorchScript
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    candidates = {"matrix products": products(data, options.updates),
                  "physml": physml_pcd(data, options.updates)}
    for package, build in PEERS.items():
        if absent := missing(package):
            print(absent)
        else:
            candidates[package] = build(data, options.updates)
    rows = compare(candidates, options.rounds, options.updates * BATCH, "samples")
    ours, *peers = rows[1:]
    print(f"physml reaches {ours.ratio:.0%} of its matrix products (target: 60 %)")
    for peer in peers:
        goal = 1.0 if peer.name == "scikit-learn" else 1.5
        print(f"physml is {versus(ours, peer):.2f} times as fast as {peer.name} (target: {goal})")


if __name__ == "__main__":
    main()
