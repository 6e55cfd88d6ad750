"""The models of diffusers: opening them, their noise levels, and an adapter for each family."""
