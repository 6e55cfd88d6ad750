from .data import Conditions as Conditions
from .data.latents import Latents as Latents
from .data.memory import EncodingsInMemory as EncodingsInMemory
from .data.memory import LatentsInMemory as LatentsInMemory
from .engine.batch import Batch as Batch
from .engine.batch import Encodings as Encodings
from .engine.batch import Images as Images
from .engine.distiller import Callback as Callback
from .engine.distiller import Distiller as Distiller
from .engine.distiller import NonFiniteLoss as NonFiniteLoss
from .engine.on_policy import OnPolicy as OnPolicy
from .engine.plan import Plan as Plan
from .evaluation.gap import generation_gap as generation_gap
from .evaluation.quantise import open_quantised as open_quantised
from .models.denoisers.guidance import (
    GUIDANCE as GUIDANCE,
)
from .models.denoisers.guidance import (
    guidance_argument as guidance_argument,
)
from .models.denoisers.guidance import (
    take_guidance as take_guidance,
)
from .models.pipelines import open_model as open_model
from .models.pipelines import open_pipeline as open_pipeline
from .models.schedule import NoiseSchedule as NoiseSchedule
from .settings.config import AdamW as AdamW
from .teachers.guidance import guided as guided
from .teachers.halving import halved as halved
from .teachers.teacher import Teacher as Teacher
