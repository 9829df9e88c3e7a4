"""The adapter over diffusers text-to-image pipelines."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardrails.domain.images import GenerationFacts
from guardrails.domain.requests import PromptRequest
from guardrails.errors import GenerationError, OptionError
from guardrails.generation.arguments import CallForm, Plan
from guardrails.generation.latents import (
    Shape,
    Signs,
    latent_shape,
    picture_size,
    signed_noise,
    why_not_invertible,
)
from guardrails.generation.pictures import to_pixels
from guardrails.generation.placement import choose_placement
from guardrails.generation.protocol import Drawn, Part, Progress
from guardrails.imaging import Pixels

# Random seeds stay in the range that other tools accept, so that a recorded seed can be used elsewhere.
SEED_RANGE = 2**32


class DiffusersGenerator:
    """Draws with one diffusers pipeline: Stable Diffusion 1/2, SDXL, SD3, Flux and whatever is called like them.

    Each picture has its own random generator, on the CPU, seeded with `seed + i`: what a picture starts from depends
    neither on the batch it is drawn in nor on the device. Pixels are bit-for-bit repeatable on the same machine with
    the same batch size; another batch size or device may round a value differently.

    The pipeline is taken over and changed: moved to the device and precision (unless the caller already placed it with
    offloading or a device map), its progress bar off, and the watermarker that SDXL pipelines bring along removed,
    because the mark of the guard replaces it and two marks disturb each other. A safety checker that the pipeline
    brings along stays: what it says is kept in `Drawn.own_checker_fired`.

    A pipeline is not thread-safe; concurrent calls of `draw` wait for each other.

    Args:
        pipeline: the pipeline; not to be used elsewhere afterwards.
        name: the model's name for people, for example a hub id.
        revision: hub revision or package version.
        weights_sha256: of `guardrails.generation.weights`; "" when not computed.
        device: torch device name; None chooses CUDA when available.
        dtype: "float32", "bfloat16" or "float16"; None chooses, see `placement`.
        batch_size: pictures that are denoised together, at least 1.
        compile: compile the denoiser with `torch.compile`: the first picture of each size takes minutes, later ones
            less time than without.

    Raises:
        OptionError: not a text-to-image pipeline, or an option makes no sense.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        name: str,
        revision: str = "",
        weights_sha256: str = "",
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int = 1,
        compile: bool = False,
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch size {batch_size}", hint="use 1 or more")
        self._call = CallForm(pipeline)
        self._placement = choose_placement(device, dtype)
        self.pipeline = pipeline
        self.name = name
        self.revision = revision
        self.weights_sha256 = weights_sha256
        # A pipeline that draws one picture a call is called once for each.
        self._batch_size = batch_size if self._call.accepts("num_images_per_prompt") else 1
        self._lock = threading.Lock()
        self._place()
        pipeline.set_progress_bar_config(disable=True)
        if getattr(pipeline, "watermark", None) is not None:
            pipeline.watermark = None
        if compile:
            self._compile_denoiser()

    def refuses_signs(self, request: PromptRequest) -> str:
        """See `protocol.SignedGenerator`."""
        return why_not_invertible(self.pipeline, self._call.plan(request, request.prompt).steps)

    def latent_shape(self, request: PromptRequest) -> Shape:
        """See `protocol.SignedGenerator`."""
        return latent_shape(self.pipeline, *picture_size(self.pipeline, request))

    def draw(
        self,
        request: PromptRequest,
        prompt: str,
        *,
        progress: Progress | None = None,
        signs: Sequence[Signs] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> list[Drawn]:
        """See `Generator.draw`, and `protocol.SignedGenerator` for `signs`.

        Args:
            extra: further arguments of the pipeline's call, such as the picture that it starts from.
        """
        plan = self._call.plan(request, prompt)
        plan = dataclasses.replace(plan, arguments={**plan.arguments, **(extra or {})})
        return self._draw_all(_singles(Part(request=request, prompt=prompt, signs=signs), plan), progress)

    def draw_together(self, parts: Sequence[Part], *, progress: Progress | None = None) -> list[list[Drawn]]:
        """See `protocol.BatchGenerator`."""
        if len({(part.request.form, bool(len(part.signs))) for part in parts}) != 1:
            raise OptionError("requests of different form in one call", hint="draw those of equal form together")
        singles = [_singles(part, self._call.plan(part.request, part.prompt)) for part in parts]
        drawn = iter(self._draw_all([single for part in singles for single in part], progress))
        return [list(itertools.islice(drawn, len(part))) for part in singles]

    def _draw_all(self, singles: Sequence[_Single], progress: Progress | None) -> list[Drawn]:
        starts = range(0, len(singles), self._batch_size)
        drawn: list[Drawn] = []
        with self._lock:
            for done, start in enumerate(starts):
                meter = _Meter(progress, done, len(starts), singles[0].plan.steps)
                drawn += self._draw_batch(singles[start : start + self._batch_size], meter)
        return drawn

    def _draw_batch(self, singles: Sequence[_Single], meter: _Meter) -> list[Drawn]:
        import torch

        plans = [single.plan for single in singles]
        arguments = {**plans[0].arguments, **_conditions(plans)}
        arguments["generator"] = [torch.Generator("cpu").manual_seed(single.seed) for single in singles]
        if singles[0].signs is not None:
            signs = [single.signs for single in singles if single.signs is not None]
            arguments["latents"] = signed_noise(self.pipeline, signs, arguments["generator"])
        if self._call.accepts("num_images_per_prompt"):
            # A list names one prompt for each picture.
            arguments["num_images_per_prompt"] = 1 if isinstance(arguments["prompt"], list) else len(singles)
        if self._call.accepts("callback_on_step_end"):
            arguments["callback_on_step_end"] = meter.after_step
        with _memory_errors(), torch.no_grad(), self._placement.arithmetic():
            output = self.pipeline(**arguments)
        pictures = [to_pixels(image) for image in getattr(output, "images", ())]
        if len(pictures) != len(singles):
            raise GenerationError(
                f"{type(self.pipeline).__name__} returned {len(pictures)} pictures instead of {len(singles)}",
                hint="the pipeline must return them in .images",
            )
        meter.after_batch()
        # diffusers: None, or a bool per picture.
        verdicts = getattr(output, "nsfw_content_detected", None) or [None] * len(singles)
        return [
            Drawn(
                pixels=pixels,
                facts=self._facts(single.plan, single.seed, pixels),
                own_checker_fired=None if fired is None else bool(fired),
            )
            for pixels, single, fired in zip(pictures, singles, verdicts, strict=True)
        ]

    def _facts(self, plan: Plan, seed: int, pixels: Pixels) -> GenerationFacts:
        height, width, _ = pixels.shape
        return GenerationFacts(
            model=self.name,
            revision=self.revision,
            weights_sha256=self.weights_sha256,
            pipeline=type(self.pipeline).__name__,
            sampler=type(self.pipeline.scheduler).__name__,
            steps=plan.steps,
            guidance_scale=plan.guidance_scale,
            seed=seed,
            width=width,
            height=height,
            device=self._placement.device,
            dtype=self._placement.dtype,
        )

    def _place(self) -> None:
        pipeline, placement = self.pipeline, self._placement
        if getattr(pipeline, "hf_device_map", None) is not None or getattr(pipeline, "_all_hooks", None):
            return
        if pipeline.dtype == placement.weights_dtype:
            # Casting would also narrow the modules that a model keeps in float32 on purpose.
            pipeline.to(placement.device)
        else:
            pipeline.to(placement.device, placement.weights_dtype)

    def _compile_denoiser(self) -> None:
        for name in ("unet", "transformer"):
            denoiser = getattr(self.pipeline, name, None)
            if denoiser is not None:
                # In place: the module keeps its class and the names of its weights.
                denoiser.compile()
                return
        raise OptionError(
            f"{type(self.pipeline).__name__} has neither a unet nor a transformer to compile", hint="leave compile off"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Single:
    """One picture to draw."""

    plan: Plan
    seed: int
    signs: Signs | None


def _singles(part: Part, plan: Plan) -> list[_Single]:
    """The pictures of a request, in seed order."""
    count = part.request.count
    first = secrets.randbelow(SEED_RANGE) if part.request.seed is None else part.request.seed
    signs = part.signs if len(part.signs) else [None] * count
    return [
        _Single(plan=plan, seed=first + number, signs=given) for number, given in zip(range(count), signs, strict=True)
    ]


def _conditions(plans: Sequence[Plan]) -> dict[str, Any]:
    """The prompts: one that all share, else a list with one for each picture."""
    given: dict[str, Any] = {}
    for name in ("prompt", "negative_prompt"):
        if name in plans[0].arguments:
            given[name] = [plan.arguments[name] for plan in plans]
    shared = all(len(set(values)) == 1 for values in given.values())
    return {name: values[0] for name, values in given.items()} if shared else given


class _Meter:
    """Turns the steps of one batch into progress over the whole request."""

    def __init__(self, progress: Progress | None, batches_done: int, batches: int, steps: int) -> None:
        self._progress = progress
        self._batches_done = batches_done
        self._batches = batches
        self._steps = steps
        self._reported = False

    def after_step(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """diffusers' `callback_on_step_end`."""
        # Some samplers evaluate the model more often than the number of steps that was asked for.
        self._report(step + 1, getattr(pipeline, "num_timesteps", self._steps))
        return tensors

    def after_batch(self) -> None:
        """For pipelines that do not call back."""
        if not self._reported:
            self._report(self._steps, self._steps)

    def _report(self, done: int, steps: int) -> None:
        self._reported = True
        if self._progress is not None:
            self._progress(self._batches_done * steps + done, self._batches * steps)


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch has a class for accelerators alone; its CPU allocator raises a plain RuntimeError.
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
        raise GenerationError(
            "not enough memory to draw this request",
            hint="ask for fewer pixels, a smaller batch size or a narrower precision",
        ) from error
