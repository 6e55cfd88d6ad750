"""Validation: images of teacher and student for a few prompts, side by side, during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aria import checks, run_log
from aria.distill.engine.distiller import Callback, Distiller
from aria.distill.evaluation import grids
from aria.distill.evaluation.gap import gap_record
from aria.distill.models import denoisers
from aria.distill.teachers.teacher import Teacher

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

FOLDER, VALIDATION = "samples", "validation.jsonl"
PAGES, FILMS = ".png", ".webp"
"""How the files of pages and of films end."""


class Grids(Callback):
    """Every so many steps and at the end: ``samples/step-….png`` with the teacher's image of each prompt beside that
    of the averaged student, from the same noise each time, and a line of ``validation.jsonl`` with their gap. Of videos
    the picture has some frames, and ``samples/step-….webp`` plays them all.

    This does not affect training. A resumed run first deletes what was drawn after its checkpoint.
    """

    def __init__(
        self,
        pipeline: Any,
        prompts: Sequence[str],
        output: Path,
        *,
        every: int = 500,
        steps: int = 25,
        student_steps: int | None = None,
        guidance: float = 7.5,
        resolution: int | None = None,
        frames: int | None = None,
        seed: int = 0,
        trackers: bool = False,
    ) -> None:
        """
        Args:
            pipeline: the teacher's.
            steps: sampling steps of each image.
            student_steps: sampling steps of the student's images; ``steps`` by default.
        """
        checks.whole("validation_steps", every, least=1)
        if not prompts:
            raise ValueError("validation_prompts must name at least one prompt")
        self.pipeline, self.denoiser = pipeline, denoisers.of(pipeline)
        self.prompts, self.output = tuple(prompts), output
        self.every, self.steps, self.guidance = every, steps, guidance
        self.student_steps = student_steps or steps
        self.resolution, self.frames, self.seed, self.trackers = resolution, frames, seed, trackers
        self._drawn = -1

    def begin(self, distiller: Distiller) -> None:
        self._drawn = distiller.step_count
        self._teacher: tuple[Tensor, list[list[Image]]] | None = None
        if distiller.accelerator.is_main_process:
            size = self.resolution, self.frames
            noise = grids.starting_noise(self.denoiser, self.pipeline, len(self.prompts), self.seed, *size)
            self._noise = noise.to(distiller.device)
            self._encoded = grids.encoded(self.pipeline, self.denoiser, self.prompts)
            (self.output / FOLDER).mkdir(parents=True, exist_ok=True)
            run_log.drop_after(self.output / VALIDATION, distiller.step_count)
            for path in (self.output / FOLDER).glob("step-*"):
                if path.suffix in (PAGES, FILMS) and path.stem > _name(distiller.step_count):
                    path.unlink()

    def step(self, distiller: Distiller) -> None:
        if distiller.step_count % self.every == 0:
            self._draw(distiller)

    def end(self, distiller: Distiller) -> None:
        if distiller.step_count == distiller.steps != self._drawn:
            self._draw(distiller)

    def _draw(self, distiller: Distiller) -> None:
        """Draw on the first rank while the others wait. Collective: every rank calls it."""
        with distiller.averaged():
            student = distiller.whole_student()
            if distiller.accelerator.is_main_process:
                self._write(distiller, student.to(distiller.device))
        self._drawn = distiller.step_count
        distiller.accelerator.wait_for_everyone()

    def _write(self, distiller: Distiller, student: Any) -> None:
        distiller.check()
        latents, teacher = self._teachers(distiller)
        made = self._generated(distiller, student, self._prediction(distiller), self.student_steps)
        images = grids.pictures(self.pipeline, self.denoiser, made)
        columns, path = [("teacher", teacher), ("student", images)], self.output / FOLDER / _name(distiller.step_count)
        page = grids.grid(self.prompts, columns)
        grids.write_png(page, path.with_suffix(PAGES))
        grids.write_film(self.prompts, columns, path.with_suffix(FILMS))
        record = {"step": distiller.step_count, **gap_record(self.prompts, latents, made)}
        run_log.append(self.output / VALIDATION, [record])
        if self.trackers:
            _track(distiller, record["gap"], page)

    def _teachers(self, distiller: Distiller) -> tuple[Tensor, list[list[Image]]]:
        """The teacher's latents and images, generated once."""
        if self._teacher is None:
            model = self.denoiser.model_of(self.pipeline)
            latents = self._generated(distiller, model, None, self.steps)
            self._teacher = latents, grids.pictures(self.pipeline, self.denoiser, latents)
        return self._teacher

    def _prediction(self, distiller: Distiller) -> str | None:
        """The student's prediction type, if it differs from the pipeline's own."""
        prediction = distiller.student_prediction
        return None if prediction == Teacher.of(self.pipeline).prediction else prediction

    def _generated(self, distiller: Distiller, model: Any, prediction: str | None, steps: int) -> Tensor:
        kwargs: dict[str, Any] = {"steps": steps, "guidance": self.guidance, "seed": self.seed}
        with distiller.accelerator.autocast():
            return grids.generated(
                self.pipeline, self.denoiser, model, *self._encoded, self._noise, prediction=prediction, **kwargs
            )


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _track(distiller: Distiller, gap: float, page: Image) -> None:
    """Send the gap and the grid to accelerate's trackers."""
    import numpy as np

    step = distiller.step_count
    distiller.accelerator.log({"validation/gap": gap}, step=step)
    for tracker in distiller.accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({"validation": np.asarray(page)[None]}, step=step, dataformats="NHWC")
        elif tracker.name == "wandb":
            tracker.log_images({"validation": [page]}, step=step)
