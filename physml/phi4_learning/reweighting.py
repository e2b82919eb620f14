r"""From the learned action to the target, real or complex; see `physml.reweighting`."""

from __future__ import annotations

from ..reweighting import Reweighted, ReweightingWarning, reweight

__all__ = ["Reweighted", "ReweightingWarning", "reweight"]
