"""The words that settings choose from."""

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")
"""diffusers' names for what a denoiser predicts."""
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")
"""diffusers' names for learning rate schedules that need no further arguments."""
PRECISIONS = ("no", "fp16", "bf16")
"""accelerate's names for mixed precision."""
LOGGERS = ("tensorboard", "wandb")
"""Where accelerate can report to."""
