"""The record of one decision, and the proof that the same rules decide the same again.

A record names rules, places and reasons. Without `keep_text` it quotes nothing of the prompt: what was asked is a
keyed digest (HMAC-SHA256), which answers "was it this prompt?" for whoever holds the key, and nobody once it is erased.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping

from guardrails.domain.canonical import Json, canonical_json, to_plain
from guardrails.domain.findings import Finding, strongest
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.errors import InputError
from guardrails.prompts.guard import PromptGuard

FORMAT = "guardrails-decision/v1"
# What differs between two runs of the same decision.
_NOT_COMPARED = frozenset({"timings", "milliseconds", "request"})


def decision_record(
    request: PromptRequest, decision: PromptDecision, *, key: bytes, keep_text: bool = False
) -> dict[str, Json]:
    """The record of a decision, as JSON values.

    Args:
        key: of the digest of the prompt; the same for every record that shall be comparable.
        keep_text: also keep the request and the wording that was found, so that the record can be replayed by itself.
    """
    record: dict[str, Json] = {
        "format": FORMAT,
        "prompt_hmac": prompt_hmac(request, key),
        "on": decision.on,
        "jurisdiction": decision.jurisdiction,
        "policy": to_plain(decision.policy),
        "decision": to_plain(decision.action),
        "deciding_rules": sorted({f.rule for f in decision.findings if f.action is strongest(decision.findings)}),
        "findings": [_finding(finding, keep_text=keep_text) for finding in decision.findings],
        "shadow": [_finding(finding, keep_text=keep_text) for finding in decision.shadow],
        "near_misses": to_plain(decision.near_misses),
        "rewritten": decision.rewritten,
        "milliseconds": round(decision.milliseconds, 3),
        "timings": {stage: round(spent, 3) for stage, spent in decision.timings.items()},
    }
    if keep_text:
        record["request"] = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "language": request.language,
        }
        record["prompt"] = decision.prompt
    return record


def prompt_hmac(request: PromptRequest, key: bytes) -> str:
    """HMAC-SHA256 of what was asked, hexadecimal."""
    return hmac.new(key, canonical_json([request.prompt, request.negative_prompt]), hashlib.sha256).hexdigest()


def replay(
    record: Mapping[str, Json], guard: PromptGuard, *, key: bytes, request: PromptRequest | None = None
) -> list[str]:
    """Decide again what a record says, on its day and in its jurisdiction.

    Args:
        request: what was asked, for records that do not hold it.

    Returns:
        The names of the fields that came out differently; empty when nothing did.

    Raises:
        InputError: the record is of another format or another policy, holds no request, or is not of this request.
    """
    if record.get("format") != FORMAT:
        raise InputError(f"this is not a record of the format {FORMAT}", hint="give a file that `policy record` wrote")
    kept = record.get("request")
    if request is None:
        if kept is None:
            raise InputError("the record does not hold the prompt", hint="give the prompts beside it")
        request = PromptRequest(**kept, jurisdiction=record["jurisdiction"])
    if prompt_hmac(request, key) != record["prompt_hmac"]:
        raise InputError("the record is of another prompt, or its key is another one", hint="give the key of the log")
    decision = guard.decide(request, on=datetime.date.fromisoformat(record["on"]))
    if decision.policy.digest != record["policy"]["digest"]:
        raise InputError(
            f"the record was made under {record['policy']['digest'][:12]}, not {decision.policy.digest[:12]}",
            hint="load the version of the policy that the record names",
        )
    again = decision_record(request, decision, key=key, keep_text=kept is not None)
    fields = (again.keys() | record.keys()) - _NOT_COMPARED
    return sorted(field for field in fields if again.get(field) != record.get(field))


def _finding(finding: Finding, *, keep_text: bool) -> dict[str, Json]:
    plain: dict[str, Json] = to_plain(finding)
    if not keep_text:
        # Messages quote the prompt, and so do the rewrites.
        plain.pop("message")
        plain["evidence"] = {name: value for name, value in plain["evidence"].items() if name != "rewrites"}
    return plain
