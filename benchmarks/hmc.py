"""HMC of two-dimensional phi^4: `physml.sampling` beside other codes, and physml on its own.

    python -m benchmarks.hmc [--part peers|volume|samplers|ensemble] [--rounds 5] [--only NAME ...]

The task: 32^2 sites, kappa = 0.21, lambda = 0.022, float32, trajectories of length 1 in ten
leapfrog steps, with new momenta, the accept step and all bookkeeping, on all cores. The unit is the
site update: chains x 1024 x 10 a trajectory.

physml runs through `sampling.sample`, with one number measured every ten trajectories, so that
measuring is not what is timed; a second row makes the usual measurements on every trajectory. Both
include the start of the processes. The peers measure nothing. Each works in its own way on its own
threads, in a process of its own: numba's loop is written here, one chain after the other on each
thread, momenta from numba's generator; blackjax and torchebm differentiate the action themselves;
"numpy" moves blocks of 16 chains with `np.roll` on one core, "numpy, one by one" single chains in
float64 in one process a core, as published notebooks do; jaxQFT (github.com/orginos/jaxQFT) is used
where it can be imported.

Before anything is timed each code has to find <phi^2> of the free field, kappa = 0.21, lambda = 0.

Wanted: 8e8 site updates a second from 64 chains up, half of that at least from 16 chains to 4096,
and no peer ahead; 5120 configurations of `phi4_ensemble` at kappa = 0.27 in 20 s.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from benchmarks import harness

L, KAPPA, LAM, STEP, STEPS = 32, 0.21, 0.022, 0.1, 10
CHAINS = (16, 64, 256, 1024, 4096)


class Chains(NamedTuple):
    """What a code under test is here: chains that can be moved on and looked at."""

    advance: Callable[[int], object]  # by this many trajectories
    fields: Callable[[], np.ndarray]  # (chains, L, L)


# --- the codes --------------------------------------------------------------------------------


def physml(kappa: float, lam: float, chains: int, every: bool = False) -> Chains:
    from physml import device, sampling
    from physml.actions import Phi4
    from physml.lattice import Lattice

    g, action = device.generator(chains), Phi4(kappa, lam)
    hmc = sampling.HMC(action, STEP, STEP * STEPS)
    # hot: a cold start is so far off for a thousand chains that some would be long refused
    at = {"phi": 0.5 * sampling.start(action, Lattice((L, L)), chains, "hot", generator=g)}

    def advance(n: int) -> None:
        thin = 1 if every else min(n, 10)
        observe = None if every else lambda phi: {"phi": phi[:, 0, 0]}
        at["phi"] = sampling.sample(hmc, at["phi"], n // thin, thin=thin, generator=g,
                                    observe=observe, progress=False).phi

    return Chains(advance, lambda: at["phi"].numpy())


def measured(kappa: float, lam: float, chains: int) -> Chains:
    return physml(kappa, lam, chains, every=True)


def numba_hmc(kappa: float, lam: float, chains: int) -> Chains:
    import numba

    f = np.float32
    hop, quadratic, quartic, dt = f(2 * kappa), f(1 - 2 * lam), f(lam), f(STEP)

    @numba.njit(fastmath=True)
    def kick(phi, p, scale):
        for x in range(L):
            up, down = phi[(x + 1) % L], phi[(x - 1) % L]
            row, momentum = phi[x], p[x]
            for y in range(1, L - 1):
                a = row[y]
                force = hop * (row[y - 1] + row[y + 1] + up[y] + down[y])
                momentum[y] += scale * (force - f(2) * (quadratic + f(2) * quartic * a * a) * a)
            for y, one, two in ((0, L - 1, 1), (L - 1, L - 2, 0)):
                a = row[y]
                force = hop * (row[one] + row[two] + up[y] + down[y])
                momentum[y] += scale * (force - f(2) * (quadratic + f(2) * quartic * a * a) * a)

    @numba.njit(fastmath=True)
    def drift(phi, p, time):
        for x in range(L):
            for y in range(L):
                phi[x, y] += time * p[x, y]

    @numba.njit(fastmath=True)
    def energy(phi, p):
        total = 0.0  # float64; single precision within a row only
        for x in range(L):
            row, up, momentum, part = phi[x], phi[(x + 1) % L], p[x], f(0)
            for y in range(L - 1):
                a = row[y]
                square = a * a
                part += (quadratic + quartic * square) * square - hop * a * (row[y + 1] + up[y])
                part += f(0.5) * momentum[y] * momentum[y]
            a = row[L - 1]
            square = a * a
            part += (quadratic + quartic * square) * square - hop * a * (row[0] + up[L - 1])
            part += f(0.5) * momentum[L - 1] * momentum[L - 1]
            total += part
        return total

    @numba.njit(parallel=True, fastmath=True)
    def run(fields, n, accepted, delta_h):
        for c in numba.prange(len(fields)):
            old, phi, p = fields[c], np.empty((L, L), f), np.empty((L, L), f)
            for _ in range(n):
                phi[:] = old
                for x in range(L):
                    for y in range(L):
                        p[x, y] = np.random.standard_normal()
                before = energy(phi, p)
                drift(phi, p, f(0.5) * dt)
                for step in range(STEPS):
                    kick(phi, p, dt)
                    drift(phi, p, dt if step < STEPS - 1 else f(0.5) * dt)
                change = energy(phi, p) - before
                delta_h[c] += change
                if np.random.random() < np.exp(-change):
                    accepted[c] += 1
                    old[:] = phi

    fields = 0.5 * np.random.default_rng(1).standard_normal((chains, L, L)).astype(f)
    accepted, delta_h = np.zeros(chains), np.zeros(chains)
    return Chains(lambda n: run(fields, n, accepted, delta_h), lambda: fields)


def jax_qft(kappa: float, lam: float, chains: int) -> Chains:
    import jax.numpy as jnp
    from jaxqft.core.integrators import Leapfrog
    from jaxqft.core.update import HMC
    from jaxqft.models.phi4 import Phi4

    from physml import actions

    mass2, coupling, z = actions.Phi4(kappa, lam).bare(2)
    theory = Phi4((L, L), coupling, mass2, batch_size=chains, dtype=jnp.float32, seed=1)
    leapfrog = Leapfrog(theory.force, theory.evolveQ, STEPS, STEP * STEPS)
    hmc = HMC(theory, leapfrog, verbose=False, seed=2)
    at = {"phi": theory.hotStart()}

    def advance(n: int) -> None:
        hmc.reset_acceptance()
        at["phi"] = hmc.evolve(at["phi"], n).block_until_ready()

    return Chains(advance, lambda: np.asarray(at["phi"]) / z)


def blackjax(kappa: float, lam: float, chains: int) -> Chains:
    import blackjax
    import jax
    import jax.numpy as jnp

    def log_density(flat):
        phi = flat.reshape(L, L)
        square = phi * phi
        links = phi * (jnp.roll(phi, 1, 0) + jnp.roll(phi, 1, 1))
        return jnp.sum(2 * kappa * links - (1 - 2 * lam + lam * square) * square)

    hmc = blackjax.hmc(log_density, STEP, jnp.ones(L * L), STEPS)

    @jax.jit
    def run(states, key, n):
        def trajectory(_, carry):
            states, key, accepted = carry
            key, new = jax.random.split(key)
            states, info = jax.vmap(hmc.step)(jax.random.split(new, chains), states)
            return states, key, accepted + info.is_accepted
        return jax.lax.fori_loop(0, n, trajectory, (states, key, jnp.zeros(chains)))

    key, new = jax.random.split(jax.random.PRNGKey(1))
    at = [jax.vmap(hmc.init)(0.5 * jax.random.normal(new, (chains, L * L))), key]

    def advance(n: int) -> None:
        *at[:], accepted = run(*at, n)
        accepted.block_until_ready()

    return Chains(advance, lambda: np.asarray(at[0].position).reshape(-1, L, L))


def torchebm(kappa: float, lam: float, chains: int) -> Chains:
    import torch
    from torchebm.core import BaseModel
    from torchebm.samplers import HamiltonianMonteCarlo

    class Phi4(BaseModel):
        def forward(self, x):
            phi = x.view(-1, L, L)
            square = phi * phi
            links = phi * (phi.roll(1, 1) + phi.roll(1, 2))
            return ((1 - 2 * lam + lam * square) * square - 2 * kappa * links).sum((1, 2))

    g = torch.Generator().manual_seed(1)
    hmc = HamiltonianMonteCarlo(Phi4(), step_size=STEP, n_leapfrog_steps=STEPS)
    at = {"x": 0.5 * torch.randn(chains, L * L, generator=g)}

    def advance(n: int) -> None:
        at["x"] = hmc.sample(x=at["x"], n_steps=n, generator=g)

    return Chains(advance, lambda: at["x"].view(-1, L, L).numpy())


def numpy_hmc(kappa: float, lam: float, chains: int, block: int = 16, dtype=np.float32,
              seed: int = 1) -> Chains:
    rng = np.random.default_rng(seed)
    fields = (0.5 * rng.standard_normal((chains, L, L))).astype(dtype)
    hop, quadratic, quartic, dt = map(dtype, (2 * kappa, 1 - 2 * lam, lam, STEP))

    def energy(phi, p):
        links = phi * (np.roll(phi, 1, 1) + np.roll(phi, 1, 2))
        density = (quadratic + quartic * phi**2) * phi**2 - hop * links + dtype(0.5) * p**2
        return density.sum((1, 2), dtype=np.float64)

    def force(phi):
        around = sum(np.roll(phi, s, axis) for s in (1, -1) for axis in (1, 2))
        return hop * around - 2 * quadratic * phi - 4 * quartic * phi**3

    def trajectory(old):
        p = rng.standard_normal(old.shape, dtype)
        before = energy(old, p)
        phi = old + dtype(0.5) * dt * p
        for step in range(STEPS):
            p += dt * force(phi)
            phi += (dt if step < STEPS - 1 else dtype(0.5) * dt) * p
        accept = rng.random(len(phi)) < np.exp(before - energy(phi, p))
        old[accept] = phi[accept]

    def advance(n: int) -> None:
        for part in range(0, chains, block):
            for _ in range(n):
                trajectory(fields[part : part + block])

    return Chains(advance, lambda: fields)


def one_by_one(kappa: float, lam: float, chains: int) -> Chains:
    """Return single chains in float64, some in each of as many processes as there are cores."""
    pools = _helpers()
    share = -(-chains // len(pools))

    def everywhere(function, *arguments):
        jobs = [pool.apply_async(function, arguments) for pool in pools]
        return [job.get() for job in jobs]

    for seed, pool in enumerate(pools):
        pool.apply(_make, ("numpy", kappa, lam, share, 1, np.float64, seed))
    return Chains(lambda n: everywhere(_advance, n),
                  lambda: np.concatenate(everywhere(_fields)))


@functools.cache
def _helpers() -> list:
    """Return a process for each core; unlike those of an executor they end with their parent."""
    spawn = multiprocessing.get_context("spawn")
    return [spawn.Pool(1) for _ in range(os.cpu_count() or 1)]


class Code(NamedTuple):
    make: Callable[..., Chains]
    needs: str | None  # what has to be installed
    work: float  # site updates in a timed call: about a second


CODES = {
    "physml": Code(physml, None, 8e8),
    "physml, measured": Code(measured, None, 8e8),
    "numba": Code(numba_hmc, "numba", 8e8),
    "jaxQFT": Code(jax_qft, "jaxqft", 6e8),
    "blackjax": Code(blackjax, "blackjax", 4e8),
    "torchebm": Code(torchebm, "torchebm", 8e7),
    "numpy": Code(numpy_hmc, None, 6e7),
    "numpy, one by one": Code(one_by_one, None, 5e7),
}


# --- each in a process of its own: threads of one and forks of another do not go together -------

_HERE: list[Chains] = []


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _make(name: str, *arguments) -> None:
    warnings.simplefilter("ignore")
    _HERE[:] = [CODES[name].make(*arguments)]


def _advance(n: int) -> None:
    _HERE[0].advance(n)


def _fields() -> np.ndarray:
    return _HERE[0].fields()


def check(name: str, pool: ProcessPoolExecutor) -> None:
    """Stop if a code's <phi^2> at lambda = 0 is not the lattice sum."""
    from physml import exact
    from physml.lattice import Lattice

    expected = exact.free_phi2(exact.hopping_spectrum(Lattice((L, L)), KAPPA))
    pool.submit(_make, name, KAPPA, 0.0, 64).result()
    pool.submit(_advance, 60).result()
    rows = []
    for _ in range(20):
        pool.submit(_advance, 10).result()
        rows.append(np.square(pool.submit(_fields).result(), dtype=np.float64).mean((1, 2)))
    means = np.mean(rows, axis=0)  # of independent chains
    error = means.std(ddof=1) / np.sqrt(len(means))
    z = (means.mean() - expected) / error
    print(f"  {name:18} <phi^2> = {means.mean():.4f}({error:.4f}), exact {expected:.4f}, "
          f"z {z:+.1f}", flush=True)
    if not abs(z) < 4:
        raise SystemExit(f"{name} does not sample this theory")


