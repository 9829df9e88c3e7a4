"""What the latent mark costs and survives, on the embedded model.

Run: python benchmarks/latent_mark.py OUT [--pictures 100] [--grid 16] [--null 40] [--likeness 120]

Every row states n and a Wilson 95 % interval. A picture counts as found blind when a detector that knows neither id,
prompt nor seed says `present` or `suspected` at a false-positive rate of 1e-6; as confirmed when the id is known from
the pixel mark, or named by a ledger of one record. Writes one CSV row a picture and condition, and one bar plot, into
OUT; a run that was cut off goes on from the rows that it finds there.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from guardrails.domain.requests import PromptRequest
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.inversion import Inverter
from guardrails.generation.loading import load_generator
from guardrails.generation.samplers import use_sampler
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline.embedded import POCKET_GUIDANCE, POCKET_STEPS, pocket_model
from guardrails.pocket.evaluation import SUBJECTS
from guardrails.pocket.scenes import COLOURS
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import LatentMark
from guardrails.watermark.scheme import PixelMark

KEYRING = Keyring(bytes(range(32)))
FOUND = ("present", "suspected")
COLUMNS = (
    *("group", "condition", "picture", "sign_agreement", "blind", "blind_p", "id_right", "id_wrong"),
    *("confirm_z", "confirmed", "pixel_right"),
)
NUMBERS = ("sign_agreement", "blind_p", "id_right", "id_wrong", "confirm_z", "confirmed", "pixel_right")
Attack = Callable[[Pixels], Pixels]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One picture with its mark."""

    number: int
    mark_id: str
    signs: Any
    pixels: Pixels


