"""The embedded benchmark's tasks."""

from aria import registry
from aria.tasks.base import GROUPS, Gallery, InMemory, Task, World
from aria.tasks.concepts import Concepts
from aria.tasks.digits import Digits

registry.add_kind(Task, "task", __name__)

__all__ = ["GROUPS", "Concepts", "Digits", "Gallery", "InMemory", "Task", "World"]