# --- the parts --------------------------------------------------------------------------------


def peers(options: argparse.Namespace) -> list[str]:
    """Time the codes side by side, and return what was wanted and is not so."""
    pools = {}
    for name, code in CODES.items():
        if options.only and name not in (*options.only, "physml"):
            continue
        if code.needs and importlib.util.find_spec(code.needs) is None:
            print(f"{code.needs}: not installed, skipped")
            continue
        pools[name] = _process()
    print("check at lambda = 0:")
    for name, pool in pools.items():
        check(name, pool)
    missed = []
    for chains in options.chains:
        candidates, work = {}, {}
        for name, pool in pools.items():
            pool.submit(_make, name, KAPPA, LAM, chains).result()
            one = chains * L * L * STEPS
            n = max(1, round(CODES[name].work / one))
            n = max(10, n - n % 10) if name.startswith("physml") else n
            pool.submit(_advance, min(100, 10 * n)).result()  # from the hot start
            candidates[name] = lambda pool=pool, n=n: pool.submit(_advance, n).result()
            work[name] = n * one
        print(f"\n{chains} chains, {load()}")
        rows = harness.compare(candidates, options.rounds, work, "site updates")
        rate, low = rows[0].rate, 8e8 if chains >= 64 else 4e8
        if rate < low:
            missed.append(f"{chains} chains: {rate:.2g} site updates/s, wanted {low:.0e}")
        ahead = [row.name for row in rows[1:] if row.ratio > 1 and not row.name.startswith("phy")]
        if ahead:
            missed.append(f"{chains} chains: {', '.join(ahead)} ahead")
    for pool in pools.values():
        pool.shutdown()
    return missed


