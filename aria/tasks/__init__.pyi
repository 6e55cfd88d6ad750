from .base import (
    GROUPS as GROUPS,
)
from .base import (
)
from .base import (
)
from .base import (
    Task as Task,
)
from .base import (
    World as World,
)
from .base import (
    held_out_groups as held_out_groups,
)
from .concepts import Concepts as Concepts
from .concepts import scaled_linear as scaled_linear
from .concepts import told_tokens as told_tokens
from .digits import Digits as Digits
from .film import FilmMLP as FilmMLP
from .folder import Folder as Folder
from .mixture import MixtureTeacher as MixtureTeacher
from .on_disk import OnDisk as OnDisk
from .on_disk import Questions as Questions
from .shapes import Shapes as Shapes
from .unet import TokenUNet as TokenUNet
