r"""The concept world: a large space of conditions, few images, and a teacher that is exact.

A condition is three tokens: a concept, a shift and a contrast. A random nonlinear map turns a concept into an 8 × 8
template. The map's nonlinearity, detail and amplitude differ from group to group, so some groups are harder than
others. An image is the condition's template, jittered by a pixel, with texture on top. Half of the concepts have no
images.

A larger ``side`` shows the same world on a finer grid, where all lengths grow with the grid: templates keep their
cosine coefficients; shifts, jitters and the texture's patterns cover proportionally more pixels. A pattern on
:math:`s^2` times as many pixels has :math:`s^2` times the energy, while noise is independent in every pixel, so
conditions could be distinguished at higher noise levels and would matter at fewer timesteps. The signal-to-noise ratio
is therefore divided by :math:`s^2` (E. Hoogeboom, J. Heek, T. Salimans, "simple diffusion", ICML 2023), so that the
information in an image about its condition at a timestep does not depend on the side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aria import checks
from aria.checks import InvalidSetting
from aria.distill.data.memory import EncodingsInMemory, LatentsInMemory
from aria.distill.models.denoisers import Condition
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.teachers.teacher import Teacher
from aria.pool import Pool
from aria.tasks.base import Task, World, check_unseen, held_out_groups
from aria.tasks.film import FilmMLP
from aria.tasks.mixture import MixtureTeacher
from aria.tasks.unet import TokenUNet

SIDE, DIM, MODES, TIMESTEPS = 8, 12, 6, 1000
SHIFTS, CONTRASTS = ((0, 0), (3, 2)), (1.0, -0.6)
JITTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Shifts and jitters are in pixels of a grid with ``SIDE`` pixels a side."""
NETWORKS = ("mlp", "unet")


