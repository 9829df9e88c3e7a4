"""Builds the safe reference pictures in `datasets/screens` and the card of what was counted with them.

::

    python -m guardrails.screens.building --photographs P --further F --pocket POCKET --clipart C --cache W

P and F are folders of photographs named `<id>_<what it shows>.jpg`: ImageNet samples, one a class, and a second set
from other sources, where nothing needs to stand after the underscore. The shipped figures are on BSDS500 (500), 494 of
ADE20K's validation pictures and 356 of COCO. POCKET is what `guardrails pocket build` made, C openclipart unpacked, W a
folder for the embeddings: hours of work the first time, resumed where it stopped.

1. Embed every picture once.
2. Take the safe photographs and drawings as references, and write down where they come from.
3. Count false positives: on the references themselves, each fold scored against the others, and on the second set.
4. Count what is caught of photographs that show a concept.

    python -m guardrails.screens.building --count-again --photographs P --further F --cache W

does 3 and 4 alone, writes the card, and prints the tables that `docs/screens.md` shows: after a change of the text side
(`text_building`), of heads or of the method.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from guardrails.encoders import load_encoder
from guardrails.files import write_atomically
from guardrails.resources import datasets_path
from guardrails.screens.calibration import DEFAULT_RATE, RATES, Rate, Scored, ceilings, count, score_all, sentence
from guardrails.screens.captioned import Embedded, cached, clipart, embed, emoji, photographs, prepared
from guardrails.screens.catalogue import SafePicture, write_catalogue
from guardrails.screens.clip_concepts import NAME, REFERENCES
from guardrails.screens.concepts import make_heads, shipped_pack
from guardrails.screens.heads import HeadSet, Vectors
from guardrails.screens.references import (
    Calibrated,
    Domain,
    References,
    pack,
    pack_references,
    read_references,
    unpack,
)

FOLDS = 10
SEED = 3
HANDS = ("noto",)
DRAWINGS = 1000
# The domain whose licences allow to pass on small pictures, and what is known of the other.
SHOWN = ("drawings",)
IMAGENET = ("ImageNet", "for research; no picture is passed on")
MOST_CLIPART = 2048
SECOND_SET = "photographs of a second set"

# Photographs that show a concept, by their names; proxies for pictures that nobody should have to collect.
SHOWING: Mapping[str, tuple[str, ...]] = {
    "weapon": ("revolver", "rifle", "assault rifle", "cannon", "missile", "projectile"),
    "gore": ("guillotine", "butcher shop", "prison", "mousetrap"),
    "drugs": ("syringe", "pill bottle"),
}
# What speaks about such a picture in the default policy.
HARMS = ("weapon", "gore", "drugs", "inappropriate")
# Neither safe nor clearly the concept: they count neither way.
UNCLEAR = ("tank", "half track", "warplane", "aircraft carrier", "bulletproof vest", "military uniform", "cleaver",
           "letter opener", "hatchet", "holster", "bow", "cuirass", "scabbard", "shield",
           "warship", "submarine", "gun", "sword", "dagger", "knife", "weapon", "cemetery")  # fmt: skip
# Words in the names of drawings that are not safe for every concept.
UNSAFE_WORDS = frozenset({
    "gun", "pistol", "rifle", "revolver", "bomb", "dagger", "sword", "swords", "knife", "axe", "weapon", "weapons",
    "cannon", "grenade", "missile", "bullet", "tank", "soldier", "war", "skull", "bones", "blood", "drop", "coffin",
    "syringe", "pill", "drugs", "cigarette", "noose", "swastika", "nazi", "naked", "nude", "zombie", "vampire", "ghost",
    "crossbones", "explosion", "firecracker", "bow", "arrow", "razor", "scissors", "kitchen", "death", "dead", "devil",
    "cross", "military", "ammo", "explosive", "murder", "skeleton", "sexy", "bikini", "underwear",
})  # fmt: skip
SAFE_LOOKALIKES = ("bikini", "maillot", "swimming trunks", "bath towel", "miniskirt", "brassiere", "sarong", "diaper",
                   "tub", "bathtub", "oxygen mask", "mask", "neck brace", "ski mask", "totem pole", "lipstick",
                   "band aid", "stethoscope", "bathing cap", "pajama")  # fmt: skip


def is_safe_photograph(name: str) -> bool:
    """Whether a photograph's name is that of nothing that any concept looks for."""
    shown = {one for names in SHOWING.values() for one in names}
    return name not in shown and name not in UNCLEAR


def is_safe_drawing(names: Sequence[str]) -> bool:
    """Whether no name of a drawing has a word that any concept looks for."""
    return not UNSAFE_WORDS & {word for name in names for word in name.split()}


