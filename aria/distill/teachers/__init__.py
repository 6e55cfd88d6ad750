"""The teacher, and how it is evaluated: plainly, with guidance, or two steps at a time."""
