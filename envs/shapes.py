"""Array annotations such as ``Float[Array, "N A"]``.

They document shapes and cost nothing at run time; under pytest, jaxtyping and beartype check them at every call
(``tests/conftest.py``), which catches the ``[N] x [N, 1]`` broadcast.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from numpy import ndarray as Array

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Float32, Int, UInt8
else:

    class Unchecked:
        """A stand-in for jaxtyping's types: ``Float[Array, "N A"]`` is then a plain array type."""

        def __class_getitem__(cls, item: Any) -> Any:
            return Array

    Bool = Float = Float32 = Int = UInt8 = Unchecked

__all__ = ["Array", "Bool", "Float", "Float32", "Int", "UInt8"]
