"""The error tree: every class is drawn, has its own code, and ends a command and a request in a known way."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from guardrails import errors
from guardrails.cli.status import NOT_CONFIRMED, REFUSED
from guardrails.errors import GuardrailsError, InputError, UnavailableError

# A branch of the tree: four characters a level, then the name of the class.
_BRANCH = re.compile(r"^ {4}((?:│   |    )*)[├└]── (\w+)", re.MULTILINE)


def _all_errors() -> list[type[GuardrailsError]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, GuardrailsError)]


def _drawn_tree() -> dict[str, str]:
    """Class -> parent, as the module's docstring draws it."""
    parents: dict[str, str] = {}
    line_of_descent = ["GuardrailsError"]
    for indent, name in _BRANCH.findall(errors.__doc__ or ""):
        del line_of_descent[len(indent) // 4 + 1 :]
        parents[name] = line_of_descent[-1]
        line_of_descent.append(name)
    return parents


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in _all_errors() if kind is not GuardrailsError}
    assert _drawn_tree() == real


def test_every_error_has_its_own_code() -> None:
    codes = Counter(kind.code for kind in _all_errors())
    assert [code for code, count in codes.items() if count > 1] == []
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_ends_a_command_and_a_request_in_a_known_way(kind: type[GuardrailsError]) -> None:
    assert 1 <= kind.exit_status <= 7
    # These two are answers, not errors.
    assert kind.exit_status not in (REFUSED, NOT_CONFIRMED)
    fault_of_the_caller = issubclass(kind, InputError)
    assert (400 <= kind.http_status < 500) is fault_of_the_caller
    assert (500 <= kind.http_status < 600) is not fault_of_the_caller
    assert (kind.exit_status == 2) is fault_of_the_caller
    assert (kind.exit_status == 5) is issubclass(kind, UnavailableError)


def test_an_error_prints_its_code_message_and_hint() -> None:
    error = errors.PolicyError("pack.yaml:3:5: unknown field", hint="remove it")
    assert error.to_json() == {
        "error": {"code": "invalid_policy", "message": "pack.yaml:3:5: unknown field", "hint": "remove it"}
    }
