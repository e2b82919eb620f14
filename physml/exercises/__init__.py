"""Checks of answers to the book's exercises, which say what is wrong and keep the solution secret.

`core` says what a check is and how to write one. Each chapter has a module with its checks, and all
of them are found here: ``exercises.check_cd_factor``. A check is added in its chapter's module
alone.
"""

from __future__ import annotations

from .core import NotYet, Result, check, checks, compare_function, compare_number, seeded_cases
from .diffusion_models import *
from .diffusion_phi4 import *
from .markov_random_fields import *
from .mnist_spectra import *
from .phi4_machine_learning import *
from .stochastic_quantisation import *
from .ultraviolet_regulator import *

__all__ = [
    "NotYet",
    "Result",
    "check",
    "checks",
    "compare_function",
    "compare_number",
    "seeded_cases",
    *checks(),
]
