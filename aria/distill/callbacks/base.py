"""What happens beside training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aria.distill.distiller import Distiller


class Callback:
    """Called at the beginning, after every step and at the end of :meth:`Distiller.fit`; override what you need.

    ``distiller.step_count`` is the number of steps done. Setting ``distiller.stop`` ends the run after this step.
    """

    def begin(self, distiller: Distiller) -> None:
        """Before the first step."""

    def step(self, distiller: Distiller) -> None:
        """After every step. Do not look at the device here more often than you must."""

    def end(self, distiller: Distiller) -> None:
        """After the last step, unless an error ended the run."""

    def close(self) -> None:
        """At the very end, after an error too: put back what was changed. It may come without ``begin``."""
