"""An external moderation service that the operator names: scores by category for one text.

The service speaks the widespread moderation form: ``POST {"input": "..."}`` is answered by
``{"results": [{"category_scores": {"violence": 0.02, ...}}]}``. The prompt leaves this machine, so nothing in a policy
or a file can switch it on: only the operator's own setting does. No answer in time, or an answer that cannot be read,
is "unavailable" and never a pass.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guardrails.domain.findings import Component
from guardrails.errors import ModelUnavailable, OptionError

URL_VARIABLE = "GUARDRAILS_MODERATION_URL"
KEY_VARIABLE = "GUARDRAILS_MODERATION_KEY"
DEFAULT_SECONDS = 2.0
_LONGEST_ANSWER = 1_000_000
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would send the prompt somewhere that the operator did not name."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationEndpoint:
    """Where the service is.

    Attributes:
        url: https, or http on this machine only.
        key: sent as a bearer token when not empty; never written into a record.
        seconds: how long to wait for an answer.
    """

    url: str
    key: str = field(default="", repr=False)
    seconds: float = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise OptionError(
                "the moderation service must be reached by https", hint=f"set {URL_VARIABLE} to an https address"
            )
        if not self.seconds > 0:
            raise OptionError("the time limit of the moderation service must be above 0", hint="write seconds")

    @property
    def component(self) -> Component:
        """Host and path only: an address can carry secrets."""
        parts = urllib.parse.urlsplit(self.url)
        return Component(name="moderation-endpoint", version=f"{parts.hostname}{parts.path}")

    def score(self, text: str) -> Mapping[str, float]:
        """Scores 0..1 by the service's own category names; higher is worse.

        Raises:
            ModelUnavailable: no usable answer in time.
        """
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            self.url, data=json.dumps({"input": text}).encode(), headers=headers, method="POST"
        )
        try:
            with urllib.request.build_opener(_RefuseRedirects).open(request, timeout=self.seconds) as answer:
                return _scores(answer.read(_LONGEST_ANSWER + 1))
        except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ModelUnavailable(
                f"the moderation service gave no usable answer: {type(error).__name__}",
                hint=f"check {URL_VARIABLE} and {KEY_VARIABLE}",
            ) from error


def endpoint_from_environment() -> ModerationEndpoint | None:
    """The endpoint that the operator set in the environment, or None."""
    url = os.environ.get(URL_VARIABLE, "")
    return ModerationEndpoint(url=url, key=os.environ.get(KEY_VARIABLE, "")) if url else None


def _scores(raw: bytes) -> dict[str, float]:
    if len(raw) > _LONGEST_ANSWER:
        raise ValueError("too long")
    scores = json.loads(raw)["results"][0]["category_scores"]
    found = {str(category): float(score) for category, score in scores.items()}
    if not found or not all(0 <= score <= 1 for score in found.values()):
        raise ValueError("no scores within 0..1")
    return found
