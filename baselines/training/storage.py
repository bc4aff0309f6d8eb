"""Tensors to files and back, each file replaced at once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from offlinemeta.benchmark.errors import RunError


def save_tensors(file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and plain metadata; a reader sees the old file or the new one, never half of it.

    Raises:
        RunError: no space, no permission; what was there is still there.
    """
    draft = file.with_name(f".{file.name}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, draft, metadata={"offlinemeta": json.dumps(about)})
        draft.replace(file)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RunError(
            f"{file} could not be written ({error}). The one before is untouched; make room and resume."
        ) from error
