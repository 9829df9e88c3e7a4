"""The packs that this service decides by, loaded once, and what a tenant is bound to."""

from __future__ import annotations

from collections.abc import Sequence

from guardrails.errors import OptionError
from guardrails.policy import Policy, load_policy


class Policies:
    """Loaded packs by the name in the settings.

    Args:
        names: of packs or files; the first is the default.

    Raises:
        PolicyError: one does not load.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._default = names[0]
        self._by_name: dict[str, Policy] = {name: load_policy(name) for name in names}

    def get(self, name: str = "", digest: str = "") -> Policy:
        """A pack by name; the default for "".

        Args:
            digest: what its SHA-256 must be; "" is any.

        Raises:
            OptionError: there is no such pack here, or it is not the one that was bound.
        """
        policy = self._by_name.get(name or self._default)
        if policy is None:
            raise OptionError("no such policy on this service", hint=f"one of {', '.join(self._by_name)}")
        if digest and policy.digest != digest:
            raise OptionError("the policy is not the one that was bound", hint="bind the tenant to the new digest")
        return policy

    @property
    def all(self) -> dict[str, Policy]:
        return dict(self._by_name)


def written(name: str, policy: Policy) -> str:
    """Name and digest in one text, as jobs carry it."""
    return f"{name}@sha256:{policy.digest}"


def split(text: str) -> tuple[str, str]:
    """The inverse of `written`."""
    name, _, digest = text.rpartition("@sha256:")
    return name, digest
