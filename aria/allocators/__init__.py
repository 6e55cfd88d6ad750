"""Allocators: estimates to a sampling distribution over regions. One file each; exporting the class is all it takes."""

from aria.allocators.exp3 import Exp3
from aria.allocators.neyman import Neyman
from aria.allocators.oracle import Oracle
from aria.allocators.pool import Pool
from aria.allocators.progress import Progress
from aria.allocators.proportional import Proportional
from aria.allocators.softmax import Softmax
from aria.allocators.thompson import Thompson
from aria.allocators.top_fraction import TopFraction
from aria.allocators.ucb import UCB
from aria.allocators.uniform import Uniform

__all__ = [
    "UCB",
    "Exp3",
    "Neyman",
    "Oracle",
    "Pool",
    "Progress",
    "Proportional",
    "Softmax",
    "Thompson",
    "TopFraction",
    "Uniform",
]
