"""Registries from lists of names: match forms, ambiguous names, and words for an artist's style.

A source is a CSV file with a header. Known columns are `name` (required), `id`, `aliases`, `roles`, `role_until`,
`living`, `as_of`, `tags`, `style`, `standalone`, `source` and `licence`; lists are separated by "|". What has no
public role, no source or no licence is left out, and so are single words unless `standalone` says yes.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from guardrails.errors import InputError
from guardrails.policy.registries import COLUMNS
from guardrails.policy.vocabulary import first_names, is_common_word
from guardrails.prompts.views import term_words

# A word that this many names begin with is a first name, whatever else it means.
_FEWEST_NAMESAKES = 4
_SHORTEST_STANDALONE = 4
_LONGEST_STYLE = 4
_ARTICLES = frozenset({"the", "a", "an"})
# Words for movements, media and subjects; tags that are none of these (countries, franchises) say nothing of a style.
_STYLES = frozenset(
    """abstract|abstract expressionism|academic art|aestheticism|anime|architecture|art brut|art deco|art nouveau|
    arts and crafts|baroque|black and white|bauhaus|biomorphic|book illustration|botanical|ceramics|charcoal|
    children's book|classicism|collage|comic|concept art|constructivism|cover art|cubism|cyberpunk|dada|dark|
    design|digital|drawing|engraving|etching|expressionism|fairy tale|fantasy|fashion|fauvism|figurative|film|floral|
    futurism|geometric|glass|golden age illustration|gothic|graffiti|graphic design|horror|hudson river school|
    hyperrealism|illustration|impressionism|ink|installation|japanese woodblock|landscape|line art|lithography|
    magic realism|manga|marine art|metaphysical|minimalism|mixed media|modernism|mosaic|murals|naive art|
    nature|neo-impressionism|neoclassicism|oil|op art|orientalism|painting|pastel|pattern|pencil|photography|
    pin-up|pointillism|pop art|pop surrealism|portrait|post-impressionism|poster|precisionism|pre-raphaelite|primitive|
    printmaking|psychedelic|realism|regionalism|renaissance|retro|rococo|romanticism|sci-fi|sculpture|silhouette|
    social realism|space|still life|street art|street photography|suprematism|surrealism|symbolism|tonalism|typography|
    ukiyo-e|urban|vector|victorian|watercolor|wildlife|woodcut""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_RESPELT = {"grafitti": "graffiti", "b&w": "black and white", "sci fi": "sci-fi", "pre-raphaelism": "pre-raphaelite"}
_STYLE_OF_ROLE = {
    "photographer": "fine art photography",
    "comic_artist": "comic book art",
    "concept_artist": "concept art",
    "sculptor": "sculpture",
    "painter": "painting",
    "illustrator": "illustration",
    "film_director": "cinematic film still",
    "artist": "contemporary art",
}


def build_registry(source: Path, out: Path) -> int:
    """Write a registry file, gzip-compressed when its name ends in ".gz".

    Returns:
        The number of rows.

    Raises:
        InputError: the source cannot be read or has no column `name`.
    """
    rows = _one_a_name(registry_rows(_source_rows(source)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    data = text.getvalue().encode()
    out.write_bytes(gzip.compress(data, 9, mtime=0) if out.suffix == ".gz" else data)
    return len(rows)


def _one_a_name(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Of several rows with one match form, the one that knows most."""
    living, style = COLUMNS.index("living"), COLUMNS.index("style")
    best: dict[str, tuple[str, ...]] = {}
    for row in sorted(set(rows), key=lambda row: (row[living] == "unknown", -len(row[style]), row)):
        best.setdefault(row[0], row)
    return [best[key] for key in sorted(best)]


def registry_rows(source: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, ...]]:
    """Rows in the order of `COLUMNS`, one for each name and alias."""
    people = [row for row in source if row.get("roles") and row.get("source") and row.get("licence")]
    namesakes = Counter(words[0] for row in people if len(words := term_words(row["name"])) > 1)
    for row in people:
        for name in (row["name"], *filter(None, row.get("aliases", "").split("|"))):
            words = term_words(name)
            if not _is_usable(words, row):
                continue
            yield (
                " ".join(words),
                row.get("id", ""),
                " ".join(name.split()),
                row["roles"],
                row.get("role_until", ""),
                row.get("living") or "unknown",
                row.get("as_of", ""),
                "cased" if _is_ambiguous(words, namesakes) else "plain",
                row.get("style") or _style(row),
                row["source"],
                row["licence"],
            )


def _source_rows(source: Path) -> list[dict[str, str]]:
    try:
        data = source.read_bytes()
        text = (gzip.decompress(data) if source.suffix == ".gz" else data).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{source}: cannot be read: {error}", hint="give a CSV file with a header") from error
    if not rows or "name" not in rows[0]:
        raise InputError(f"{source}: there is no column `name`", hint="the first line names the columns")
    return rows


def _is_usable(words: tuple[str, ...], row: Mapping[str, str]) -> bool:
    if len("".join(words)) < _SHORTEST_STANDALONE:
        return row.get("standalone") == "yes" and bool(words)
    if len(words) == 1:
        return row.get("standalone") == "yes"
    return not (words[0] in _ARTICLES and all(map(is_common_word, words[1:])))


def _is_ambiguous(words: tuple[str, ...], namesakes: Mapping[str, int]) -> bool:
    """Whether a name could be ordinary words: none of it is rare, and it does not begin with a first name."""
    is_first_name = words[0] in first_names() or namesakes.get(words[0], 0) >= _FEWEST_NAMESAKES
    return all(map(is_common_word, words)) and not is_first_name


def _style(row: Mapping[str, str]) -> str:
    tags = [_RESPELT.get(tag, tag) for tag in row.get("tags", "").lower().split("|")]
    known = [tag for tag in tags if tag in _STYLES][:_LONGEST_STYLE]
    if not known:
        roles = row["roles"].split("|")
        known = [style for role, style in _STYLE_OF_ROLE.items() if role in roles][:1]
    return ", ".join(known)
