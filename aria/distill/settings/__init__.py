"""The settings of a run: each declared once, and files of settings. Loads no torch."""
