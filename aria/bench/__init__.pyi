from .arms import SETTINGS as SETTINGS
from .arms import STANDARD as STANDARD
from .arms import Arm as Arm
from .arms import Setting as Setting
from .experiment import Experiment as Experiment
from .running import run_experiment as run_experiment
from .stacked import Recipe as Recipe
