"""``python -m aria.cli``: the command ``aria``."""

from aria.cli import main

if __name__ == "__main__":
    main()
