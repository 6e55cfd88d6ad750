"""Claims: what must hold for a shipped tracker in a regime, how tight it is, and what must make it fall.

:data:`CLAIMS` is the table; adding an entry to :mod:`theory.claims.table` is all a new claim takes.
"""

from theory.claims.base import Check, Claim, Mutant, Verdict, judge
from theory.claims.table import CLAIMS

__all__ = ["CLAIMS", "Check", "Claim", "Mutant", "Verdict", "judge"]