def volume(options: argparse.Namespace) -> list[str]:
    """Print physml's cost against volume and number of chains."""
    from physml import device, sampling
    from physml.actions import Phi4
    from physml.lattice import Lattice

    print(f"\nphysml, 1e6 site updates/s, best of {options.rounds}, {load()}")
    print("   L" + "".join(f"{c:>8}" for c in CHAINS) + "   chains")
    hmc = sampling.HMC(Phi4(KAPPA, LAM), STEP, STEP * STEPS)
    for length in (16, 32, 64, 128, 256):
        rates = []
        for chains in CHAINS:
            one = chains * length**2 * STEPS
            if one > 4e8:  # some hundred megabytes
                break
            g = device.generator(1)
            phi = 0.5 * sampling.start(hmc.action, Lattice((length,) * 2), chains, "hot",
                                       generator=g)
            n, best = max(1, round(6e7 / one)), 0.0
            for _ in range(options.rounds):
                begin = time.perf_counter()
                phi = sampling.sample(hmc, phi, n, thin=10, generator=g, progress=False,
                                      observe=lambda phi: {"phi": phi[:, 0, 0]}).phi
                best = max(best, 10 * n * one / (time.perf_counter() - begin))
            rates.append(best)
        print(f"{length:4}" + "".join(f"{r / 1e6:8.0f}" for r in rates), flush=True)
    return []


