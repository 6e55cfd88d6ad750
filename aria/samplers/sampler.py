"""The only stateful object: partition + tracker + allocator; draws conditions and observes their losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aria import checks, registry
from aria.interfaces import Allocator, Certificate, Draw, Estimate, Partition, RegionStats, State, Tracker
from aria.partitioners import digest
from aria.samplers import boundary, checkpoint, draws, signals
from aria.samplers.correction import exponent
from aria.samplers.ranks import Ranks
from aria.statistics import sum_by_region


class Sampler:
    r"""Draws conditions where the student still disagrees with the teacher.

    .. math:: q = \epsilon\,p + (1-\epsilon)\,\frac{a(\hat d, p)}{\sum a(\hat d, p)}

    with the target mass :math:`p`, the floor :math:`\epsilon`, the allocator :math:`a` and the tracker's estimates
    :math:`\hat d`. The floor belongs to the sampler, so :math:`p/q \le 1/\epsilon` whatever the allocator does.

    >>> import aria
    >>> pool = aria.Pool(columns={"animal": ["cat", "cat", "dog", "dog"]})
    >>> partition = aria.partitioners.Labels("animal").fit(pool)
    >>> sampler = aria.Sampler(partition, tracker="ema(rate=0.5)", allocator="proportional", floor=0.2)
    >>> for _ in range(20):
    ...     draw = sampler.draw(8)
    ...     moved = sampler.observe(draw, 1.0 + 2.0 * draw.region)  # the loss of dogs is three times as large
    >>> sampler.probs()
    tensor([0.3000, 0.7000], dtype=torch.float64)
    """

    _collected: int
    _sums: tuple[Tensor, ...]
    _visit: Tensor

    def __init__(
        self,
        partition: Partition,
        tracker: Tracker | str = "bank",
        allocator: Allocator | str = "proportional",
        *,
        mass: Tensor | None = None,
        floor: float = 0.2,
        correction: str = "none",
        stratified: bool = True,
        warmup: int = 0,
        every: int = 1,
        timesteps: int | None = None,
        nonfinite: str = "raise",
        seed: int = 0,
        distributed: bool = True,
        group: Any = None,
    ) -> None:
        """
        Args:
            partition: the regions, from ``partitioner.fit(pool)``.
            tracker: a tracker or its spec string.
            allocator: an allocator or its spec string.
            mass: (K,) target distribution over regions; the partition's own (the pool's) by default.
            floor: ε in [0, 1], the share of the draws that follows ``mass``.
            correction: ``"none"`` (weights 1: the allocation changes the training mix), ``"importance"`` (p/q: the
                objective itself is unbiased, given a positive floor) or ``"tempered(0.5)"`` ((p/q)^0.5).
            stratified: systematic draws, each region's count within one of B·q; otherwise independent draws.
            warmup: number of tracker updates before the allocator is used; until then draws follow ``mass``.
            every: number of calls of ``observe`` whose sums the ranks exchange for one tracker update: one step of the
                tracker.
            timesteps: length of the noise schedule; signals are then normalised by the running mean of their timestep
                bucket, and ``observe`` needs their timesteps. None leaves signals as they are.
            nonfinite: ``"raise"`` refuses NaN and infinite signals, ``"skip"`` excludes and counts them. On an
                accelerator, where checking would need a sync, bad signals are always excluded at once, and ``"raise"``
                raises at the next ``check()`` or ``state_dict()``.
            seed: determines every draw, together with the step.
            distributed: share draws and statistics over the ranks of ``group`` if torch.distributed is initialised.
            group: process group, the default one if None.
        """
        checks.closed_unit("floor", floor)
        checks.whole("warmup", warmup, least=0)
        checks.whole("every", every, least=1)
        checks.one_of("nonfinite", nonfinite, ("raise", "skip"))
        checks.flag("stratified", stratified)
        checks.flag("distributed", distributed)
        checks.whole("seed", seed)
        self.tracker = registry.tracker(tracker)
        self.allocator = registry.allocator(allocator)
        self.floor = float(floor)
        self.correction = correction
        self.stratified = stratified
        self.warmup = int(warmup)
        self.every = int(every)
        self.normaliser = signals.TimestepNormaliser(timesteps) if timesteps is not None else None
        self.nonfinite = nonfinite
        self.seed = int(seed)
        self.ranks = Ranks(distributed, group)
        self._exponent = exponent(correction)
        self._allocation: tuple[Tensor, Tensor] | None = None
        self._use(partition, boundary.mass(partition, mass))
        self._generator = torch.Generator(self.device)
        self.reset()
        if self.warmup:
            self._allocated()  # an allocator that fails should fail now, not after the warm-up

    def __repr__(self) -> str:
        """
        >>> import aria
        >>> aria.Sampler(aria.partitioners.OneRegion().fit(aria.Pool(size=3)), tracker="constant")
        Sampler(1 region, tracker=constant(level=1), allocator=proportional(power=1, base=1), floor=0.2, step=0)
        """
        regions = f"{self.num_regions} region{'s' if self.num_regions > 1 else ''}"
        tracker, allocator = registry.spec(self.tracker), registry.spec(self.allocator)
        return f"Sampler({regions}, {tracker=!s}, {allocator=!s}, floor={self.floor}, step={self.step})"

    @property
    def device(self) -> torch.device:
        """The device of the sampler's tensors, which is that of the partition."""
        return self.mass.device

    @property
    def num_regions(self) -> int:
        """Number of regions K."""
        return self.mass.shape[0]

    def reset(self) -> None:
        """Forget everything observed and start again at step 0."""
        self.step = 0
        self.updates = 0
        self._tracked: State = self.tracker.init((self.num_regions,), self.device)
        self._normalised: State = self.normaliser.init(self.device) if self.normaliser else {}
        self._fault = signals.no_fault(self.device)
        self._use(self.partition, self.mass)

    # Draw ---------------------------------------------------------------------------------------------------------

    def estimate(self) -> Estimate:
        """The tracker's estimate of each region, (K,) each; copies."""
        value, stderr = self.tracker.estimate(self._tracked)
        return Estimate(value.clone(), stderr.clone())

    def certificate(self) -> Certificate | None:
        """The tracker's a-priori error bound, (K,) each, copies; None if its gains depend on the data."""
        known = self.tracker.certificate(self._tracked)
        return None if known is None else Certificate(*(part.clone() for part in known))

    def probs(self) -> Tensor:
        """(K,) distribution from which the next draw takes its regions; a copy."""
        return self._allocate()[0].clone()

    def draw(self, n: int, *, all_ranks: bool = False, counted: Tensor | None = None) -> Draw:
        """``n`` conditions for this rank: its slice of one draw that all ranks make alike.

        Args:
            n: number of conditions for each rank.
            all_ranks: return the whole draw of all ranks instead of this rank's slice.
            counted: (n·ranks,) which rows of the whole draw will be observed, where that is known already and does not
                depend on what is drawn; ``visit`` is then the probability that one of those visits a region.
        """
        checks.whole("the number of draws", n, least=1)
        rank, ranks = self.ranks.place()
        n = int(n)
        total = n * ranks
        probs, cdf = self._allocate()
        generator = self._generator.manual_seed(draws.step_seed(self.seed, self.step))
        if self.stratified:
            region = draws.shuffled(draws.invert(cdf, draws.systematic(total, generator)), generator)  # (total,)
        else:
            region = draws.invert(cdf, draws.independent(total, generator))
        coords = self.partition.draw(region, generator)
        if ranks > 1 and not all_ranks:
            rank_slice = slice(n * rank, n * (rank + 1))
            region, coords = region[rank_slice], {name: values[rank_slice] for name, values in coords.items()}
        self.step += 1
        index, weight, visit = coords.pop("index"), self._weight(probs, region), self._visits(probs, total, counted)
        return Draw(region, index, weight, visit, self.num_regions, self.step - 1, coords)

    def _visits(self, probs: Tensor, n: int, counted: Tensor | None) -> Tensor | None:
        """(K,) probability that a draw of ``n`` visits each region, if the tracker uses it."""
        if not self.tracker.uses_visit:
            return None
        rows = None if counted is None else boundary.mask("counted", counted, n, self.device).sum()
        visit = draws.systematic_visit if self.stratified else draws.independent_visit
        return visit(probs, n, rows)

    def _allocate(self) -> tuple[Tensor, Tensor]:
        """Probabilities and their cumulative sum, (K,) each; kept until the tracker moves."""
        if self._allocation is None:
            probs = self.mass if self.updates < self.warmup else self._allocated()
            self._allocation = probs, probs.cumsum(0)
        return self._allocation

    def _allocated(self) -> Tensor:
        weights = self.allocator(self.tracker.estimate(self._tracked), self.mass)  # (K,)
        boundary.weights(weights, self.mass, self.allocator)
        if self._drawable is not None:
            weights = weights * self._drawable
        total = weights.sum()
        boundary.allocation(weights, total, self.allocator)
        return torch.addcdiv(self._floored, weights, total, value=1 - self.floor)

    def _weight(self, probs: Tensor, region: Tensor) -> Tensor:
        """(B,) importance weights (p/q)^λ, in the default floating type."""
        if self._exponent == 0:
            return torch.ones(len(region), device=region.device)
        return ((self.mass[region] / probs[region]) ** self._exponent).to(torch.get_default_dtype())

    # Observe ------------------------------------------------------------------------------------------------------

    def observe(
        self,
        drawn: Draw | Tensor,
        signal: Tensor,
        *,
        timestep: Tensor | None = None,
        where: Tensor | None = None,
        visit: Tensor | None = None,
    ) -> bool:
        """Report the discrepancy of each sample; whether the tracker has moved, which it does once in ``every`` calls.
        Every rank must call it equally often: here statistics are exchanged.

        Args:
            drawn: the draw the samples came from, or the (B,) regions of samples that came from elsewhere.
            signal: (B,) per-sample discrepancies, detached here and read as float32.
            timestep: (B,) timesteps of the samples, if the sampler was made with ``timesteps``; by default those of the
                draw, if its partition covers them.
            where: (B,) which samples count; all of them by default.
            visit: (K,) probability, at draw time, that the step observes each region. Only trackers that weigh by it
                (``tracker.uses_visit``) use it, and they need it wherever it is not simply that of the draw: with bare
                regions and with ``where``.
        """
        step, region, visit, timestep = self._told(drawn, where, visit, timestep)
        # float32 values add up in float64 without rounding over a wide range, so in any order
        signal = boundary.same_shape("signal", signal, region).detach().to(self.device, torch.float32).double()
        signal, counted = self._screen(signal, where, region, step)
        buckets: tuple[Tensor, ...] = ()
        if self.normaliser:
            bucket = self.normaliser.bucket(boundary.same_shape("timestep", timestep, region))
            buckets = self.normaliser.sums(signal, counted, bucket)
            signal, known = self.normaliser.apply(self._normalised, signal, bucket)
            signal, counted = signal * known, counted * known
        by_region = sum_by_region(region, (counted, signal, signal * signal), self.num_regions)
        return self._collect((*by_region, *buckets), visit)

    def _told(
        self, drawn: Draw | Tensor, where: Tensor | None, visit: Tensor | None, timestep: Tensor | None
    ) -> tuple[int, Tensor, Tensor, Tensor | None]:
        """Step, regions (B,), visit probabilities (K,) and timesteps (B,) of what is observed."""
        if timestep is not None and self.normaliser is None:
            raise ValueError(
                "timestep was given, but the sampler was made without timesteps: Sampler(…, timesteps=1000)"
            )
        if visit is not None:
            visit = boundary.visit(visit, self.mass)
        if visit is None and self.tracker.uses_visit:
            known = drawn.visit if isinstance(drawn, Draw) and where is None else None
            visit = boundary.known_visit(known, self.tracker)
        visit = self._certain if visit is None else visit
        if not isinstance(drawn, Draw):
            return self.step, boundary.region(drawn, self.num_regions), visit, timestep
        if drawn.num_regions != self.num_regions:
            raise ValueError(f"this draw is of {drawn.num_regions} regions, the sampler has {self.num_regions} now")
        if timestep is None and self.normaliser:
            timestep = drawn.coords.get("timestep")
        return drawn.step, drawn.region, visit, timestep

    def _screen(self, signal: Tensor, where: Tensor | None, region: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(B,) signals, 0 where they do not count, and (B,) 1 where they do: bad ones are refused or left out."""
        if where is None and signal.is_cpu and signals.all_valid(signal):
            return signal, torch.ones_like(signal)
        wanted = torch.ones_like(region, dtype=torch.bool)
        if where is not None:
            wanted = boundary.mask("where", where, len(region), region.device)
        ok = signals.valid(signal) | ~wanted
        if signal.is_cpu:
            signals.refuse(signal, ok, region, step, skip=self.nonfinite == "skip")
        self._fault = signals.record_fault(self._fault, ok, region, step)
        counted = wanted & ok
        return torch.where(counted, signal, 0.0), counted.to(signal)

    def _collect(self, sums: tuple[Tensor, ...], visit: Tensor) -> bool:
        """Add a batch to the running step; at its end exchange it between ranks, move the tracker and return True."""
        if self._collected:
            sums = tuple(before + now for before, now in zip(self._sums, sums, strict=True))
            visit = 1 - (1 - self._visit) * (1 - visit) if self.tracker.uses_visit else visit
        self._sums, self._visit, self._collected = sums, visit, self._collected + 1
        if self._collected < self.every:
            return False
        self._collected = 0
        if self.updates == 0:
            self.ranks.agree(self.config, self.device)
        n, total, square, *buckets = self._sums = self.ranks.sum(sums)
        self._tracked = self.tracker.update(self._tracked, RegionStats(n, total, square, visit))
        if self.normaliser:
            self._normalised = self.normaliser.update(self._normalised, *buckets)
        self.updates += 1
        self._allocation = None
        return True

    @property
    def visited(self) -> Tensor:
        """(K,) which regions the tracker's last update saw, on any rank; none while a step is being summed."""
        return (self._sums[0] > 0) & (self._collected == 0)

    @property
    def skipped(self) -> int:
        """Number of bad signals that this process has excluded since it started (synchronises with the device)."""
        return int(self._fault[0])

    def check(self) -> None:
        """Raise for a bad signal that was excluded on an accelerator without a sync."""
        count, step, region = self._fault.tolist()
        if count and self.nonfinite == "raise":
            raise signals.refusal(None, step, region)

    # State --------------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """All settings that determine the draws, as JSON-serialisable values."""
        return {
            "partition": digest(self.partition),
            "tracker": registry.spec(self.tracker),
            "allocator": registry.spec(self.allocator),
            "floor": self.floor,
            "correction": self.correction,
            "stratified": self.stratified,
            "warmup": self.warmup,
            "every": self.every,
            "timesteps": self.normaliser.timesteps if self.normaliser else None,
            "nonfinite": self.nonfinite,
            "seed": self.seed,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs to continue bit for bit: tensors only, ready for safetensors.

        It is the same on every rank, so only one of them has to write it. With ``every > 1`` on several ranks it is
        only available right after they have exchanged their sums.
        """
        self.check()
        if self._collected and self.ranks.place()[1] > 1:
            raise ValueError(
                f"sums of {self._collected} steps are not exchanged between the ranks yet: "
                f"save after a multiple of every={self.every} observed steps"
            )
        return checkpoint.pack(self.config(), self._tensors())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state``; raises if it was saved with different settings or shapes."""
        tensors = checkpoint.unpack(state, self.config(), self._tensors())
        self.step, self.updates, self._collected = tensors["counters"].tolist()
        self._visit = tensors["visit"]
        self._sums = tuple(tensors[f"sums.{place}"] for place in range(len(self._sums)))
        self._tracked = checkpoint.under("tracker.", tensors)
        self._normalised = checkpoint.under("normaliser.", tensors)
        self._allocation = None

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "counters": torch.tensor([self.step, self.updates, self._collected]),
            "mass": self.mass,
            "visit": self._visit,
            **{f"sums.{place}": tensor for place, tensor in enumerate(self._sums)},
            **{f"tracker.{name}": tensor for name, tensor in self._tracked.items()},
            **{f"normaliser.{name}": tensor for name, tensor in self._normalised.items()},
        }

    def refine(self, partition: Partition, parent: Tensor) -> None:
        """Continue with a finer partition whose region ``k`` was part of the old region ``parent[k]``.

        Every new region starts from its parent's state. A custom ``mass`` is divided among children in proportion to
        the partition's own masses.
        """
        if self._collected:
            raise ValueError(
                f"{self._collected} observed steps wait for every={self.every}: refine right after a multiple of it"
            )
        parent = boundary.parents(parent, self.partition.mass, partition.mass)  # (K',)
        share = partition.mass / self.partition.mass[parent].clamp(min=torch.finfo(torch.float64).tiny)
        mass = partition.mass if self._own_mass else boundary.mass(partition, self.mass[parent] * share)
        tracked = {name: tensor[parent] for name, tensor in self._tracked.items()}
        self._use(partition, mass)
        self._tracked = tracked

    def _use(self, partition: Partition, mass: Tensor) -> None:
        """Take on a partition and its target mass, with nothing observed in the running step."""
        self.partition = partition
        self.mass = mass  # (K,)
        self._own_mass = mass is partition.mass
        empty = self.mass == 0  # (K,)
        self._drawable = (~empty).to(self.mass) if bool(empty.any()) else None  # (K,) 0 where nothing can be drawn
        self._floored = self.floor * self.mass  # (K,)
        self._certain = torch.ones_like(self.mass)  # (K,) the visit probability for trackers that do not use it
        self._collected = 0  # batches in the running step
        self._sums = tuple(torch.zeros_like(self.mass) for _ in range(3))
        if self.normaliser:
            self._sums += tuple(self.mass.new_zeros(self.normaliser.buckets) for _ in range(2))
        self._visit = torch.zeros_like(self.mass)
        self._allocation = None