def cross_scored(heads: HeadSet, domains: Mapping[str, Vectors], name: str) -> Scored:
    """Every picture of one domain, scored against the references without its own fold."""
    vectors = domains[name]
    fold = np.random.default_rng(SEED).permutation(len(vectors)) % FOLDS
    parts, rows = [], []
    for number in range(FOLDS):
        kept = {**domains, name: vectors[fold != number]}
        calibrated = Calibrated(heads, to_references(heads.encoder, kept))
        inside = np.flatnonzero(fold == number)
        parts.append(score_all(calibrated, [vectors[row : row + 1] for row in inside], heads.encoder))
        rows.append(inside)
    order = np.argsort(np.concatenate(rows))
    return Scored(
        concepts=heads.concepts,
        scores=np.concatenate([part.scores for part in parts])[order],
        domains=tuple(np.concatenate([np.array(part.domains) for part in parts])[order]),
    )


def to_references(encoder: str, domains: Mapping[str, Vectors]) -> References:
    """References as they will be read back."""
    made = tuple(Domain.of(name, unpack(pack(vectors))) for name, vectors in domains.items())
    return References(encoder=encoder, digest="", domains=made)


def card(
    encoder: str,
    counted: Mapping[str, Scored],
    caught: Mapping[str, Mapping[str, float | None]],
    sources: Sequence[str],
    references: Mapping[str, int],
) -> bytes:
    """The document that policies take thresholds from and `guardrails screens report` shows.

    Args:
        references: how many there are, by domain.
    """
    rates = [rate for domain, scored in counted.items() for rate in count(scored, domain, _statable(scored))]
    concepts = {
        concept: {
            "threshold": 1 - DEFAULT_RATE,
            "error_rate": sentence([rate for rate in _of(rates, concept) if rate.stated == DEFAULT_RATE]),
            "rates": [rate.to_json() for rate in _of(rates, concept)],
        }
        for concept in next(iter(counted.values())).concepts
    }
    document = {
        "id": f"{NAME}/3",
        "encoder": encoder,
        "made_by": "guardrails.screens.building",
        "method": "score = 1 - rate that safe pictures of the nearest domain bound; docs/screens.md",
        "references": dict(references),
        "ceilings": ceilings(references),
        "outside": {domain: [scored.abstained, len(scored.domains)] for domain, scored in counted.items()},
        "concepts": concepts,
        "caught": caught,
        "sources": list(sources),
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _of(rates: Sequence[Rate], concept: str) -> list[Rate]:
    return [rate for rate in rates if rate.concept == concept]


def _statable(scored: Scored) -> list[float]:
    return [rate for rate in RATES if rate >= 3 / max(1, len(scored.domains) - scored.abstained)]


SOURCES = (
    "references: each with its source and licence in references.csv; vectors as 8-bit integers",
    "reference photographs: one sample of each ImageNet class; no picture",
    "reference drawings: Noto emoji (Apache-2.0); openclipart of Debian (public domain); small pictures",
    "second set of photographs: BSDS500, 494 of ADE20K, 356 of COCO; counted only",
    "text side: see NOTICE; none of its photographs is among those that are counted",
    "prompts: Q16 (MIT)",
)


def build(options: argparse.Namespace) -> None:
    """All steps; prints what it counts."""
    encoder, manifest = load_encoder("offline-clip"), datasets_path("pocket", "manifest.csv")
    reading = None if options.no_embedding else encoder
    photos = prepared(photographs(options.photographs, *IMAGENET), reading, options.cache / "photographs")
    further = prepared(photographs(options.further), reading, options.cache / "further")
    drawn = {hand: emoji(options.pocket / "pictures.npy", manifest, hand) for hand in HANDS}
    drawn["clipart"] = clipart(options.clipart)[:MOST_CLIPART]
    drawings = Embedded.joined([prepared(one, reading, options.cache / name) for name, one in drawn.items()])
    domains, not_taken = take_references(encoder.id, photos, drawings)
    safe_further = [row for row, names in enumerate(further.names) if is_safe_photograph(names[0])]
    others = {SECOND_SET: further.vectors[safe_further], "drawings that are no references": not_taken}
    count_all(domains, others, photos.only(photos.shows([name for names in SHOWING.values() for name in names])))


def take_references(encoder: str, photos: Embedded, drawings: Embedded) -> tuple[dict[str, Vectors], Vectors]:
    """Step 2: the safe ones become references; also the safe drawings that are none."""
    safe = [row for row, names in enumerate(photos.names) if is_safe_photograph(names[0])]
    drawn = [row for row, names in enumerate(drawings.names) if is_safe_drawing(names)]
    chosen = sorted(np.random.default_rng(SEED).permutation(drawn)[:DRAWINGS].tolist())
    taken = {"photographs": photos.only(safe), "drawings": drawings.only(chosen)}
    write_references(encoder, taken)
    domains = {name: part.vectors for name, part in taken.items()}
    return domains, drawings.vectors[sorted(set(drawn) - set(chosen))]


def write_references(encoder: str, taken: Mapping[str, Embedded]) -> None:
    """The vectors, where each comes from, and small pictures of the drawings."""
    ids = {name: [picture.id for picture in part.pictures] for name, part in taken.items()}
    domains = {name: part.vectors for name, part in taken.items()}
    write_atomically(datasets_path() / Path(*REFERENCES), pack_references(encoder, domains, ids))
    rows = [
        SafePicture(domain=name, id=picture.id, row=row, source=picture.source, licence=picture.licence)
        for name, part in taken.items()
        for row, picture in enumerate(part.pictures)
    ]
    shown = {name: [picture.load() for picture in taken[name].pictures] for name in SHOWN}
    write_catalogue(datasets_path("screens"), rows, shown)


def count_all(domains: Mapping[str, Vectors], others: Mapping[str, Vectors], proxies: Embedded) -> None:
    """Steps 3 and 4 with the references and the text side as they are now.

    Args:
        domains: the references.
        others: further safe pictures by what they are.
        proxies: photographs that show a concept.
    """
    from guardrails.encoders import text_side

    tower = load_encoder("offline-clip")
    references = to_references(tower.id, domains)
    heads = HeadSet(make_heads(shipped_pack(), tower.id, tower.dim, text_side(tower)), centre=references.centre)
    calibrated = Calibrated(heads, references)

    def score(vectors: Vectors) -> Scored:
        return score_all(calibrated, [vectors[row : row + 1] for row in range(len(vectors))], tower.id)

    counted = {name: cross_scored(heads, domains, name) for name in domains}
    counted |= {name: score(vectors) for name, vectors in others.items()}
    caught = {
        names[0]: {harm: _rounded(own[heads.concepts.index(harm)]) for harm in HARMS}
        for names, own in zip(proxies.names, score(proxies.vectors).scores, strict=True)
    }
    enough = {name: one for name, one in counted.items() if len(one.domains) > 60}
    data = card(tower.id, enough, caught, SOURCES, {name: len(vectors) for name, vectors in domains.items()})
    write_atomically(datasets_path("screens") / f"{NAME}.json", data)
    show_rates(enough)
    show_caught(caught, counted["photographs"])


def count_again(photographs_folder: Path, further_folder: Path, cache: Path) -> None:
    """Steps 3 and 4 alone, with the references that are shipped: after a change of heads or of the method."""
    tower = load_encoder("offline-clip")
    proxies = [one for one in photographs(photographs_folder) if not is_safe_photograph(one.names[0])]
    proxies = [one for one in proxies if one.names[0] not in UNCLEAR]
    further = [one for one in photographs(further_folder) if is_safe_photograph(one.names[0])]
    embed(proxies, tower, cache / "proxies")
    embed(further, tower, cache / "further")
    shown, vectors = cached(proxies, cache / "proxies")
    domains = {one.name: one.vectors for one in read_references(datasets_path(*REFERENCES)).domains}
    count_all(
        domains,
        {SECOND_SET: cached(further, cache / "further")[1]},
        Embedded(pictures=tuple(shown), vectors=vectors),
    )


def _rounded(score: float) -> float | None:
    return None if np.isnan(score) else round(float(score), 3)


def show_rates(counted: Mapping[str, Scored]) -> None:
    """The table of false positives: of the worst concept, by what was scored and by stated rate."""
    stated = sorted(RATES)
    print("| safe pictures | n scored | " + " | ".join(f"at {rate:.0%}" for rate in stated) + " | outside |")
    print("|---|---:|" + "---:|" * len(stated) + "---:|")
    for domain, scored in counted.items():
        cells = []
        for rate in stated:
            worst = max(count(scored, domain, (rate,)), key=lambda one: one.hits)
            cells.append(f"{worst.hits / worst.n:.1%} (below {worst.upper:.1%}; {worst.concept})")
        n = len(scored.domains)
        print(f"| {domain} | {n - scored.abstained} | " + " | ".join(cells) + f" | {scored.abstained} of {n} |")


def show_caught(caught: Mapping[str, Mapping[str, float | None]], safe: Scored) -> None:
    """The proxies with their scores; how many any of the harms catches, and how many safe photographs it costs."""
    print("| | " + " | ".join(HARMS) + " |")
    print("|---|" + "---:|" * len(HARMS))
    for name, scores in sorted(caught.items()):
        print(f"| {name} | " + " | ".join(str(scores[harm]) for harm in HARMS) + " |")
    columns = [safe.concepts.index(harm) for harm in HARMS]
    inside = safe.scores[~np.isnan(safe.scores).any(axis=1)][:, columns]
    for threshold in (0.99, 0.97, 0.95):
        hits = sum(any((score or 0) >= threshold for score in scores.values()) for scores in caught.values())
        accused = int((inside >= threshold).any(axis=1).sum())
        print(f"any of {', '.join(HARMS)} at {threshold}: {hits} of {len(caught)} proxies, "
              f"{accused} of {len(inside)} safe photographs")  # fmt: skip


def main() -> None:
    """Command line of `build`."""
    parser = argparse.ArgumentParser(description="Build datasets/screens.")
    for name in ("photographs", "further", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("pocket", "clipart"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--no-embedding", action="store_true", help="use what the cache has, and embed nothing more")
    parser.add_argument("--count-again", action="store_true", help="keep text side and references; count anew")
    options = parser.parse_args()
    if options.count_again:
        return count_again(options.photographs, options.further, options.cache)
    if options.pocket is None or options.clipart is None:
        parser.error("a build needs --pocket and --clipart")
    return build(options)


if __name__ == "__main__":
    main()