def samplers(options: argparse.Namespace) -> list[str]:
    """Print effective samples per second at kappa = 0.27, all from the same equilibrium."""
    from physml import device, sampling, statistics
    from physml.actions import Phi4
    from physml.ensembles import phi4_ensemble

    kappa, chains = 0.27, 128
    action = Phi4(kappa, LAM)
    hmc = sampling.HMC(action, 0.17, 1.0)
    long = sampling.HMC(action, 0.17, 6.0, spread=0.3)
    clusters = sampling.SwendsenWang(action)
    found = {  # sampler, measurements, steps from one to the next
        "Langevin": (sampling.Langevin(action, 0.02, "leimkuhler-matthews"), 1000, 50),
        "Metropolis": (sampling.Metropolis(action, 1.5), 1000, 20),
        "HMC, length 1": (hmc, 1000, 8),
        "HMC, length 4-8": (long, 1000, 1),
        "HMC, length 1, clusters": (sampling.Sequence((hmc, clusters)), 1000, 1),
        "HMC, length 4-8, clusters": (sampling.Sequence((long, clusters)), 500, 1),
    }
    print(f"\nkappa = {kappa}, {L}^2, {chains} chains, {load()}; tau in steps")
    print(f"{'':26}{'tau |M|':>13}{'tau phi^2':>13}{'steps/s':>9}{'eff/s |M|':>11}{'phi^2':>8}")
    with tempfile.TemporaryDirectory() as folder:
        start = phi4_ensemble(L, kappa, LAM, chains, root=folder, progress=False).fields
    for name, (sampler, n, thin) in found.items():
        run = sampling.sample(sampler, start, n, thin=thin, generator=device.generator(1),
                              progress=False)
        speed = chains * n * thin / run.seconds
        taus = []
        for series in (run.series["m"].abs(), run.series["phi2"]):
            mean = statistics.mean(series)
            taus.append((thin * mean.tau_int, thin * mean.tau_int_error))
        print(f"{name:26}" + "".join(f"{t:8.1f}({e:.1f})" for t, e in taus) + f"{speed:9.0f}"
              f"{speed / (2 * taus[0][0]):11.0f}{speed / (2 * taus[1][0]):8.0f}", flush=True)
    return []


