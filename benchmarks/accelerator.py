"""What all guards cost beside a generation of SDXL's size on an accelerator, and what the CLIP tower costs there.

::

    python benchmarks/accelerator.py PHOTOGRAPHS --json figures.json

The model has the architecture of SDXL base 1.0 with random weights: it takes the time of the trained one and draws
noise. Photographs from PHOTOGRAPHS, 1,024 pixels square, take the place of the noise, because screens find more to do
in pictures than in noise. The guard is whole: default policy, its screens and index, watermark, signature, record. One
picture warms everything up and is not counted.

With `--tiny` the model is a few kilobytes: to try the script on a machine without an accelerator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from guardrails.domain.requests import PromptRequest
from guardrails.encoders import load_encoder
from guardrails.encoders.offline_clip import OfflineClip, load_offline_clip
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.latents import Shape
from guardrails.generation.protocol import Drawn
from guardrails.imaging import Pixels
from guardrails.pipeline import Guard
from guardrails.pipeline.stages import Sealed
from guardrails.testing.pipelines import tiny_pipeline

PROMPT = "a wide valley with a river in the evening light"
STEPS = 30
SIDE = 1024
BATCH = 16
DRAWN_TOGETHER = (1, 2, 4)
IN_FLIGHT = 8
FORMATS = ("png", "jpeg")


class WithPhotographs:
    """Draws with a model and hands on a photograph in place of what it drew."""

    def __init__(self, generator: DiffusersGenerator, photographs: Sequence[Pixels]) -> None:
        self._generator, self._photographs, self._next = generator, photographs, 0

    def refuses_signs(self, request: PromptRequest) -> str:
        return self._generator.refuses_signs(request)

    def latent_shape(self, request: PromptRequest) -> Shape:
        return self._generator.latent_shape(request)

    def draw(self, *arguments: Any, **options: Any) -> list[Drawn]:
        drawn = self._generator.draw(*arguments, **options)
        self._next += 1
        photograph = self._photographs[self._next % len(self._photographs)]
        return [replace(one, pixels=photograph) for one in drawn]


def sdxl_sized_pipeline(device: str) -> Any:
    """The architecture of SDXL base 1.0 (Podell et al., 2023) with random bfloat16 weights."""
    import diffusers
    import transformers

    small = tiny_pipeline("sdxl")
    ends = {"bos_token_id": small.tokenizer.bos_token_id, "eos_token_id": small.tokenizer.eos_token_id}
    large = transformers.CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                        num_attention_heads=12, projection_dim=768, **ends)  # fmt: skip
    larger = transformers.CLIPTextConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32,
                                         num_attention_heads=20, projection_dim=1280, hidden_act="gelu",
                                         **ends)  # fmt: skip
    with torch.device(device):
        unet = diffusers.UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        vae = diffusers.AutoencoderKL(
            sample_size=SIDE,
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            scaling_factor=0.13025,
            # In half precision, as everyone runs it who has the repaired weights.
            force_upcast=False,
        )
        encoders = transformers.CLIPTextModel(large), transformers.CLIPTextModelWithProjection(larger)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0].eval(),
        text_encoder_2=encoders[1].eval(),
        tokenizer=small.tokenizer,
        tokenizer_2=small.tokenizer_2,
        unet=unet,
        scheduler=small.scheduler,
        add_watermarker=False,
    )
    return pipeline.to(torch.bfloat16)


def read_photographs(folder: Path) -> list[Pixels]:
    """Squares from the middles of photographs, RGB uint8 (1024, 1024, 3)."""
    pictures = []
    for path in sorted(folder.glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        pictures.append(np.asarray(square))
    return pictures


def guard_shares(guard: Guard, photographs: Sequence[Pixels], steps: int, format: str) -> dict[str, Any]:
    """Wall milliseconds of every stage, medians over the photographs, one request after the other."""
    outcomes = []
    for number in range(len(photographs) + 1):
        outcomes += guard.generate_all(asked_for(number, steps), format=format)
        print(f"{format} {number}: {_told(outcomes[-1])}", file=sys.stderr)
    sealed = [outcome for outcome in outcomes[1:] if isinstance(outcome, Sealed)]
    timings = [outcome.timings for outcome in sealed]
    stages = {stage: _median([own.stages.get(stage, 0.0) for own in timings]) for stage in timings[0].stages}
    checks: dict[str, list[float]] = {}
    for outcome in sealed:
        for check in outcome.checks:
            checks.setdefault(check.component.name, []).append(check.milliseconds)
    return {
        "pictures": len(sealed),
        "refused": len(photographs) - len(sealed),
        "stages_ms": stages,
        "guard_ms": _median([own.guard for own in timings]),
        "guard_beside_generation": _ratio([own.guard / own.stages["generation"] for own in timings]),
        "checks_ms": {name: _median(spent) for name, spent in checks.items()},
    }


def in_flight(guard: Guard, requests: int, pictures: int, steps: int) -> dict[str, float]:
    """Wall milliseconds a picture when `requests` callers ask at once: the model draws for one while another's picture
    is guarded."""
    with ThreadPoolExecutor(requests) as pool:
        start = time.perf_counter()
        list(pool.map(guard.generate_all, [asked_for(number, steps) for number in range(pictures)]))
        whole = (time.perf_counter() - start) * 1e3 / pictures
    return {"requests": requests, "pictures": pictures, "ms_a_picture": round(whole, 1)}


def asked_for(number: int, steps: int) -> PromptRequest:
    """A request of SDXL's size."""
    return PromptRequest(prompt=PROMPT, seed=number, steps=steps, width=SIDE, height=SIDE, guidance_scale=5)


