"""The commands of ``aria``; each module has one, called ``command``."""