def ensemble(options: argparse.Namespace) -> list[str]:
    """Time the making of a large ensemble."""
    from physml.ensembles import phi4_ensemble

    seconds = []
    print(f"\nphi4_ensemble(32, 0.27, 0.022, 5120), {load()}")
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            made = phi4_ensemble(32, 0.27, LAM, 5120, seed=seed, root=folder, progress=False)
            seconds.append(time.perf_counter() - begin)
        print(f"  seed {seed}: {seconds[-1]:.1f} s, tau {made.tau_int}, thin {made.thin}, R-hat "
              f"{max(made.rhat.values()):.3f}, hot - cold {made.z['|M|']:+.1f} sigma", flush=True)
    slow = min(seconds) > 20
    return [f"5120 configurations took {min(seconds):.1f} s, wanted 20"] if slow else []


PARTS = {part.__name__: part for part in (peers, volume, samplers, ensemble)}


def load() -> str:
    """Return how busy the machine is, itself included."""
    return f"load {os.getloadavg()[0]:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chains", type=int, nargs="+", default=CHAINS)
    parser.add_argument("--only", nargs="+", choices=CODES, help="peers to compare with")
    options = parser.parse_args()
    # numpy's peers are slower with settings meant for other machines
    harness.rerun_without("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

    print(harness.machine("torch", "numpy", "numba", "jax", "blackjax", "torchebm"))
    missed = [line for part in options.part or PARTS for line in PARTS[part](options)]
    print("\nwanted: " + ("all reached" if not missed else "NOT " + "; ".join(missed)))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
