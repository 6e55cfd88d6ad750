"""The subcommands of ``aria-sim``, one file each.

The module ``check_log.py`` has the click command ``command`` of ``aria-sim check-log``. Modules here import nothing
heavy at the top level, so that ``aria-sim --help`` is fast.
"""
