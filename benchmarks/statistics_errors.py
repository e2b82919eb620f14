"""Errors of a million correlated numbers: `physml.statistics.mean` beside emcee and pyerrors.

    python -m benchmarks.statistics_errors [--chains 1] [--values 1000000] [--threads 1]

Each candidate gets the same float64 series, an autoregressive process whose autocorrelation time
is known, and returns what it can: emcee a time without an error, pyerrors the mean, its error, the
time and the errors of both, as `mean` does. What is not part of that is outside the clock: for
pyerrors the making of the `Obs`. The results are compared before anything is timed, with each other
and with the truth; a disagreement ends the program.

The peers work on one core, and so does torch here unless `--threads` says otherwise. On idle cores
more threads are a little faster; on busy ones torch's threads wait for each other, and any time may
come out.

Wanted: at least five times as fast as each peer, in the same run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from benchmarks import harness

RHO = 0.9
TAU = (1 + RHO) / (2 * (1 - RHO))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=1)
    parser.add_argument("--values", type=int, default=1_000_000, help="in all chains together")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    # numpy's peers are slower with settings meant for other machines
    harness.rerun_without("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

    import torch

    from physml import device
    from physml.statistics import mean

    torch.set_num_threads(options.threads)
    series = autoregression(options.chains, options.values // options.chains, device.generator(1))
    data = series.numpy()
    ours = mean(series)
    print(f"{harness.machine('torch', 'numpy', 'emcee', 'pyerrors')}, torch on {options.threads}")
    print(f"{options.chains} x {series.shape[1]} values, true tau_int = {TAU}")
    print(f"physml: mean {ours}, error {ours.error:.4g}({ours.error_of_error:.1g}), tau {ours.tau}")
    agree("physml's tau and the truth", ours.tau_int - TAU, ours.tau_int_error)
    agree("physml's mean and the truth", ours.value, ours.error)

    candidates: dict[str, Callable[[], object]] = {"physml mean": lambda: mean(series)}
    if note := harness.missing("emcee"):
        print(note)
    else:
        import emcee.autocorr

        def integrated_time() -> float:
            return float(emcee.autocorr.integrated_time(data.T[:, :, None])[0]) / 2

        tau = integrated_time()
        print(f"emcee: tau {tau:.4f} (its own number, twice that, halved)")
        # two windows on one series: they differ by less than the error
        agree("emcee's tau and physml's", tau - ours.tau_int, ours.tau_int_error)
        candidates["emcee integrated_time"] = integrated_time
    if note := harness.missing("pyerrors"):
        print(note)
    else:
        import pyerrors

        obs = pyerrors.Obs(list(data), [f"run|{i}" for i in range(len(data))])

        def gamma_method() -> None:
            obs.gamma_method(fft=True, S=1.5)

        gamma_method()
        tau, spread = obs.e_tauint["run"], obs.e_dtauint["run"]
        print(
            f"pyerrors: mean {obs.value:.6g}, error {obs.dvalue:.4g}({obs.ddvalue:.1g}), "
            f"tau {tau:.4f}({spread:.4f})"
        )
        # the same method with the same parameter: the same numbers, up to the treatment of 1/n
        for name, one, other in [
            ("means", ours.value, obs.value),
            ("errors", ours.error, obs.dvalue),
            ("times", ours.tau_int, tau),
            ("errors of the time", ours.tau_int_error, spread),
            ("errors of the error", ours.error_of_error, obs.ddvalue),
        ]:
            print(f"  {name} differ by {abs(one - other) / abs(other):.1e}")
        agree("pyerrors's tau and physml's", tau - ours.tau_int, ours.tau_int_error)
        agree("pyerrors's error and physml's", obs.dvalue - ours.error, ours.error_of_error)
        candidates["pyerrors gamma_method(fft)"] = gamma_method

    rows = harness.compare(candidates, options.rounds, work=series.numel(), unit="values")
    slow = [row.name for row in rows[1:] if row.ratio > 1 / 5]
    print("wanted, at least 5 times as fast as each: " + (f"NOT than {slow}" if slow else "yes"))
    return 1 if slow else 0


def autoregression(chains: int, time: int, generator):
    """Return stationary Gaussian series with the autocorrelation RHO^t, ``(chains, time)``."""
    import torch

    noise = torch.randn(chains, time, generator=generator, dtype=torch.float64)
    noise[:, 1:] *= math.sqrt(1 - RHO**2)
    # x_t = RHO x_{t-1} + noise_t, by doubling: after n rounds the last 2^n terms are in
    series, shift, factor = noise, 1, RHO
    while shift < time and factor > 1e-18:
        moved = torch.zeros_like(series)
        moved[:, shift:] = series[:, :-shift]
        series = series + factor * moved
        shift, factor = 2 * shift, factor * factor
    return series


def agree(what: str, difference: float, error: float) -> None:
    """Stop if a difference is above three errors."""
    if not abs(difference) < 3 * error:
        raise SystemExit(f"{what} disagree: {difference:.4g} with an error of {error:.4g}")


if __name__ == "__main__":
    raise SystemExit(main())
