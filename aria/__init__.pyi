from . import allocators as allocators
from . import partitioners as partitioners
from . import registry as registry
from . import trackers as trackers
from .interfaces import (
    Allocator as Allocator,
)
from .interfaces import (
    Certificate as Certificate,
)
from .interfaces import (
    Draw as Draw,
)
from .interfaces import (
    Estimate as Estimate,
)
from .interfaces import (
    Partition as Partition,
)
from .interfaces import (
    Partitioner as Partitioner,
)
from .interfaces import (
    RegionStats as RegionStats,
)
from .interfaces import (
    State as State,
)
from .interfaces import (
    Tracker as Tracker,
)
from .pool import Pool as Pool
from .samplers import DrawBatches as DrawBatches
from .samplers import NonFiniteSignal as NonFiniteSignal
from .samplers import Sampler as Sampler
from .specs import SpecError as SpecError

__version__: str
