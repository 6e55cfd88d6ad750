"""Whether a model that is no folder is on the Hugging Face Hub, found out by one short request.

Without it diffusers and huggingface_hub retry an unreachable hub several times.
"""

from __future__ import annotations

from huggingface_hub import model_info, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from aria.checks import InvalidSetting

TIMEOUT = 3.0
"""Seconds after which the hub counts as unreachable."""
UNREACHABLE: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])
"""The second is the base of all errors of the HTTP library, which is another one from version to version of the hub's
client."""


def is_reachable(name: str, *, file: str, revision: str | None = None) -> bool:
    """Whether the hub has the model ``name``; False where it cannot be reached but has been: ``file`` is then cached.

    A model that is neither on the hub nor cached is refused.
    """
    try:
        model_info(name, revision=revision, timeout=TIMEOUT)
    except HFValidationError:
        raise _missing(f"{name!r} is no folder here, and no name of a model on the hub ('owner/name')") from None
    except RevisionNotFoundError:
        raise _missing(f"{name} is no folder here, and on the hub it has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise _missing(
            f"{name} is no folder here, and the hub has no such model (a private one needs 'hf auth login')"
        ) from None
    except UNREACHABLE as error:
        if isinstance(try_to_load_from_cache(name, file, revision=revision), str):
            return False
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _missing(f"{name} is no folder here, and the hub cannot be reached: {reason}") from None
    return True


def _missing(message: str) -> InvalidSetting:
    return InvalidSetting("pretrained_model_name_or_path", "missing", message)
