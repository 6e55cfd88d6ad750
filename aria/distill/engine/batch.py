"""The batch of one step, with the provenance of every sample, and the protocols of the data batches are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from aria.distill.models.denoisers import Condition


class Images(Protocol):
    """Latents of images, and the index of each image's condition in the pool."""

    def __len__(self) -> int: ...

    def conditions(self) -> Tensor:
        """(M,) the condition of every image."""
        ...

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, …) latents and (B,) conditions."""
        ...


class Fetch(Protocol):
    """Conditions that are being read; ``result`` waits for them."""

    def result(self) -> Condition: ...


class Encodings(Protocol):
    """The encoded pool."""

    residency: str

    def __len__(self) -> int: ...

    def null(self, n: int) -> Condition: ...

    def gather(self, index: Tensor) -> Condition: ...

    def prefetch(self, index: Tensor) -> Fetch: ...


@dataclass(frozen=True, eq=False)
class Batch:
    """One rank's samples in one step."""

    clean: Tensor
    """(B, …) latents without noise; in a continued on-policy row, the student's own estimate."""
    noise: Tensor
    """(B, …) the noise to add."""
    noisy: Tensor
    """(B, …) the latents both models receive."""
    timestep: Tensor
    """(B,) index of the noise level."""
    condition: Condition
    """The conditions both models receive, (B, …) each."""
    index: Tensor
    """(B,) index of the condition in the pool; where the condition was dropped, the index it had before."""
    region: Tensor
    """(B,) its region."""
    weight: Tensor
    """(B,) importance weights; all ones unless the sampler corrects."""
    own: Tensor
    """(B,) whether the condition is the image's own, neither replaced nor dropped."""
    null: Tensor
    """(B,) whether the condition was dropped, so that the models receive that of the empty prompt."""
    on_policy: Tensor
    """(B,) whether the row's images are the student's own outputs."""
    visit: Tensor | None = None
    """(K,) probability, at draw time, that any rank observes each region in this step, on a sample whose condition was
    not dropped; None if the tracker does not use it."""

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in ``count`` equal parts, in order."""
        size = len(self.timestep) // count
        for first in range(0, size * count, size):
            yield self._cut(slice(first, first + size))

    def _cut(self, rows: slice) -> Batch:
        condition = {name: value[rows] for name, value in self.condition.items()}
        per_sample = {name: value[rows] for name, value in vars(self).items() if name not in {"condition", "visit"}}
        return replace(self, condition=condition, **per_sample)
