from .arms import STANDARD as STANDARD
from .arms import Arm as Arm
from .experiment import Experiment as Experiment
from .running import run_experiment as run_experiment
from .settings import SETTINGS as SETTINGS
from .settings import Setting as Setting
from .stacked import Recipe as Recipe
