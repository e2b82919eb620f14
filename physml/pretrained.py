r"""Diffusion models of two-dimensional :math:`\phi^4` on :math:`32^2`, trained and ready to use.

`load` returns one of the models in the folder ``weights``. Each was made by

    python -m physml.pretrained 0.27

from nothing: an equilibrated ensemble (`physml.ensembles`), its spectrum and residual force, and a
training of the network (`physml.diffusion`) on one core; that at 0.27 is a small one which learned
from a larger one, trained before it. An interrupted training goes on where it was. What is in a
file, and how it came to be, is its provenance: see `Pretrained`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoints, device, files
from .actions import Phi4
from .diffusion import Distilled, InteractionModel, ResidualForce, UNet, VarianceExploding, train
from .diffusion.training import warmup_cosine
from .ensembles import phi4_ensemble
from .errors import CheckpointError

__all__ = ["SETTINGS", "Pretrained", "Settings", "load", "make"]

FOLDER = Path(__file__).parent / "weights"
_EVERY = 500  # updates between two states of a training


@dataclass(frozen=True)
class Settings:
    """How a model is made: all that its file depends on but the code.

    Attributes
    ----------
    kappa, lam, length
        The action and the lattice.
    sigma
        Of `VarianceExploding`: the last noise must hide the widest mode, with variance chi.
    broken
        Whether the model has a background, the mean of :math:`|M|`.
    fields, seed
        Number of configurations to learn from, and the seed of everything.
    steps, batch_size, lr, ema
        Of the training.
    channels, blocks
        Of the network.
    teacher
        Channels of a network that is trained first, in the same way, and teaches the other one
        (`Distilled`); the fields do if this is empty.
    """

    kappa: float
    lam: float = 0.022
    length: int = 32
    sigma: float = 400.0
    broken: bool = False
    fields: int = 40960
    seed: int = 1
    steps: int = 10_000
    batch_size: int = 64
    lr: float = 2e-3
    ema: float = 0.999
    channels: tuple[int, ...] = (32, 64)
    blocks: int = 1
    teacher: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"phi4_{self.length}_kappa{self.kappa:g}.safetensors"


SETTINGS = {s.kappa: s for s in (
    Settings(0.21, sigma=60.0, fields=81_920, steps=16_000, ema=0.9995, channels=(16, 32)),
    Settings(0.27, fields=163_840, steps=24_000, ema=0.9995, channels=(16, 32), teacher=(32, 64)),
    Settings(0.5, sigma=60.0, broken=True, steps=6000, channels=(16, 32), blocks=2),
)}


@dataclass(frozen=True)
class Pretrained:
    """A trained model.

    Attributes
    ----------
    model
        The model.
    settings
        How it was made.
    provenance
        Versions, losses and times of its training; those of its teacher under ``"teacher"``, if
        it had one, and the losses are then distances from that.
    """

    model: InteractionModel = field(repr=False)
    settings: Settings
    provenance: dict


def load(kappa: float, *, folder: Path | str = FOLDER) -> Pretrained:
    r"""Return the trained model at `kappa`, :math:`\lambda=0.022`, on the CPU.

    Raises
    ------
    ValueError
        If there is none for this `kappa`.
    CheckpointError
        If its file is missing or damaged.
    """
    if kappa not in SETTINGS:
        raise ValueError(f"kappa={kappa} has no trained model: choose one of {list(SETTINGS)}, or "
                         "train one with physml.diffusion.train")
    path = files.located(folder) / SETTINGS[kappa].name
    tensors, meta = checkpoints.read(path, "make it with: python -m physml.pretrained "
                                           f"{kappa:g}")
    try:
        told = json.loads(meta["settings"])
        settings = Settings(**told | {"channels": tuple(told["channels"]),
                                      "teacher": tuple(told.get("teacher", ()))})
        residual = ResidualForce(Phi4(settings.kappa, settings.lam), tensors.pop("spectrum"),
                                 tensors.pop("variance"), float(tensors.pop("background")))
        model = _model(settings, residual)
        model.network.load_state_dict(tensors)
        return Pretrained(model.eval(), settings, json.loads(meta["provenance"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold a model of this version: make it with "
                              f"python -m physml.pretrained {kappa:g}") from error


def make(settings: Settings, *, folder: Path | str = FOLDER, progress: bool = True) -> Path:
    """Train a model from nothing, write its file and return the path.

    The state of the training, and that of its teacher's, stand beside it until it is done.
    """
    path = files.located(folder) / settings.name
    ensemble = phi4_ensemble(settings.length, settings.kappa, settings.lam, settings.fields,
                             seed=settings.seed, progress=progress)
    fields = ensemble.fields
    background = float(fields.mean((1, 2)).abs().mean()) if settings.broken else 0.0
    residual = ResidualForce.measure(Phi4(settings.kappa, settings.lam), fields,
                                     background=background)
    provenance = {"made by": f"python -m physml.pretrained {settings.kappa:g}",
                  "torch": torch.__version__}
    states = [path.with_suffix(".training.safetensors")]
    model = _model(settings, residual)
    if settings.teacher:
        states.append(path.with_suffix(".teacher.training.safetensors"))
        teacher = _model(replace(settings, channels=settings.teacher), residual)
        provenance["teacher"] = _trained(teacher, fields, settings, states[1], progress)
        model = Distilled(model.network, teacher.eval())
    provenance |= _trained(model, fields, settings, states[0], progress)
    tensors = dict(model.network.state_dict()) | {
        "spectrum": residual.spectrum, "variance": residual.variance,
        "background": torch.tensor(background, dtype=torch.float64)}
    checkpoints.write(path, tensors, {"settings": json.dumps(asdict(settings)),
                                      "provenance": json.dumps(provenance)})
    for state in states:
        state.unlink()
    return path


def _trained(model: InteractionModel, fields: Tensor, settings: Settings, state: Path,
             progress: bool) -> dict:
    """Train a model in place, or go on from the file `state`; return what is to be told of it."""
    held = len(fields) // 40
    history = train(model, fields[held:], validation=fields[:held], steps=settings.steps,
                    lr=warmup_cosine(settings.lr, settings.steps), ema=settings.ema,
                    batch_size=settings.batch_size, clip=20.0, record_every=_EVERY,
                    generator=device.generator(settings.seed), progress=progress,
                    checkpoint=state, checkpoint_every=_EVERY)
    return {"parameters": model.parameter_count, "seconds": round(history.seconds[-1]),
            "steps": history.steps, "loss": history.loss, "validation": history.validation}


def _model(settings: Settings, residual: ResidualForce) -> InteractionModel:
    network = UNet(settings.channels, settings.blocks, inputs=3 if settings.broken else 2,
                   generator=device.generator(settings.seed))
    return InteractionModel(network, VarianceExploding(settings.sigma), residual)


def main(arguments: list[str] | None = None) -> None:
    """Train the models whose `kappa` is given, or all, two at a time."""
    parser = argparse.ArgumentParser(prog="python -m physml.pretrained", description=main.__doc__)
    parser.add_argument("kappa", nargs="*", type=float, help=f"one of {list(SETTINGS)}")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files go")
    options = parser.parse_args(arguments)
    for kappa in options.kappa:
        if kappa not in SETTINGS:
            parser.error(f"kappa={kappa} has no settings; there are {list(SETTINGS)}")
    # the longest first, and only that shows how far it is
    jobs = sorted(dict.fromkeys(SETTINGS[kappa] for kappa in options.kappa or SETTINGS),
                  key=lambda settings: (not settings.teacher, -settings.steps))
    # two trainings use two cores better than one does
    with ProcessPoolExecutor(min(2, len(jobs)), multiprocessing.get_context("spawn"),
                             initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for path in pool.map(_job, jobs, [options.folder] * len(jobs), range(len(jobs))):
            print(path, flush=True)


def _job(settings: Settings, folder: Path, number: int) -> Path:
    return make(settings, folder=folder, progress=number == 0)


if __name__ == "__main__":
    main()
