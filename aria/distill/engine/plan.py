"""The settings of the training loop, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aria import checks, registry
from aria.checks import InvalidSetting
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.engine.replacement import Exponential, Replacement
from aria.distill.objectives import Objective, Output, Pairs, Uniform, Weighting
from aria.distill.settings.choices import PREDICTIONS
from aria.distill.settings.config import AdamW


@dataclass(frozen=True)
class Plan:
    """Everything about a training except its models, data, sampler and devices. Parts may be given as spec strings.

    >>> Plan(objective=("output", "feature(weight=0.1)"), steps=500).signal
    'output'
    """

    objective: tuple[Objective, ...] = (Output(),)
    """Terms of the loss."""
    weighting: Weighting = field(default_factory=Uniform)
    """Weight of each noise level in the terms on outputs."""
    signal: str = ""
    """The term whose loss the sampler observes; the first by default."""
    replacement: Replacement = field(default_factory=Exponential)
    """Probability that an image's own condition is replaced, by timestep."""
    null_probability: float = 0.1
    """Probability that a condition is then dropped, that is, replaced by the null condition."""
    student_prediction: str | None = None
    """The student's prediction type, if it differs from the teacher's."""
    guidance: tuple[float, float] | None = None
    """Smallest and largest guidance scale, if both models take the scale as a condition, ``"guidance"``."""
    on_policy: OnPolicy = field(default_factory=OnPolicy)
    """Rows of every batch that continue from the student's own outputs."""
    layers: Pairs = ()
    """(teacher module, student module) pairs that the feature term compares unless it names its own."""
    optimiser: AdamW = field(default_factory=AdamW)
    """AdamW and its learning rate."""
    steps: int = 1000
    """Length of the run; some learning rate schedules depend on it."""
    batch_size: int = 16
    """Samples of one rank in one forward pass."""
    accumulation: int = 1
    """Forward passes per optimiser step."""
    ema_decay: float = 0.9999
    """Decay rate of the moving average of the student's weights; 0 keeps none."""
    ahead: int = 0
    """Steps drawn ahead while conditions are read from disk."""
    seed: int = 0
    """Seed of all random numbers except the sampler's, which has its own seed."""
    fsdp: bool = False
    """Shard the student, its gradients and the optimiser's state across ranks."""
    compile: bool = False
    """Compile the repeated blocks of both models."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation"):
            checks.whole(name, getattr(self, name), least=1)
        checks.closed_unit("null_probability", self.null_probability)
        checks.closed_unit("ema_decay", self.ema_decay)
        checks.whole("ahead", self.ahead, least=0)
        if self.student_prediction is not None:
            checks.one_of("student_prediction", self.student_prediction, PREDICTIONS)
        self._resolve("objective", tuple(registry.resolve(term, Objective) for term in self.objective))
        self._resolve("weighting", registry.resolve(self.weighting, Weighting))
        self._resolve("replacement", registry.resolve(self.replacement, Replacement))
        self._resolve("signal", self.signal or next(iter(named(self.objective))))

    def _resolve(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def samples(self) -> int:
        """Samples of one rank in one step."""
        return self.batch_size * self.accumulation


def named(terms: tuple[Objective, ...]) -> Mapping[str, Objective]:
    """The terms of a loss by the names that specs use for them.

    >>> list(named((Output(),)))
    ['output']
    """
    by_name = {registry.spec(term).split("(")[0].split(":")[-1].lower(): term for term in terms}
    if len(by_name) != len(terms) or not terms:
        given = ", ".join(map(registry.spec, terms)) or "none"
        raise InvalidSetting("objective", "choice", f"an objective is one or more different terms, got {given}")
    return by_name
