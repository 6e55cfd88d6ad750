"""The words that settings choose from."""

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")
"""diffusers' names for what a denoiser predicts."""
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")
"""diffusers' names for learning rate schedules that need no further arguments."""
PRECISIONS = ("no", "fp16", "bf16")
"""accelerate's names for mixed precision."""
TARGETS = ("pool", "conditions", "regions")
"""What training aims at: prompts by their weights, all prompts alike, or all regions alike."""
AUTO = "auto"
"""The partitioner that is chosen by the size of the pool."""
PARTITION_FILE = ".safetensors"
"""Suffix by which a partitioner is the file of a partition, not a spec."""
LOGGERS = ("tensorboard", "wandb")
"""Where accelerate can report to."""
