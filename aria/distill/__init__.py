"""One GPU distillation engine on PyTorch and diffusers."""
