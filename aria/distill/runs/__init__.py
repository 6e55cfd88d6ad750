"""A run on disk: its parts made from settings, checkpoints, delivery, logs."""
