"""A Griffe extension: in docstrings, the roles of Sphinx (``:class:`Task` ``) become plain code on the site."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Roles(griffe.Extension):
    """Takes the roles off before docstrings are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object that was just read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r":(?:class|func|meth|data|attr|mod|exc):`", "`", obj.docstring.value)
