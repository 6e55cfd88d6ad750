from .loader import DrawBatches as DrawBatches
from .sampler import Sampler as Sampler
from .signals import NonFiniteSignal as NonFiniteSignal
