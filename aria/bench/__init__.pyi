from .arms import SETTINGS as SETTINGS
from .arms import STANDARD as STANDARD
from .arms import Arm as Arm
from .arms import Setting as Setting
from .compare import Comparison as Comparison
from .queue import Queue as Queue
from .stacked import Recipe as Recipe
