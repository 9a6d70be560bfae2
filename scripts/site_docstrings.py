"""Docstrings as the site shows them: what is typed in an example stands in a block of code.

The docstrings head one example ``Example:``, Griffe knows the plural alone and would show the
prompts as quotations. An extension of Griffe (``mkdocs.yml``).
"""

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Renames the heading before a docstring is read."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of an object, if it has one."""
        if obj.docstring is not None:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
            obj.docstring.value = re.sub(r":(?:class|data|func|meth):`~?([^`]+)`", r"`\1`", text)
