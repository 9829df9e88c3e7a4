"""The card of a training set, with the fields of the EU's public summary of training content.

AI Act, article 53(1)(d); template of the AI Office of 24 July 2025 (Communication C(2025) 8311): general information,
list of data sources, aspects of data processing. The card holds what can be counted; what only the provider knows is
given by them or stays "not stated".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from guardrails.audit.dataset_check import DatasetReport
from guardrails.domain.canonical import Json
from guardrails.domain.rights import Terms

NOT_STATED = "not stated"
# The template asks for size ranges, not for exact numbers.
_SIZES = ((1_000_000, "less than 1 million images"), (1_000_000_000, "1 million to 1 billion images"))
_LARGEST = "more than 1 billion images"
_REPEATED = 10
_LICENSED = (Terms.PERMISSIVE, Terms.ATTRIBUTION, Terms.SHARE_ALIKE, Terms.PUBLIC_DOMAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What only the provider knows; each is `NOT_STATED` where it is not given."""

    name: str = NOT_STATED
    contact: str = NOT_STATED
    model: str = NOT_STATED
    collected: str = NOT_STATED
    user_data: str = NOT_STATED
    synthetic: str = NOT_STATED
    illegal_content: str = NOT_STATED


def dataset_card(report: DatasetReport, provider: Provider, made_at: str) -> dict[str, Json]:
    """The card as JSON.

    Args:
        made_at: ISO 8601.
    """
    domains = Counter(host for source, n in report.sources.items() for host in [_host(source)] * n if host)
    licensed = sum(report.terms.get(terms.value, 0) for terms in _LICENSED)
    kinds = Counter(signal.kind.value for signals in report.signals.values() for signal in signals)
    return {
        "card": "training-content/1",
        "dataset": report.name,
        "made_at": made_at,
        "general_information": {
            "provider": provider.name,
            "contact": provider.contact,
            "model": provider.model,
            "modalities": ["image"],
            "size_range": next((text for limit, text in _SIZES if report.rows < limit), _LARGEST),
            "works": report.works,
            "rows": report.rows,
            "long_side_pixels": list(report.sides),
            "collected": provider.collected,
        },
        "data_sources": {
            "publicly_available_datasets": [
                {"source": source, "works": works} for source, works in report.sources.items() if not _host(source)
            ],
            "licensed": {"works_under_a_known_open_licence": licensed, "licences": dict(report.licences)},
            "crawled": {"top_domains": [{"domain": d, "works": n} for d, n in domains.most_common(100)]},
            "user_data": provider.user_data,
            "synthetic": provider.synthetic,
            "creators": dict(report.creators),
            "terms": dict(report.terms),
        },
        "data_processing": {
            "opt_outs": {
                "works_opted_out": len(report.opted_out),
                "works_with_a_signal": len(report.signals),
                "signals_by_kind": dict(kinds),
                "rule": "the strictest signal holds; the absence of signals is unknown, not permission",
            },
            "illegal_content": {
                "measures": provider.illegal_content,
                "hash_list_lines": report.lists,
                "hits": len(report.list_hits),
            },
            "duplicates": {
                "groups": len(report.groups),
                "exact_groups": sum(group.exact for group in report.groups),
                "repeated_ten_times_or_more": sum(group.repeats >= _REPEATED for group in report.groups),
                "most_repeats": max((group.repeats for group in report.groups), default=1),
            },
            "gaps": {gap: len(ids) for gap, ids in report.missing.items()},
            "not_compared": {
                "no_picture_at_hand": report.absent,
                "unreadable": len(report.unreadable),
                "too_little_detail": len(report.unhashable),
            },
        },
    }


def as_markdown(card: Mapping[str, Json]) -> str:
    """The card for people: one heading a section, one table a section."""
    lines = [f"# Training content: {card['dataset']}", "", f"Made at {card['made_at']}.", ""]
    for title in ("general_information", "data_sources", "data_processing"):
        section = card[title]
        assert isinstance(section, Mapping)
        lines += [f"## {title.replace('_', ' ').capitalize()}", "", "| field | value |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in section.items()]
        lines.append("")
    return "\n".join(lines)


def _cell(value: Json) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{_cell(name).replace('_', ' ')}: {_cell(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(part) for part in value) or "none"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _host(source: str) -> str:
    return urlsplit(source).hostname or "" if "://" in source else ""
