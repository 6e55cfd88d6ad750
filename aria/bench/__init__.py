"""Allocator variants on real distillation, compared in pairs."""
