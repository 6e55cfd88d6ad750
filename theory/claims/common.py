"""Constants and shorthands that the stories share; noise has variance 1.

A mutant named "b·1.1" or similar is a tracker whose parameter is 10 % off; the others are plausible wrong formulas.
"""

from __future__ import annotations

from theory.claims.base import Check, Mutant, Subject

B = 0.1
"""The rate b of most averages."""
A = 1 - B
F = B / (2 - B)
"""Their settled variance."""
D = 0.05
"""The drift of most regimes."""
SETTLED = 400
"""Steps after which the start is forgotten: (1-b)^400 < 10⁻¹⁸."""


def law(bias: float, variance: float) -> tuple[Check, ...]:
    """Checks of the mean squared error, and of bias and variance separately."""
    return (
        Check("mse", "equal", bias**2 + variance),
        Check("bias", "equal", bias),
        Check("variance", "equal", variance),
    )


def wrong(name: str, quantity: str, value: float, sense: str = "equal") -> Mutant:
    """A mutant with another reference for one check."""
    return Mutant(name, {(quantity, sense): value})


def biased(name: str, value: float) -> Mutant:
    """A mutant with another bias."""
    return wrong(name, "bias", value)


def spread(name: str, value: float) -> Mutant:
    """A mutant with another variance."""
    return wrong(name, "variance", value)


def erring(name: str, value: float, sense: str = "equal") -> Mutant:
    """A mutant with another mean squared error."""
    return wrong(name, "mse", value, sense)


def using(name: str, subject: Subject) -> Mutant:
    """A mutant with another tracker or allocator."""
    return Mutant(name, subject=subject)
