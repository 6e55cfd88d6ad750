from .base import Answer as Answer
from .base import Objective as Objective
from .base import Pairs as Pairs
from .base import Shown as Shown
from .base import per_sample as per_sample
from .feature import Feature as Feature
from .output import Output as Output
from .task import Task as Task
from .weighting import (
    MinSNR as MinSNR,
)
from .weighting import (
    TruncatedSNR as TruncatedSNR,
)
from .weighting import (
    Uniform as Uniform,
)
from .weighting import (
    Velocity as Velocity,
)
from .weighting import (
    Weighting as Weighting,
)
