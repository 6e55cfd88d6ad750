"""Every partitioner passes the public check, and the check catches each way of being wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

import aria.partitioners
from aria.interfaces import Partitioner
from aria.partitioners import Bins, Labels, check_partitioner
from aria.partitioners.conformance import chi_square_bound
from aria.partitioners.labels import LabelPartition
from aria.pool import Pool


def discovered() -> list[Partitioner]:
    """Examples of every partitioner that the package exports."""
    exported = [getattr(aria.partitioners, name) for name in aria.partitioners.__all__]
    kinds = [kind for kind in exported if isinstance(kind, type) and issubclass(kind, Partitioner)]
    return [example for kind in kinds for example in kind.examples()]


def test_discovery_finds_something() -> None:
    assert len(discovered()) >= 10


@pytest.mark.parametrize("partitioner", discovered(), ids=str)
def test_every_partitioner_conforms(partitioner: Partitioner) -> None:
    check_partitioner(partitioner)


class Wrong(LabelPartition, kind="wrong"):
    """Right until a test replaces a method."""


@dataclass(frozen=True)
class Subject(Partitioner):
    """Fits a label partition whose ``name`` is replaced by ``method``."""

    name: str = ""
    method: Any = None

    def fit(self, pool: Pool) -> Wrong:
        right = Labels("style").fit(pool)
        kind = type("Wrong", (Wrong,), {self.name: self.method} if self.name else {}, kind="wrong")
        return kind(right.members, right.column, right.values)


def shifted(self: Wrong, pool: Pool, **coords: Tensor) -> Tensor:
    return (LabelPartition.assign(self, pool) + 1) % 4


def first_only(self: Wrong, region: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    u = torch.zeros(len(region), dtype=torch.float64)
    return {"index": self.members.draw(region, u)}


def ambient(self: Wrong, region: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    return LabelPartition.draw(self, region, None)


def elsewhere(self: Wrong, region: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    return LabelPartition.draw(self, (region + 1) % 4, generator)


def forgetful(self: Wrong) -> tuple[dict[str, Any], dict[str, Tensor]]:
    settings, tensors = LabelPartition.state_dict(self)
    return settings | {"values": settings["values"][::-1]}, tensors


def outside(self: Wrong, pool: Pool, **coords: Tensor) -> Tensor:
    return LabelPartition.assign(self, pool) + 1


def vain(self: Wrong, pool: Pool, **coords: Tensor) -> Tensor:
    pool.embeddings[0] = 0
    return LabelPartition.assign(self, pool)


def rounded(self: Wrong) -> None:
    object.__setattr__(self, "mass", self.members.mass.float())


@pytest.mark.parametrize(
    "name, method, message",
    [
        ("assign", shifted, "locates conditions elsewhere than it assigns"),
        ("assign", outside, "assigns regions outside 0 to 3"),
        ("assign", vain, "changes the pool"),
        ("draw", first_only, "does not draw by pool weight: chi-square"),
        ("draw", ambient, "uses the global random number generator"),
        ("draw", elsewhere, "draws outside the requested region"),
        ("__post_init__", rounded, "must have a float64 mass"),
        ("share", lambda self: torch.tensor([-1.0, 1.0, 1.0, 1.0]), "has a region of negative mass"),
        ("share", lambda self: torch.full((4,), 0.5, dtype=torch.float64), "has masses that sum to 0.5, not to 1"),
        ("state_dict", forgetful, "is not the same after it was saved and loaded"),
        ("names", lambda self: ["same"] * 4, "gives two regions the same name"),
    ],
)
def test_each_way_of_being_wrong_is_caught(name: str, method: Any, message: str) -> None:
    check_partitioner(Subject())
    with pytest.raises(AssertionError, match=f"^Subject .*{message}"):
        check_partitioner(Subject(name, method))


def test_a_fit_that_changes_is_caught() -> None:
    turns = count()

    @dataclass(frozen=True)
    class Fickle(Partitioner):
        def fit(self, pool: Pool) -> Any:
            return Labels(("style", "label")[next(turns) % 2]).fit(pool)

    with pytest.raises(AssertionError, match="^Fickle divides the same pool differently"):
        check_partitioner(Fickle())


def test_memory_in_a_partitioner_is_caught() -> None:
    @dataclass
    class Thawed(Partitioner):
        seen: list[int] = field(default_factory=list)

        def fit(self, pool: Pool) -> Any:
            return Bins().fit(pool)

    with pytest.raises(AssertionError, match="^Thawed must be a frozen dataclass"):
        check_partitioner(Thawed())


def test_the_bound_is_a_chi_square_quantile() -> None:
    from scipy.stats import chi2

    for freedom, error in ((1, 0.16), (5, 0.05), (50, 0.01), (500, 0.001)):
        assert 1 <= chi_square_bound(freedom) / chi2.isf(1e-6, freedom) <= 1 + error
