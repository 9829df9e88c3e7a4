"""Pages to look at: one decision with its words marked, and what changes between two policies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from guardrails.domain.findings import Action, Finding
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.policy.comparison import Comparison

_COLOURS = {
    Action.ALLOW: "#2f7d4f",
    Action.FLAG: "#9a7400",
    Action.REWRITE: "#2b62a8",
    Action.REVIEW: "#b35412",
    Action.BLOCK: "#b3232f",
}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.prompt { font: 1.1rem/1.9 ui-monospace, monospace; background: var(--soft); padding: 1rem; border-radius: .5rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.hit { border-bottom: 3px solid; padding-bottom: 1px; font-weight: 600; }
.badge { color: #fff; border-radius: .3rem; padding: .1rem .5rem; font-size: .85rem; font-weight: 600;
  white-space: nowrap; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .4rem .6rem;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.count { text-align: right; }
.rule { border-left: 4px solid; padding: .2rem 0 .2rem .8rem; margin: .8rem 0; } .dim { opacity: .7; font-size: .9rem; }
del { opacity: .7; } ins { text-decoration: none; font-weight: 600; }
"""


def decision_page(request: PromptRequest, decision: PromptDecision) -> str:
    """A decision: the prompt with what each rule found, the rules, and what almost spoke."""
    texts = [("Prompt", "prompt", request.prompt), ("Negative prompt", "negative_prompt", request.negative_prompt)]
    parts = [f"<h1>{_badge(decision.action)} {escape(decision.policy.id)} {escape(decision.policy.version)}</h1>"]
    for title, field, text in texts:
        if text:
            parts.append(f"<h2>{title}</h2><div class=prompt>{_marked(text, field, decision.findings)}</div>")
    if decision.rewritten:
        parts.append(f"<h2>Drawn from</h2><div class=prompt>{escape(decision.prompt)}</div>")
    parts.append("<h2>Rules that spoke</h2>" + ("".join(map(_rule, decision.findings)) or "<p>None.</p>"))
    if decision.shadow:
        parts.append("<h2>In shadow mode</h2>" + "".join(map(_rule, decision.shadow)))
    if decision.near_misses:
        rows = [(_badge(m.action), escape(m.rule), escape(m.why)) for m in decision.near_misses]
        parts.append("<h2>Almost spoke</h2>" + _table(("would", "rule", "silent because"), rows))
    where = f", {escape(decision.jurisdiction)}" if decision.jurisdiction else ""
    parts.append(
        f"<p class=dim>As of {escape(decision.on)}{where}. Policy digest {escape(decision.policy.digest)}.</p>"
    )
    return _page("Prompt decision", parts)


def comparison_page(comparison: Comparison) -> str:
    """What changes between two policies: a matrix of verdicts, then the prompts, the strictest changes first."""
    first, second = comparison.first, comparison.second
    heads = ["", *(escape(action.name.lower()) for action in Action)]
    rows = []
    for before in Action:
        counts = [comparison.count(before, after) for after in Action]
        rows.append(
            (
                _badge(before),
                *(f"<b>{n}</b>" if n and a is not before else str(n) for a, n in zip(Action, counts, strict=True)),
            )
        )
    changes = [
        (_badge(change.before), _badge(change.after), escape(change.prompt), escape(", ".join(change.rules)))
        for change in comparison.changes
    ]
    names = f"{escape(first.id)} {escape(first.version)} &rarr; {escape(second.id)} {escape(second.version)}"
    return _page(
        "Policy difference",
        [
            f"<h1>{names}</h1>",
            f"<p>{len(comparison.changes)} of {comparison.total} prompts change their verdict.</p>"
            "<p class=dim>Rows: before; columns: after.</p>",
            _table(heads, rows),
            "<h2>Prompts</h2>",
            _table(("before", "after", "prompt", "rules that differ"), changes),
        ],
    )


def _marked(text: str, field: str, findings: Iterable[Finding]) -> str:
    """The text with every find underlined in the colour of the strictest rule that looks at it."""
    strictest = [Action.ALLOW] * len(text)
    for finding in findings:
        for span in finding.evidence.get("spans", ()):
            if span["field"] == field:
                for index in range(span["start"], span["end"]):
                    strictest[index] = max(strictest[index], finding.action)
    pieces, start = [], 0
    for index in range(1, len(text) + 1):
        if index == len(text) or strictest[index] is not strictest[start]:
            piece = escape(text[start:index])
            action = strictest[start]
            pieces.append(
                piece if action is Action.ALLOW else f'<span class=hit style="color:{_COLOURS[action]}">{piece}</span>'
            )
            start = index
    return "".join(pieces)


def _rule(finding: Finding) -> str:
    evidence = finding.evidence
    details = [escape(finding.category)]
    if "severity" in evidence:
        details.append(f"severity {evidence['severity']}")
    if "view" in evidence:
        details.append(f"matched <b>{escape(str(evidence['term']))}</b> in the view {escape(str(evidence['view']))}")
    if finding.score is not None and finding.threshold is not None:
        details.append(f"score {finding.score:.4g}, threshold {finding.threshold:.4g}")
    if "cues" in evidence:
        details.append("cues: " + escape(", ".join(evidence["cues"])))
    changes = "".join(
        f"<p><del>{escape(edit['from'])}</del> <ins>{escape(edit['to'])}</ins></p>"
        for edit in evidence.get("rewrites", ())
    )
    return (
        f'<div class=rule style="border-color:{_COLOURS[finding.action]}">{_badge(finding.action)} '
        f"<b>{escape(finding.rule)}</b><br>{escape(finding.message)}{changes}"
        f"<div class=dim>{'; '.join(details)}</div>{_certainty(finding)}{_examples(finding)}</div>"
    )


def _certainty(finding: Finding) -> str:
    """How often harmless prompts reach the threshold; an exact match has none."""
    if finding.threshold is None:
        return ""
    stated = escape(finding.error_rate) or "not stated"
    return f"<div class=dim>Error rate of the threshold: {stated}.</div>"


def _examples(finding: Finding) -> str:
    """The labelled examples that a rule about meaning came nearest to, unsafe and harmless."""
    rows = [
        (kind, escape(str(example["text"])), f"{example['cosine']:.2f}")
        for kind, name in (("unsafe", "nearest"), ("harmless", "nearest_harmless"))
        for example in finding.evidence.get(name, ())
    ]
    return _table(("nearest example", "", "cosine"), rows) if rows else ""


def _badge(action: Action) -> str:
    return f'<span class=badge style="background:{_COLOURS[action]}">{action.name.lower()}</span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        + "\n".join(parts)
        + "</body></html>\n"
    )
