from .base import Scorer as Scorer
from .classifier import Classifier as Classifier
from .clip import Clip as Clip
