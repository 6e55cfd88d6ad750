"""Claims: what must hold for a shipped tracker in a regime, how tight it is, and which mutants must make it fail.

:data:`CLAIMS` is the table. To add a claim, add it to a module of :mod:`theory.claims.stories`.
"""

from theory.claims.base import Check, Claim, Mutant, Verdict, judge
from theory.claims.table import CLAIMS

__all__ = ["CLAIMS", "Check", "Claim", "Mutant", "Verdict", "judge"]
