"""Parts that a setting names as `module:function`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from guardrails.errors import OptionError


def named(setting: str, name: str) -> Callable[..., Any]:
    """The function that a setting names.

    Raises:
        OptionError: it names none.
    """
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"the setting `{setting}` names nothing: {name}", hint="write module:function") from error
    return found