@dataclass(frozen=True)
class Concepts(Task):
    """The settings of the world; with the defaults adaptive allocation should help.

    >>> world = Concepts(groups=4, concepts=4).world(0)
    >>> len(world.pool), world.groups["unseen"].gt(0).sum().item()
    (64, 32)
    """

    groups: int = 16
    concepts: int = 6
    skew: float = 1.2
    """Zipf exponent of the groups' frequencies."""
    heterogeneity: float = 1.0
    """How much difficulty differs between groups; with 0 it does not."""
    unseen: float = 0.5
    """Share of each group's concepts that have no images."""
    unlearnable: int = 0
    """Number of groups whose templates are unrelated to their tokens, so that training effort on them is wasted."""
    images: int = 2000
    bend: float = 0.5
    """Nonlinearity of the map from tokens to templates."""
    width: int = 48
    """Width of the student; for a UNet, its number of channels at half resolution."""
    steps: int = 2000
    side: int = 8
    """Width and height of the images in pixels, a multiple of 8."""
    network: str = "mlp"
    """Architecture of the student: ``"mlp"``, or ``"unet"``, a UNet2DConditionModel of diffusers."""

    def __post_init__(self) -> None:
        checks.whole("groups", self.groups, least=2)
        checks.whole("concepts", self.concepts, least=2)
        checks.non_negative("skew", self.skew)
        checks.non_negative("heterogeneity", self.heterogeneity)
        checks.closed_unit("unseen", self.unseen)
        checks.whole("unlearnable", self.unlearnable, least=0)
        checks.whole("images", self.images, least=1)
        checks.non_negative("bend", self.bend)
        checks.whole("width", self.width, least=1)
        checks.whole("steps", self.steps, least=1)
        checks.whole("side", self.side, least=SIDE)
        checks.one_of("network", self.network, NETWORKS)
        check_unseen("concepts", self.unseen, self.concepts)
        if self.unlearnable > self.groups:
            message = f"unlearnable must be at most groups={self.groups}, got {self.unlearnable}"
            raise InvalidSetting("unlearnable", "range", message)
        if self.side % SIDE:
            raise InvalidSetting("side", "range", f"side must be a multiple of {SIDE}, got {self.side}")
        if self.network == "unet":
            TokenUNet.check_width(self.width)

    def world(self, seed: int) -> World:
        generator = torch.Generator().manual_seed(seed)
        tokens, templates = self._conditions(generator)  # (N, 3, D), (N, J, S²)
        share, group, concept = self._shares()
        unseen = self._without_images(generator)[group, concept]  # (N,)
        schedule = self._schedule()
        basis, spectrum = _texture(self.side // SIDE, generator)
        model = MixtureTeacher(templates, share.float(), basis, spectrum, schedule)
        encoded = {"tokens": tokens, "concept": torch.arange(len(tokens))}
        null = {"tokens": torch.zeros(1, 3, DIM), "concept": torch.tensor([len(tokens)])}
        images = self._images(templates, share * ~unseen, basis, spectrum, generator)
        head, tail = group < max(1, round(self.groups * 3 / 16)), group >= self.groups - self.groups // 2
        columns = {"group": group.tolist(), "concept": (group * self.concepts + concept).tolist()}
        return World(
            Teacher(model, told_tokens, schedule, "epsilon"),
            Pool(embeddings=tokens.flatten(1).numpy(), columns=columns, weight=share),
            EncodingsInMemory(encoded, null),
            images,
            held_out_groups(share, head, tail, unseen),
        )

    def student(self, seed: int) -> nn.Module:
        if self.network == "unet":
            return TokenUNet(self.side, DIM, self.width, self._schedule(), seed=seed)
        return FilmMLP(self.side**2, 3 * DIM, self.width, self._schedule(), seed=seed)

    def _schedule(self) -> NoiseSchedule:
        return scaled_linear(TIMESTEPS, finer=self.side // SIDE)

    def _shares(self) -> tuple[Tensor, Tensor, Tensor]:
        """(N,) frequencies of the conditions, and the group and concept of each; group 0 is the most frequent."""
        kinds = len(SHIFTS) * len(CONTRASTS)
        group = torch.arange(self.groups).repeat_interleave(self.concepts * kinds)
        concept = torch.arange(self.concepts).repeat_interleave(kinds).repeat(self.groups)
        share = (group + 1.0).double() ** -self.skew * (concept + 1.0).double() ** (-self.skew / 2)
        return share / share.sum(), group, concept

    def _without_images(self, generator: torch.Generator) -> Tensor:
        """(G, C) which concepts have no images: in every group the same number, chosen at random."""
        order = torch.rand(self.groups, self.concepts, generator=generator).argsort(1)
        return order < round(self.unseen * self.concepts)

    def _conditions(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(N, 3, D) tokens and (N, J, S²) templates."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        centre, own = normal(self.groups, 1, DIM), normal(self.groups, self.concepts, DIM)
        concept = (centre + 0.7 * own) / math.sqrt(1.49)  # (G, C, D)
        hidden = 24
        first, second = normal(DIM, hidden) / math.sqrt(DIM), normal(hidden, SIDE * SIDE) / math.sqrt(hidden)
        # difficulty by group, in an order unrelated to frequency
        level = torch.linspace(-1, 1, self.groups)[torch.randperm(self.groups, generator=generator)]
        level = level * self.heterogeneity
        bend = (self.bend * 2.0**level)[:, None, None]
        source = concept.clone()
        if self.unlearnable:
            odd = torch.randperm(self.groups, generator=generator)[: self.unlearnable]
            source[odd] = 4 * normal(len(odd), self.concepts, DIM)
        spectrum = torch.sin(bend * (source @ first) * 2) @ second  # (G, C, 64) cosine coefficients
        frequency = torch.arange(SIDE).float()
        radius = (frequency[:, None] ** 2 + frequency**2).sqrt().flatten()
        keep = torch.exp(-((radius / (2.5 * 1.5**level)[:, None, None]) ** 2))
        image = (spectrum * keep).view(self.groups, self.concepts, SIDE, SIDE)
        cosine, finer = _cosines(SIDE, self.side), self.side // SIDE
        image = cosine.T @ image @ cosine
        image = image / image.flatten(2).std(-1)[..., None, None] * (0.8 * 1.3**level)[:, None, None, None]
        variants = [contrast * _moved(image, shift, finer) for shift in SHIFTS for contrast in CONTRASTS]
        plain = torch.stack(variants, 2).flatten(0, 2)  # (N, S, S)
        templates = torch.stack([_moved(plain, jitter, finer) for jitter in JITTERS], 1).flatten(2)
        shift, contrast = normal(len(SHIFTS), DIM), normal(len(CONTRASTS), DIM)
        kinds = len(SHIFTS) * len(CONTRASTS)
        tokens = torch.stack(
            [
                concept.flatten(0, 1).repeat_interleave(kinds, 0),
                shift.repeat_interleave(len(CONTRASTS), 0).repeat(self.groups * self.concepts, 1),
                contrast.repeat(self.groups * self.concepts * len(SHIFTS), 1),
            ],
            1,
        )
        return tokens, templates

    def _images(
        self, templates: Tensor, share: Tensor, basis: Tensor, spectrum: Tensor, generator: torch.Generator
    ) -> LatentsInMemory:
        condition = torch.multinomial(share, self.images, replacement=True, generator=generator)
        jitter = torch.randint(templates.shape[1], (self.images,), generator=generator)
        texture = torch.randn(self.images, self.side**2, generator=generator) * spectrum.sqrt() @ basis.T
        latents = (templates[condition, jitter] + texture).view(-1, 1, self.side, self.side)
        return LatentsInMemory(latents, condition)


def told_tokens(model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
    """Call a world's model: a student gets the tokens of the condition, the exact teacher its index."""
    exact = isinstance(model, MixtureTeacher)
    output: Tensor = model(noisy, timestep, condition["concept"] if exact else condition["tokens"])
    return output


def scaled_linear(
    timesteps: int = TIMESTEPS, first: float = 0.00085, last: float = 0.012, finer: int = 1
) -> NoiseSchedule:
    """Stable Diffusion's noise schedule, with signal-to-noise ratios divided by ``finer`` squared."""
    beta = torch.linspace(first**0.5, last**0.5, timesteps, dtype=torch.float64) ** 2
    signal = (1 - beta).cumprod(0)
    signal = signal / (1 + (finer**2 - 1) * (1 - signal))
    return NoiseSchedule(signal.sqrt().float(), (1 - signal).sqrt().float())


def _texture(finer: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(S², S²) eigenvectors and (S²,) eigenvalues of the images' covariance: a few strong modes and weak noise. On a
    finer grid every pixel of a mode becomes ``finer`` × ``finer`` pixels of the same amplitude."""
    basis, _ = torch.linalg.qr(torch.randn(SIDE * SIDE, SIDE * SIDE, generator=generator))
    if finer > 1:
        modes = basis[:, :MODES].T.view(MODES, SIDE, SIDE)
        modes = modes.repeat_interleave(finer, 1).repeat_interleave(finer, 2).flatten(1)
        basis, _ = torch.linalg.qr(modes.T, mode="complete")
    spectrum = torch.full((len(basis),), 0.02)
    spectrum[:MODES] = 0.3 * finer**2
    return basis, spectrum


def _moved(image: Tensor, by: tuple[int, int], finer: int) -> Tensor:
    """(…, S, S) images shifted cyclically by this many pixels of the coarse grid."""
    return image.roll((by[0] * finer, by[1] * finer), (-2, -1))


def _cosines(count: int, side: int) -> Tensor:
    """(count, side) the first functions of the cosine basis, one frequency in each row."""
    place = (torch.arange(side) + 0.5) / side
    return torch.cos(math.pi * torch.arange(count)[:, None] * place) * math.sqrt(2 / side)
