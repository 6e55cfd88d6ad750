"""Drawing scenes by signed distance functions, with edges smoothed over the width of a pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from aria.tasks.shapes.scenes import ABOVE, COLOURS, NONE, PLACES, Facts

SIDE = 32
_RGB = {
    "red": (0.9, 0.15, 0.15),
    "green": (0.15, 0.75, 0.2),
    "blue": (0.2, 0.3, 0.95),
    "yellow": (0.95, 0.9, 0.2),
    "purple": (0.65, 0.2, 0.8),
    "white": (0.95, 0.95, 0.95),
    "orange": (0.95, 0.55, 0.1),
    "cyan": (0.2, 0.85, 0.9),
}
_LOW, _MIDDLE, _HIGH = 9.0, 16.0, 23.0
_CENTRES = ((_LOW, _LOW), (_HIGH, _LOW), (_LOW, _HIGH), (_HIGH, _HIGH), (_MIDDLE, _MIDDLE))
"""(x, y) centre of every place."""
_COUPLES = (((_MIDDLE, _LOW), (_MIDDLE, _HIGH)), ((_LOW, _MIDDLE), (_HIGH, _MIDDLE)))
"""(x, y) centres of the two slots in every layout of two objects."""
_RADII = (5.0, 7.5, 6.0)
"""Radius of a small object, of a large one, and of each of two."""


def render(facts: Facts, generator: torch.Generator) -> Tensor:
    """(N, 3, 32, 32) images in [−1, 1] on the generator's device. Places, sizes, colours and the grey background vary
    slightly from image to image."""
    device, count = generator.device, len(facts)
    facts = facts.to(device)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator, device=device) - 1

    alone = [((x, y), (x, y)) for x, y in _CENTRES]
    assert len(alone) == len(PLACES) == ABOVE
    centre = torch.tensor([*alone, *_COUPLES], device=device)[facts.layout] + uniform(count, 2, 2)  # (N, 2, 2)
    radius = torch.tensor(_RADII, device=device)[facts.size] * (1 + 0.06 * uniform(count, 2))  # NONE is the last
    colour = torch.tensor([_RGB[name] for name in COLOURS], device=device)[facts.colour]
    colour = (colour + 0.05 * uniform(count, 2, 3)).clamp(0, 1)
    image = (0.12 + 0.06 * uniform(count, 1, 1, 1)).expand(count, 3, SIDE, SIDE)
    for slot in range(2):
        cover = _cover(facts.shape[:, slot], centre[:, slot], radius[:, slot])[:, None]  # (N, 1, 32, 32)
        image = image + cover * (colour[:, slot, :, None, None] - image)
    return 2 * image - 1


def _cover(shape: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """(N, 32, 32) the fraction of each pixel that an object covers; 0 where there is no object."""
    place = torch.arange(SIDE, device=shape.device) + 0.5
    scale = radius[:, None, None]
    u = (place[None, None, :] - centre[:, 0, None, None]) / scale
    v = (place[None, :, None] - centre[:, 1, None, None]) / scale
    distances = torch.stack(_distances(u, v), 1)  # (N, S, 32, 32)
    kind = shape.clamp(min=0)[:, None, None, None].expand(-1, 1, SIDE, SIDE)
    cover = (0.5 - scale * distances.gather(1, kind)[:, 0]).clamp(0, 1)
    return torch.where((shape == NONE)[:, None, None], 0.0, cover)


def _distances(u: Tensor, v: Tensor) -> list[Tensor]:
    """Signed distance to the edge of each shape in the order of ``SHAPES``, negative inside, in units of the radius."""
    u, v = u.abs() + torch.zeros_like(v), v + torch.zeros_like(u)
    side, far, long = v.abs(), torch.hypot(u, v), torch.maximum(u, v.abs())
    slope = 0.53
    return [
        far - 0.95,  # circle
        long - 0.85,  # square
        torch.maximum(v - 0.8, (u - slope * (v + 1)) / (1 + slope**2) ** 0.5),  # triangle
        torch.minimum(torch.maximum(u - 1, side - 0.33), torch.maximum(u - 0.33, side - 1)),  # cross
        (far - 0.75).abs() - 0.22,  # ring
        (u + side - 1.05) / 2**0.5,  # diamond
        (long - 0.72).abs() - 0.18,  # frame
        torch.maximum(u - 1, side - 0.4),  # bar
    ]
