"""Emoji of three designs with their Unicode names: real pictures, and teachers of four kinds."""

from aria.tasks.emoji.pictures import Pictures
from aria.tasks.emoji.split import Split
from aria.tasks.emoji.task import Emoji

__all__ = ["Emoji", "Pictures", "Split"]
