"""Numbers and phrases that the stories share; noise has variance 1.

A mutant "b·1.1" and the like is a tracker whose parameter is 10 % off; the others are formulas one could believe in.
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
"""Steps after which nothing is left of the start: (1-b)^400 < 10⁻¹⁸."""


def law(bias: float, variance: float) -> tuple[Check, ...]:
    """Bias and variance apart, after the mean square that both make."""
    return (
        Check("mse", "equal", bias**2 + variance),
        Check("bias", "equal", bias),
        Check("variance", "equal", variance),
    )


def wrong(name: str, quantity: str, value: float, sense: str = "equal") -> Mutant:
    """Another reference for one check."""
    return Mutant(name, {(quantity, sense): value})


def biased(name: str, value: float) -> Mutant:
    """Another bias."""
    return wrong(name, "bias", value)


def spread(name: str, value: float) -> Mutant:
    """Another variance."""
    return wrong(name, "variance", value)


def erring(name: str, value: float, sense: str = "equal") -> Mutant:
    """Another mean square error."""
    return wrong(name, "mse", value, sense)


def using(name: str, subject: Subject) -> Mutant:
    """Another tracker or allocator."""
    return Mutant(name, subject=subject)
