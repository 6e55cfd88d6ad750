"""The subcommands of ``aria-sim``, one file each.

A module ``check_log.py`` holds the click command ``command`` of ``aria-sim check-log``. Modules here import nothing
heavy where they start, so that ``aria-sim --help`` answers at once.
"""