class Bench:
    """The embedded model, both marks and the rows measured so far."""

    def __init__(self, path: Path) -> None:
        self.generator: DiffusersGenerator = load_generator(str(pocket_model()), device="cpu")
        self.inverter = Inverter(self.generator.pipeline)
        self.latent, self.pixel = LatentMark(KEYRING), PixelMark(KEYRING)
        self.path = path
        self.rows: list[Row] = read_rows(path) if path.exists() else []
        self.known = {(row["condition"], row["picture"]) for row in self.rows}

    def lacks(self, condition: str, number: int) -> bool:
        """Whether there is no row for this picture yet."""
        return (condition, str(number)) not in self.known

    def add(self, **values: Any) -> None:
        """Keep one row, in memory and on disk."""
        row = dict.fromkeys(COLUMNS, "") | {name: str(value) for name, value in values.items()}
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append(numbered(row))

    def draw(
        self,
        number: int,
        *,
        marked: bool = True,
        steps: int = POCKET_STEPS,
        guidance: float = POCKET_GUIDANCE,
        seed: int | None = None,
    ) -> Drawing:
        """Picture `number`: a subject and a background by turns, seed equal to the number unless given."""
        mark_id = f"{0x9E3779B97F4A7C15 * (number + 1) % 2**64:016x}"
        request = PromptRequest(
            prompt=prompt_of(number), seed=number if seed is None else seed, steps=steps, guidance_scale=guidance
        )
        signs = self.latent.signs(mark_id, self.generator.latent_shape(request))
        pixels = self.generator.draw(request, request.prompt, signs=[signs] if marked else [])[0].pixels
        return Drawing(number=number, mark_id=mark_id, signs=signs, pixels=pixels)

    def measure(self, group: str, condition: str, drawing: Drawing, attack: Attack, *, with_pixel_mark: bool) -> None:
        """Attack one picture and read everything; one row."""
        pixels = self.pixel.embed(drawing.pixels, drawing.mark_id).pixels if with_pixel_mark else drawing.pixels
        attacked = attack(pixels)
        noise = self.inverter.latent(fit(attacked, drawing.pixels.shape))
        blind = self.latent.detect(noise)
        known = self.latent.confirm(noise, drawing.mark_id, KEYRING.current_epoch)
        pixel = self.pixel.detect(attacked, "standard") if with_pixel_mark else None
        self.add(
            group=group,
            condition=condition,
            picture=drawing.number,
            sign_agreement=round(float(((noise > 0) == (drawing.signs > 0)).mean()), 4),
            blind=blind.verdict.value,
            blind_p=blind.p_value,
            id_right=int(blind.mark_id == drawing.mark_id),
            id_wrong=int(blind.mark_id not in ("", drawing.mark_id)),
            confirm_z=known.z,
            confirmed=int(known.verdict.value == "present"),
            pixel_right="" if pixel is None else int(pixel.mark_id == drawing.mark_id),
        )


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run."""
    with path.open(newline="", encoding="utf-8") as file:
        return [numbered(row) for row in csv.DictReader(file)]


def numbered(row: dict[str, str]) -> Row:
    """Numbers as numbers, empty cells as None."""
    return {name: (float(cell) if cell else None) if name in NUMBERS else cell for name, cell in row.items()}


def prompt_of(number: int) -> str:
    """Captions of the kind that the model was made for."""
    colours = list(COLOURS)
    return f"a {SUBJECTS[number % len(SUBJECTS)]} on a {colours[number * 5 % len(colours)]} background"


def fit(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    """Back to the size that the model draws."""
    if pixels.shape == shape:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def attacks(bench: Bench) -> Iterator[tuple[str, str, Attack]]:
    """Group, name and function; regeneration uses the very model that drew."""

    def saved(format: ImageFormat, quality: int) -> Attack:
        return lambda pixels: decode(encode(pixels, format, quality=quality)).pixels

    def scaled(factor: float) -> Attack:
        return lambda pixels: np.asarray(
            Image.fromarray(pixels).resize([round(side * factor) for side in pixels.shape[1::-1]])
        )

    def noisy(pixels: Pixels) -> Pixels:
        noise = np.random.default_rng(0).normal(0, 5, pixels.shape)
        return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)

    yield "clean", "none", lambda pixels: pixels
    for quality in (90, 60, 40, 25):
        yield "codec", f"jpeg {quality}", saved(ImageFormat.JPEG, quality)
    yield "codec", "webp 60", saved(ImageFormat.WEBP, 60)
    yield "scale", "half size", scaled(0.5)
    yield "noise", "noise 5", noisy
    yield "regeneration", "autoencoder", lambda pixels: autoencoded(bench, pixels)
    for strength in (0.05, 0.1, 0.15, 0.2, 0.3):
        yield "regeneration", f"img2img {strength}", regenerated(bench, strength)


def autoencoded(bench: Bench, pixels: Pixels) -> Pixels:
    """Through the autoencoder and back."""
    import torch

    vae = bench.generator.pipeline.vae
    with torch.no_grad():
        picture = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1
        drawn = vae.decode(vae.encode(picture).latent_dist.mode()).sample[0]
    return np.rint((drawn.permute(1, 2, 0).numpy().clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def regenerated(bench: Bench, strength: float) -> Attack:
    """Image-to-image by the same model with the empty prompt: noise up to `strength`, then 50-step DDIM from there."""
    import diffusers
    import torch

    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **bench.generator.pipeline.components, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)

    def attack(pixels: Pixels) -> Pixels:
        picture = pipeline(
            prompt="",
            image=Image.fromarray(pixels),
            strength=strength,
            guidance_scale=1.0,
            num_inference_steps=50,
            generator=torch.Generator("cpu").manual_seed(99),
            output_type="np",
        ).images[0]
        return np.rint(picture * 255).astype(np.uint8)

    return attack


def grid(bench: Bench, count: int) -> None:
    """Guidance, steps and sampler, one at a time around the settings of the embedded model."""
    for guidance in (1.0, 3.0, 5.0, 7.5, 12.0):
        run(bench, "guidance", f"guidance {guidance:g}", count, guidance=guidance)
    for steps in (10, 25, 50):
        run(bench, "steps", f"{steps} steps", count, steps=steps)
    trained = bench.generator.pipeline.scheduler
    for sampler in ("ddim", "dpm++ 2m", "euler"):
        bench.generator.pipeline.scheduler = trained
        use_sampler(bench.generator.pipeline, sampler)
        run(bench, "sampler", sampler, count)
    bench.generator.pipeline.scheduler = trained


def run(bench: Bench, group: str, condition: str, count: int, **settings: Any) -> None:
    """Draw and read back `count` pictures under one setting."""
    for number in filter(lambda number: bench.lacks(condition, number), range(count)):
        tell(f"{condition}: {number + 1} of {count}")
        drawing = bench.draw(number, **settings)
        bench.measure(group, condition, drawing, lambda pixels: pixels, with_pixel_mark=False)


def survival(bench: Bench, count: int, extra: int) -> None:
    """Attacks on pictures with both marks; `extra` pictures for the two rows that a rate is claimed for."""
    listed = list(attacks(bench))
    for number in range(max(count, extra)):
        wanted = [entry for entry in listed if number < (extra if entry[1] in ("none", "jpeg 60") else count)]
        missing = [entry for entry in wanted if bench.lacks(entry[1], number)]
        if not missing:
            continue
        drawing = bench.draw(number)
        for group, name, attack in missing:
            tell(f"attacks: picture {number + 1}, {name}")
            bench.measure(group, name, drawing, attack, with_pixel_mark=True)


def null(bench: Bench, count: int) -> None:
    """Unmarked pictures of the same model, each read under 50 foreign keys."""
    for number in filter(lambda number: bench.lacks("unmarked", number), range(count)):
        tell(f"unmarked: {number + 1} of {count}")
        drawing = bench.draw(number, marked=False)
        noise = bench.inverter.latent(drawing.pixels)
        for key in range(50):
            foreign = LatentMark(Keyring(key.to_bytes(32, "big")))
            reading = foreign.detect(noise)
            bench.add(
                group="unmarked",
                condition="unmarked",
                picture=number,
                blind=reading.verdict.value,
                blind_p=reading.p_value,
                confirm_z=foreign.confirm(noise, drawing.mark_id, 0).z,
            )


def likeness(bench: Bench, count: int) -> dict[str, float]:
    """Whether marked pictures are drawn from the same distribution as unmarked ones.

    Frechet distance of CLIP ViT-B/16 embeddings and a score of obedience: cosine to the mean embedding of unmarked
    pictures of the same prompt. Three sets of `count` pictures with different seeds: marked, unmarked, unmarked again;
    the distance of the two unmarked sets is the noise to compare with.
    """
    from guardrails.encoders.offline_clip import load_offline_clip

    encoder = load_offline_clip()
    sets = []
    for which in range(4):
        pictures = []
        for number in range(count):
            tell(f"likeness: set {which + 1}, picture {number + 1} of {count}")
            pictures.append(bench.draw(number, marked=which == 0, seed=100_000 * (which + 1) + number).pixels)
        sets.append(encoder.embed(pictures))
    marked, plain, again, reference = sets
    centre = {kind: reference[kind :: len(SUBJECTS)].mean(axis=0) for kind in range(len(SUBJECTS))}

    def obedience(vectors: Any) -> Any:
        return np.array([float(v @ centre[i % len(SUBJECTS)]) for i, v in enumerate(vectors)])

    scores = [obedience(vectors) for vectors in (marked, plain, again)]
    return {
        "pictures": count,
        "frechet_marked_unmarked": frechet(marked, plain),
        "frechet_marked_unmarked_again": frechet(marked, again),
        "frechet_unmarked_unmarked": frechet(plain, again),
        "obedience_marked": float(scores[0].mean()),
        "obedience_unmarked": float(scores[1].mean()),
        "obedience_unmarked_again": float(scores[2].mean()),
        "obedience_standard_error": float(scores[1].std() / math.sqrt(count)),
    }


def frechet(one: Any, other: Any, dimensions: int = 32) -> float:
    """Frechet distance of two Gaussians, in the leading principal components of both sets together.

    A covariance of all 512 dimensions cannot be estimated from a few hundred pictures.
    """
    both = np.concatenate([one, other]).astype(np.float64)
    axes = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)[2][:dimensions]
    a, b = one @ axes.T, other @ axes.T
    roots = np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T))
    shift = float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum())
    spread = float(np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * np.sqrt(np.abs(roots)).sum())
    return shift + spread


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z = 1.96
    middle = (hits + z * z / 2) / (count + z * z)
    reach = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return middle - reach, middle + reach


def table(rows: list[Row]) -> list[Row]:
    """One line a condition, in the order measured."""
    lines = []
    for condition in dict.fromkeys(row["condition"] for row in rows if row["group"] != "unmarked"):
        part = [row for row in rows if row["condition"] == condition]
        found = sum(row["blind"] in FOUND for row in part)
        low, high = wilson(found, len(part))
        pixel = [row["pixel_right"] for row in part if row["pixel_right"] is not None]
        lines.append(
            {
                "group": part[0]["group"],
                "condition": condition,
                "n": len(part),
                "agreement": float(np.mean([row["sign_agreement"] for row in part])),
                "found": found / len(part),
                "low": low,
                "high": high,
                "identified": float(np.mean([row["id_right"] for row in part])),
                "confirmed": float(np.mean([row["confirmed"] for row in part])),
                "weakest_z": min(row["confirm_z"] for row in part),
                "pixel": float(np.mean(pixel)) if pixel else math.nan,
            }
        )
    return lines


def show(lines: list[Row]) -> None:
    """The table of the documentation."""
    print("| condition | n | signs agree | found blind (95 %) | id read | confirmed by id | weakest z | pixel mark |")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line['condition']} | {line['n']} | {line['agreement']:.3f} | {line['found']:.3f} "
            f"({line['low']:.3f}-{line['high']:.3f}) | {line['identified']:.3f} | {line['confirmed']:.3f} | "
            f"{line['weakest_z']:.1f} | {line['pixel']:.3f} |".replace("nan", "-")
        )


def plot(lines: list[Row], path: Path) -> None:
    """Bars of the share found blind, with intervals, and of the pixel mark beside them; SVG."""
    height, left, width = 22, 170, 460
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{height * len(lines) + 60}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="18">found at a false-positive rate of 1e-6: '
        '<tspan fill="#2563eb">latent mark, blind</tspan>, <tspan fill="#9ca3af">pixel mark</tspan></text>'
    ]
    for row, line in enumerate(lines):
        top = 30 + row * height
        parts.append(f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{line["condition"]}</text>')
        parts.append(f'<rect x="{left}" y="{top + 2}" width="{width * line["found"]:.1f}" height="9" fill="#2563eb"/>')
        low, high = left + width * line["low"], left + width * line["high"]
        parts.append(f'<path d="M{low:.1f} {top + 6.5}H{high:.1f}" stroke="#111827" stroke-width="1.5"/>')
        if not math.isnan(line["pixel"]):
            parts.append(
                f'<rect x="{left}" y="{top + 12}" width="{width * line["pixel"]:.1f}" height="5" fill="#9ca3af"/>'
            )
    path.write_text("\n".join([*parts, "</svg>"]), encoding="utf-8")


def tell(text: str) -> None:
    """Progress on one line."""
    print(f"\r{text:60}", end="", file=sys.stderr)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=100, help="for clean and JPEG 60")
    parser.add_argument("--grid", type=int, default=16, help="for every other condition")
    parser.add_argument("--null", type=int, default=40, help="unmarked pictures, each under 50 keys")
    parser.add_argument("--likeness", type=int, default=120, help="pictures a set; 0 leaves the comparison out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.out / "latent_mark.csv")
    survival(bench, options.grid, options.grid)
    grid(bench, options.grid)
    null(bench, options.null)
    survival(bench, options.grid, options.pictures)
    lines = table(bench.rows)
    print(file=sys.stderr)
    show(lines)
    plot(lines, options.out / "latent_mark.svg")
    unmarked = [row for row in bench.rows if row["group"] == "unmarked"]
    nulls, scores = (np.array([row[name] for row in unmarked]) for name in ("blind_p", "confirm_z"))
    wrong = int(sum(row["id_wrong"] or 0 for row in bench.rows))
    print(f"\nunmarked: {len(nulls)} readings, smallest p {nulls.min():.2g}, p < .01: {(nulls < 0.01).mean():.4f}")
    print(
        f"unmarked, one known id: z has mean {scores.mean():.3f}, deviation {scores.std():.3f}, "
        f"highest {scores.max():.2f}"
    )
    print(f"wrong ids read: {wrong} of {len(bench.rows) - len(nulls)}")
    if options.likeness:
        for name, value in likeness(bench, options.likeness).items():
            print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
