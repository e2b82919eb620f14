r"""Ensembles of lattice :math:`\phi^4`: equilibrated, decorrelated, and proved to be.

Each ensemble is generated once, by HMC and cluster updates from hot and cold starts, and kept on
disk under a name made of its parameters and of the code that makes it. `phi4_ensemble` is also
found in `physml.datasets`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from . import checkpoints, sampling, statistics
from .actions import Phi4
from .device import generator
from .errors import CheckpointError, check_positive_int
from .lattice import Lattice

__all__ = ["Ensemble", "phi4_ensemble"]

_CHAINS = 32, 128  # at least: fewer could not be told to disagree; at most: all have to burn in
_BURN_IN = 100  # steps in which the sampler is tuned
_PILOT = 100  # steps from which the autocorrelation time is estimated


@dataclass(frozen=True, repr=False)
class Ensemble:
    r"""Configurations of a lattice theory, with the evidence that they are from equilibrium.

    Attributes
    ----------
    fields
        ``(n, *lattice.shape)``, float32, on the CPU; neighbours in the list come from different
        chains, and after `chains` of them the first chain is back, `thin` steps later.
    action, lattice
        What they are samples of.
    seed
        The seed they were made from.
    chains, burn_in, thin
        Number of independent chains, steps before the first configuration, steps between two of
        one chain.
    tau_int
        The largest integrated autocorrelation time of :math:`|M|` and :math:`\phi^2`, in steps,
        that `thin` was made from (3 of them).
    rhat, z
        Split-:math:`\hat R` and hot minus cold starts in standard errors, for both observables.
    """

    fields: Tensor
    action: Phi4
    lattice: Lattice
    seed: int
    chains: int
    burn_in: int
    thin: int
    tau_int: float
    rhat: dict[str, float]
    z: dict[str, float]

    def __len__(self) -> int:
        return len(self.fields)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.lattice.shape))
        return f"Ensemble({len(self)} configurations, {shape}, {self.action}, seed={self.seed})"

    def series(self, values: Tensor) -> Tensor:
        """Return numbers ``(n,)``, one a configuration, as chains ``(chains, n // chains)``.

        For `physml.statistics`, which then sees what correlation is left. Where there are fewer
        configurations than chains the shape is ``(n, 1)``.
        """
        chains = min(self.chains, len(self))
        return values[: len(self) // chains * chains].reshape(-1, chains).T


def phi4_ensemble(
    length: int,
    kappa: float,
    lam: float,
    n: int,
    *,
    seed: int = 0,
    dim: int = 2,
    root: str | os.PathLike | None = None,
    processes: int | None = None,
    progress: bool = True,
) -> Ensemble:
    r"""Return `n` equilibrated, decorrelated configurations of :math:`\phi^4` theory.

    HMC (trajectories of length 4 to 8, minimum-norm integrator, tuned to 85 % acceptance), each
    followed by a cluster update of the signs, or by a global flip where :math:`\kappa<0`. Half of
    the chains start hot, half cold; they burn in for 200 steps and 20 autocorrelation times, and a
    configuration is kept every three autocorrelation times.

    Parameters
    ----------
    length, dim
        The lattice is periodic with `length` sites in each of `dim` directions.
    kappa, lam
        Couplings of `physml.actions.Phi4`.
    n, seed
        Number of configurations; seed of all randomness.
    root
        Folder for the file; by default as for the data sets.
    processes, progress
        As for `physml.sampling.sample`.

    Warns
    -----
    EquilibrationWarning
        If hot and cold starts or chains disagree. The ensemble is returned and not kept.
    """
    lattice = Lattice((check_positive_int("length", length),) * check_positive_int("dim", dim))
    action, n = Phi4(float(kappa), float(lam)), check_positive_int("n", n)
    action.check_stable(lattice)
    identity = {"lattice": list(lattice.shape), "kappa": action.kappa, "lam": action.lam, "n": n,
                "seed": int(seed), "code": _code()}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = _folder(root) / f"phi4-{'x'.join(map(str, lattice.shape))}-{key}.safetensors"
    found = _read(path, action, lattice, int(seed))
    if found is None:
        found = _generate(action, lattice, n, int(seed), processes, progress)
        worst = sampling.Equilibration(found.rhat, found.z)
        if not worst.reached:
            warnings.warn(
                f"chains disagree at kappa={kappa}, lam={lam}, length={length} (R-hat "
                f"{max(found.rhat.values()):.3f}, hot - cold {max(found.z.values(), key=abs):+.1f} "
                "sigma): this ensemble is not in equilibrium, and is not kept on disk",
                sampling.EquilibrationWarning, stacklevel=2)
        elif _may_be_written(path):
            _keep(path, found)
    return found


def _generate(action, lattice, n, seed, processes, progress) -> Ensemble:
    g = generator(seed)
    chains = min(max(_CHAINS[0], 2 * math.ceil(n / 2)), _CHAINS[1])
    flip = sampling.SwendsenWang if action.kappa >= 0 else sampling.GlobalFlip
    hmc = sampling.HMC(action, 0.3, length=6.0, spread=0.3, integrator="minimum-norm")
    sampler = sampling.Sequence((hmc, flip(action)))
    phi = sampling.start(action, lattice, chains, generator=g)
    options = {"generator": g, "processes": processes, "progress": progress}
    pilot = sampling.sample(sampler, phi, _PILOT, burn_in=_BURN_IN, tune=0.85, label="pilot",
                            **options)
    with warnings.catch_warnings():  # a pilot is short; the factors 20 and 3 are generous
        warnings.simplefilter("ignore", statistics.ShortChainWarning)
        tau = max(statistics.mean(x).tau_int for x in _watched(pilot.series).values())
    thin = max(1, math.ceil(3 * tau))
    burn_in = math.ceil(20 * tau)
    # at least so many that R-hat scatters by a quarter of what it may be off; short correlated
    # series, such as the pilot's, would be biased by as much as that
    rows = math.ceil(max(n / chains, 100 / math.sqrt(chains)))
    run = sampling.sample(pilot.sampler, pilot.phi, rows, burn_in=burn_in, thin=thin,
                          keep_fields=True, label="configurations", **options)
    fields = run.fields.transpose(0, 1).reshape(-1, *lattice.shape)[:n].contiguous()
    agree = sampling.equilibration(_watched(run.series), warn=False)
    return Ensemble(fields, action, lattice, seed, chains, _BURN_IN + _PILOT + burn_in,
                    thin, round(tau, 3), agree.rhat, agree.z)


def _watched(series: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"|M|": series["m"].abs(), "phi^2": series["phi2"]}


# --- the file ---------------------------------------------------------------------------------


def _folder(root: str | os.PathLike | None) -> Path:
    for base in (root, os.environ.get("PHYSML_DATA"), os.environ.get("XDG_CACHE_HOME")):
        if base:
            return Path(base).expanduser().absolute() / "physml" / "ensembles"
    return Path("~/.cache").expanduser() / "physml" / "ensembles"


def _code() -> str:
    """Return the hash of the code that makes an ensemble: other code makes another one."""
    here = Path(__file__).parent
    names = "actions.py", "ensembles.py", "lattice.py", "observables.py", "statistics.py"
    files = [*(here / name for name in names), *sorted((here / "sampling").glob("*.py"))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


def _digest(fields: Tensor, about: str) -> str:
    return hashlib.sha256(fields.numpy().tobytes() + about.encode()).hexdigest()


def _keep(path: Path, ensemble: Ensemble) -> None:
    """Write the file whole or not at all; a folder that cannot be written to is no error."""
    about = json.dumps({name: getattr(ensemble, name) for name in
                        ("chains", "burn_in", "thin", "tau_int", "rhat", "z")})
    meta = {"about": about, "sha256": _digest(ensemble.fields, about)}
    try:
        checkpoints.write(path, {"fields": ensemble.fields}, meta)
    except OSError as error:
        warnings.warn(f"the ensemble could not be kept in {path.parent} ({error}): it will be "
                      "generated again next time; set PHYSML_DATA to a folder of yours",
                      stacklevel=3)


def _may_be_written(path: Path) -> bool:
    """Return whether there is nothing yet, or something that this user may read: his, or shared."""
    return not os.path.exists(path) or os.access(path, os.R_OK)


def _read(path: Path, action: Phi4, lattice: Lattice, seed: int) -> Ensemble | None:
    """Return what `_keep` wrote, or None if it is not there, or not to be read."""
    if not os.path.exists(path):  # unlike Path.exists, False in a folder that may not be entered
        return None
    try:
        tensors, meta = checkpoints.read(path)
        fields = tensors["fields"]
        if meta["sha256"] != _digest(fields, meta["about"]):
            raise ValueError("its checksum does not fit")
        return Ensemble(fields, action, lattice, seed, **json.loads(meta["about"]))
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        what = (f"{path} may not be read by this user, and is left as it is"
                if isinstance(error.__cause__, PermissionError) else f"{path} is damaged ({error})")
        warnings.warn(f"{what}: the ensemble is generated anew", stacklevel=3)
        return None
