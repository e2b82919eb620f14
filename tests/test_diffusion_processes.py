"""Training in two processes of torchrun, on the CPU: the same result as in one."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import torch

PROGRAM = """
    import os, sys
    import torch
    import torch.distributed as dist
    from physml.device import generator
    from physml.diffusion import ScoreModel, UNet, VarianceExploding, train
    from physml.lattice import Lattice

    torch.set_num_threads(1)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    kernel = Lattice((8, 8)).free_spectrum(0.4)
    model = ScoreModel(UNet((4,), 1, 8, generator=generator(1)), VarianceExploding(), 0.7 / kernel)
    data = torch.randn(64, 8, 8, generator=generator(2))
    train(model, data, steps=6, lr=1e-2, batch_size=8, generator=generator(3), progress=False,
          checkpoint=sys.argv[1], checkpoint_every=3)
    if int(os.environ.get("RANK", 0)) == 0:
        torch.save([p.detach() for p in model.parameters()], sys.argv[2])
    if "RANK" in os.environ:
        dist.destroy_process_group()
"""


def test_two_processes_learn_the_same(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    alone = [sys.executable, program, tmp_path / "one.safetensors", tmp_path / "one.pt"]
    shared = [sys.executable, "-m", "torch.distributed.run", "--standalone",
              "--nproc-per-node", "2", program, tmp_path / "two.safetensors", tmp_path / "two.pt"]
    for command in (alone, shared):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-4)
    assert {p.name for p in tmp_path.glob("*.safetensors")} == {"one.safetensors",
                                                                "two.safetensors"}
