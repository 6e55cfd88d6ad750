"""Bounds on how well trackers follow a moving discrepancy."""
