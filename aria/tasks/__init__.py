"""The benchmark's tasks, and the parts from which you can build your own."""

from aria import registry
from aria.tasks.base import GROUPS, AnyTask, Task, World, held_out_groups
from aria.tasks.concepts import Concepts, scaled_linear, told_tokens
from aria.tasks.digits import Digits
from aria.tasks.film import FilmMLP
from aria.tasks.folder import Folder
from aria.tasks.mixture import MixtureTeacher
from aria.tasks.on_disk import OnDisk, Questions
from aria.tasks.shapes import Shapes
from aria.tasks.unet import TokenUNet

registry.add_kind(AnyTask, "task", __name__)

__all__ = [
    "GROUPS",
    "Concepts",
    "Digits",
    "FilmMLP",
    "Folder",
    "MixtureTeacher",
    "OnDisk",
    "Questions",
    "Shapes",
    "Task",
    "TokenUNet",
    "World",
    "held_out_groups",
    "scaled_linear",
    "told_tokens",
]
