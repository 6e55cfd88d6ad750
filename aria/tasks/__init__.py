"""The embedded benchmark's tasks."""

from aria import registry
from aria.tasks.base import GROUPS, Gallery, InMemory, Task, World
from aria.tasks.concepts import Concepts
from aria.tasks.digits import Digits
from aria.tasks.folder import Folder
from aria.tasks.on_disk import OnDisk
from aria.tasks.shapes import Shapes

registry.add_kind(Task, "task", __name__)

__all__ = ["GROUPS", "Concepts", "Digits", "Folder", "Gallery", "InMemory", "OnDisk", "Shapes", "Task", "World"]
