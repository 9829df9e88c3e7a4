"""`guardrails policy train-head`: fit the heads that tell what a prompt means."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, json_option, print_facts, print_heading, print_json
from guardrails.errors import OptionError

if TYPE_CHECKING:
    from guardrails.encoders.protocol import TextEncoder
    from guardrails.prompts.examples import Example
    from guardrails.prompts.head_training import Start

_HOLD_OUT = 4


@click.command(name="train-head")
@click.option(
    "--contrast",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of contrast pairs.  [default: the ones of this installation]",
)
@click.option(
    "--prompts",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="More labelled prompts, JSON lines or gzip of them; may be repeated.",
)
@click.option("--sources", default="", help="Where the prompts come from and under which licences, for the card.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option(
    "--hold-out",
    type=click.IntRange(0, 4),
    default=_HOLD_OUT,
    show_default=True,
    help="Fold that is not trained on; the thresholds come from it.",
)
@click.option(
    "--set-aside",
    multiple=True,
    type=click.IntRange(0, 4),
    help="Fold that is neither trained on nor used for thresholds, to measure on; may be repeated.",
)
@click.option(
    "--made-from",
    default="",
    metavar="POLICY",
    help="Train also on short captions and heaps of broken words made from the terms of this policy.",
)
@click.option("--leave-out", multiple=True, help="Category to train without, to measure what happens then.")
@click.option(
    "--pipeline",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Fit heads on the text encoder of this diffusers pipeline instead of MiniLM.",
)
@click.option("--frozen", is_flag=True, help="Leave MiniLM as it is: seconds instead of minutes, and catches less.")
@click.option(
    "--start-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Go on from the heads and the adapter in this folder.",
)
@click.option(
    "--plain",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="Captions, and as many traffic prompts, an epoch.",
)
@click.option("--epochs", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def command(
    contrast: Path | None,
    prompts: Sequence[Path],
    sources: str,
    out: Path,
    hold_out: int,
    set_aside: Sequence[int],
    made_from: str,
    leave_out: Sequence[str],
    pipeline: Path | None,
    frozen: bool,
    start_from: Path | None,
    plain: int,
    epochs: int,
    seed: int,
    as_json: bool,
) -> int:
    """Train heads on contrast pairs, calibrate them on a fold that they never saw, write heads and card to --out.

    A policy uses them by `semantics: {model: ...}` once the folder lies under datasets/prompts/.
    """
    from guardrails.encoders.minilm import load_minilm
    from guardrails.files import write_atomically
    from guardrails.prompts.head_calibration import garbled_levels, levels
    from guardrails.prompts.head_training import Recipe, train
    from guardrails.prompts.heads import load_heads
    from guardrails.prompts.identities import neutral
    from guardrails.prompts.semantics import PromptModel

    examples = _read(contrast, prompts)
    kept = [one for one in examples if one.fold not in {hold_out, *set_aside} and one.topic not in leave_out]
    if start_from and (frozen or pipeline):
        raise OptionError("an adapter belongs to MiniLM alone", hint="leave out --frozen and --pipeline")
    if not any(one.is_unsafe for one in kept) or all(one.is_unsafe for one in kept):
        raise OptionError("nothing is left to train on", hint="leave fewer categories out, or give more prompts")
    kept += _made(made_from, {one.topic for one in kept}, seed)
    held_out = [one for one in examples if one.fold == hold_out and one.topic not in leave_out]
    encoder = _pipeline_encoder(pipeline) if pipeline else load_minilm() if frozen else None
    with Steps("training", quiet=as_json) as steps:
        vectors = encoder.embed([neutral(one.text) for one in kept]) if encoder else None
        recipe = Recipe(epochs=epochs, plain=plain, seed=seed)
        trained = train(kept, vectors=vectors, recipe=recipe, start=_start(start_from), progress=steps)
    adapter = b""
    if encoder is None:
        adapter = _arrays(trained.adapter)
        write_atomically(out / "adapter.npz", adapter)
        encoder = load_minilm(out / "adapter.npz")
    out.mkdir(parents=True, exist_ok=True)
    quoted = [one for one in kept if one.source == "contrast" and one.topic]
    trained.heads(encoder.id, quoted, encoder.embed([neutral(one.text) for one in quoted])).save(out / "heads.npz")
    heads = load_heads(out / "heads.npz")
    model = PromptModel(encoder=encoder, heads=heads)
    assessments = [model.assess(one.text)[0] for one in held_out]
    card: dict[str, Any] = {
        "encoder": encoder.id,
        "heads_sha256": heads.digest,
        "adapter_sha256": hashlib.sha256(adapter).hexdigest() if adapter else "",
        "sources": sources,
        "trained_on": _counts(kept),
        "calibrated_on": _counts(held_out),
        "started_from": load_heads(start_from / "heads.npz").digest if start_from else "",
        "seed": seed,
        "epochs": epochs,
        "set_aside": list(set_aside),
        "left_out": list(leave_out),
        "made_from": made_from,
        "categories": _categories(kept, heads.categories),
        "levels": levels(held_out, assessments),
        "garbled": garbled_levels(held_out, assessments),
    }
    write_atomically(out / "card.json", (json.dumps(card, indent=2) + "\n").encode())
    if as_json:
        print_json(card)
    else:
        print_heading("TRAINED", str(out), style="green")
        print_facts([("encoder", encoder.id), ("heads", heads.digest)])
        print_facts([(rate, f"{level['caught']}; {level['error_rate']}") for rate, level in card["levels"].items()])
    return 0


def _read(contrast: Path | None, prompts: Sequence[Path]) -> list[Example]:
    from guardrails.prompts.examples import read_aliases, read_contrast, read_jsonl
    from guardrails.resources import datasets_path

    folder = contrast or datasets_path("contrast")
    names = folder / "categories.csv"
    aliases = read_aliases(names if names.is_file() else datasets_path("contrast", "categories.csv"))
    return read_contrast(folder) + [example for file in prompts for example in read_jsonl(file, aliases)]


def _made(policy: str, topics: Collection[str], seed: int) -> list[Example]:
    from guardrails.policy import load_policy
    from guardrails.prompts.made_examples import made_examples, telling_terms

    return made_examples(telling_terms(load_policy(policy), topics), seed) if policy else []


def _start(folder: Path | None) -> Start | None:
    from guardrails.encoders.minilm import read_adapter
    from guardrails.prompts.head_training import Start
    from guardrails.prompts.heads import load_heads

    if folder is None:
        return None
    return Start(adapter=read_adapter(folder / "adapter.npz"), heads=load_heads(folder / "heads.npz"))


def _pipeline_encoder(folder: Path) -> TextEncoder:
    from guardrails.encoders.pipeline_text import load_pipeline_text

    return load_pipeline_text(folder)


def _arrays(arrays: dict[str, Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _counts(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Prompts of each source: unsafe and harmless."""
    counts: dict[str, dict[str, int]] = {}
    for example in examples:
        row = counts.setdefault(example.source, {"unsafe": 0, "harmless": 0})
        row["unsafe" if example.is_unsafe else "harmless"] += 1
    return counts


def _categories(examples: Sequence[Example], categories: Sequence[str]) -> dict[str, dict[str, int]]:
    from guardrails.prompts.examples import pair_counts

    pairs = pair_counts(examples)
    return {name: {"pairs": pairs.get(name, 0)} for name in categories}
