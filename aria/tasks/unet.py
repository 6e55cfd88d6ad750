"""A UNet student: a small UNet2DConditionModel of diffusers, which attends to its tokens."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from aria.checks import InvalidSetting
from aria.distill.models.schedule import NoiseSchedule

GROUPS, HEADS = 4, 2


class TokenUNet(nn.Module):
    r"""Predicts the noise of an image. As in Stable Diffusion's UNet, conditions enter only through cross-attention,
    here at half resolution, and every level has residual blocks and skip connections.

    The network computes the velocity :math:`v`, and its output is :math:`\epsilon = \sigma_t x_t + \alpha_t v` as in
    :class:`aria.tasks.film.FilmMLP`, so that both students learn the same function.

    >>> schedule = NoiseSchedule(torch.tensor([1.0, 0.8, 0.6]), torch.tensor([0.0, 0.6, 0.8]))
    >>> model = TokenUNet(16, 12, 32, schedule)
    >>> model(torch.zeros(2, 1, 16, 16), torch.tensor([1, 2]), torch.zeros(2, 3, 12)).shape
    torch.Size([2, 1, 16, 16])
    >>> sum(weights.numel() for weights in model.parameters())
    247377
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(self, side: int, dim: int, width: int, schedule: NoiseSchedule, *, seed: int = 0) -> None:
        """
        Args:
            dim: width of a token.
            width: number of channels at half resolution; at full resolution there are half as many.
        """
        super().__init__()
        self.check_width(width)
        self.register_buffer("alpha", schedule.alpha.clone(), persistent=False)
        self.register_buffer("sigma", schedule.sigma.clone(), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.unet = UNet2DConditionModel(
                sample_size=side,
                in_channels=1,
                out_channels=1,
                block_out_channels=(width // 2, width),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=dim,
                attention_head_dim=HEADS,  # diffusers' name for the number of heads
                norm_num_groups=GROUPS,
            )
        self.unet.set_attn_processor(AttnProcessor())  # vmap stacks plain products, not the fused kernel
        _by_products(self.unet)

    @staticmethod
    def check_width(width: int) -> None:
        """Refuse a width whose half cannot be divided into the groups of group normalisation."""
        if width < 1 or width % (2 * GROUPS):
            message = f"the width of a UNet must be a multiple of {2 * GROUPS}, got {width}"
            raise InvalidSetting("width", "range", message)

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """(B, 1, S, S) noise of ``noisy`` at ``(B,)`` timesteps, given ``(B, L, D)`` tokens."""
        velocity: Tensor = self.unet(noisy, timestep, tokens, return_dict=False)[0]
        alpha, sigma = (level[timestep].view(-1, 1, 1, 1) for level in (self.alpha, self.sigma))
        return sigma * noisy + alpha * velocity


class Convolution(nn.Conv2d):
    r"""A convolution that computes one matrix product over the patches of its input, where that is faster.

    When vmap stacks runs, their convolutions become one grouped convolution. That is fast on a CPU; on CUDA a grouped
    convolution with few channels per group uses a small part of the device, and a batched product uses all of it.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.device.type == "cpu" else self.by_product(x)

    def by_product(self, x: Tensor) -> Tensor:
        """(B, O, H', W') the convolution of ``x`` (B, C, H, W)."""
        assert self.bias is not None and not isinstance(self.padding, str)
        (tall, wide), (down, right) = self.kernel_size, self.stride
        top, left = self.padding
        x = nn.functional.pad(x, (left, left, top, top)).unfold(2, tall, down).unfold(3, wide, right)
        count, _, height, width = x.shape[:4]
        patches = x.permute(0, 1, 4, 5, 2, 3).reshape(count, -1, height * width)  # (B, C·k², H'W')
        product: Tensor = self.weight.flatten(1) @ patches + self.bias[:, None]
        return product.view(count, -1, height, width)


def _by_products(model: nn.Module) -> None:
    """Replace every convolution of ``model`` by a :class:`Convolution` with the same weights."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Conv2d:
                if child.groups != 1 or child.dilation != (1, 1) or child.padding_mode != "zeros":
                    raise ValueError(f"the convolution {name!r} cannot be computed as a matrix product: {child}")
                kind = child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding
                replaced = Convolution(*kind, device="meta")  # type: ignore[arg-type]
                replaced.weight, replaced.bias = child.weight, child.bias
                setattr(module, name, replaced)
