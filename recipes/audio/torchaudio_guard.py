"""Import torchaudio whatever state its native part is in, and say so when that part is missing.

torchaudio 2.11 is its last release. Beside a torch built for another CUDA version, or a CPU-only torch, its native
library refuses to load and the whole import fails, although transforms, models and features are plain Python. Worse,
other audio packages then fail on their own `import torchaudio`. So: try the import; when it fails, put a stand-in where
the native part registers itself, and import again. Call this before anything else imports torchaudio.
"""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

_NATIVE = "torchaudio._extension"


@dataclass(frozen=True, slots=True)
class Torchaudio:
    """The module, and why its native part is missing (None when it is there)."""

    module: Any
    missing_native: str | None = None


@functools.cache
def load_torchaudio() -> Torchaudio:
    """torchaudio, with its native part or without.

    Without: transforms, features and models work; `forced_align`, `rnnt_loss` and fast `lfilter` do not.

    Raises
    ------
    ImportError: torchaudio is not installed, or fails even without its native part.
    """
    try:
        return Torchaudio(importlib.import_module("torchaudio"))
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            raise ImportError("torchaudio is not installed: install wavedeck[train].") from error
        reason = _sentence(error)
    except Exception as error:
        reason = _sentence(error)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules[_NATIVE] = _stand_in(reason)
    return Torchaudio(importlib.import_module("torchaudio"), reason)


def _stand_in(reason: str) -> ModuleType:
    """A module with the names that torchaudio takes from its native part; using the part says what is wrong."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"this needs torchaudio's native part, which does not load here: {reason}")

    module = ModuleType(_NATIVE)
    names: dict[str, Any] = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_RIR_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_check_cuda_version": lambda: None,
        "fail_if_no_align": lambda function: refuse,
    }
    for name, value in names.items():
        setattr(module, name, value)
    return module


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
