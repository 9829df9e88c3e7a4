"""The names that `import guardrails` promises."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import guardrails

_RESOLVE = """
import json, guardrails
print(json.dumps({name: getattr(getattr(guardrails, name), "__module__", "") for name in guardrails.__all__}))
"""


def test_every_public_name_resolves(run_python: Callable[..., str]) -> None:
    modules = json.loads(run_python(_RESOLVE))
    assert sorted(modules) == sorted(guardrails.__all__)
    assert all(module.startswith("guardrails.") for name, module in modules.items() if name != "__version__")


def test_type_checkers_see_the_names_that_are_loaded_lazily(checkout: Path) -> None:
    tree = ast.parse((checkout / "guardrails" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == guardrails._HOMES
    assert {*seen, "__version__"} == set(guardrails.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = guardrails.no_such_name