def batches(generator: DiffusersGenerator, steps: int, device: str) -> dict[str, float]:
    """Wall milliseconds a picture when several are drawn in one call."""

    def draw(count: int) -> Callable[[], object]:
        request = replace(asked_for(1, steps), count=count)
        return lambda: generator.draw(request, PROMPT)

    return {str(count): timed(draw(count), device, rounds=1) / count for count in DRAWN_TOGETHER}


def _told(outcome: Any) -> str:
    return "released" if isinstance(outcome, Sealed) else f"{outcome.stage} {[f.rule for f in outcome.findings]}"


def tower_costs(photographs: Sequence[Pixels], device: str) -> dict[str, Any]:
    """The CLIP tower from pixels in the host's memory to vectors there, and how far it is from the processor's."""
    tower = load_encoder("offline-clip")
    many = [photographs[number % len(photographs)] for number in range(BATCH)]
    found: dict[str, Any] = {
        "one_ms": timed(lambda: tower.embed(many[:1]), device),
        "batch_ms_a_picture": timed(lambda: tower.embed(many), device) / BATCH,
    }
    if device == "cuda":
        beside = processors_vectors(many[: len(photographs)])
        cosines = (tower.embed(many[: len(photographs)]) * beside).sum(axis=1)
        found["least_cosine_with_processor"] = float(cosines.min())
    return found


def processors_vectors(pictures: Sequence[Pixels]) -> np.ndarray:
    """The same tower's vectors from the processor."""
    tower = load_offline_clip()
    return OfflineClip(tower._model.to("cpu")).embed(pictures)


def timed(what: Callable[[], object], device: str, rounds: int = 9) -> float:
    """Median wall milliseconds after two runs that are not counted."""
    spent = []
    for _ in range(rounds + 2):
        _wait(device)
        start = time.perf_counter()
        what()
        _wait(device)
        spent.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(spent[2:]), 3)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


def _ratio(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--no-batches", action="store_true", help="leave out what several pictures in one call cost")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    photographs = read_photographs(asked.photographs)
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else "processor"}
    figures["tower"] = tower_costs(photographs, device)
    print(json.dumps(figures), flush=True)
    pipeline = tiny_pipeline("sdxl") if asked.tiny else sdxl_sized_pipeline(device)
    generator = DiffusersGenerator(pipeline, name="SDXL with random weights", batch_size=max(DRAWN_TOGETHER))
    with tempfile.TemporaryDirectory(prefix="accelerator-") as folder:
        guard = Guard(WithPhotographs(generator, photographs), home=Path(folder))
        for format in FORMATS:
            figures[format] = guard_shares(guard, photographs, asked.steps, format)
            print(json.dumps(figures), flush=True)
        figures["in_flight"] = [in_flight(guard, requests, IN_FLIGHT, asked.steps) for requests in (1, 2)]
        print(json.dumps(figures), flush=True)
    if not asked.tiny and not asked.no_batches:
        figures["drawn_together_ms_a_picture"] = batches(generator, asked.steps, device)
    text = json.dumps(figures, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
