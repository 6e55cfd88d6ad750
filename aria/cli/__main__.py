"""``python -m aria.cli``: the command ``aria``."""

from aria.cli import main

main()
