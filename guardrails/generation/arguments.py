"""A request as the arguments that one pipeline's `__call__` accepts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardrails.domain.canonical import MAX_SAFE_INTEGER
from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError

# Guidance-distilled models (Flux) read a negative prompt only when classifier-free guidance is switched on beside the
# distilled one. This strength keeps the distilled guidance in charge; it doubles the cost of a step.
TRUE_CFG_SCALE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request that this pipeline can fulfil.

    Attributes:
        steps: denoising steps; 0 when the pipeline names no number of steps.
        guidance_scale: 0.0 when the pipeline knows no guidance scale.
        arguments: keyword arguments of `__call__`, without the generators, the batch size and the callback.
    """

    steps: int
    guidance_scale: float
    arguments: Mapping[str, Any]


class CallForm:
    """What one pipeline accepts.

    Args:
        pipeline: a diffusers text-to-image pipeline, or anything that is called like one.

    Raises:
        OptionError: the pipeline takes no prompt (it is not text-to-image), or no generator (its seed could not be
            recorded).
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._parameters = inspect.signature(pipeline.__call__).parameters
        for needed in ("prompt", "generator"):
            if needed not in self._parameters:
                raise OptionError(
                    f"{type(pipeline).__name__} takes no argument {needed!r}",
                    hint="use a text-to-image pipeline of diffusers, or write your own Generator",
                )

    def accepts(self, name: str) -> bool:
        """Whether `__call__` names this argument."""
        return name in self._parameters

    def plan(self, request: PromptRequest, prompt: str) -> Plan:
        """Check a request against this pipeline and translate it.

        Raises:
            OptionError: the request is out of range, or asks for what this pipeline would ignore or round.
        """
        _check_count_and_seed(request)
        self._check_steps(request.steps)
        self._check_size(request.width, request.height)
        _check_guidance(request.guidance_scale)
        guidance_scale = request.guidance_scale
        if guidance_scale is None:
            guidance_scale = float(self._default("guidance_scale", (int, float)))
        asked = {
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "width": request.width,
            "height": request.height,
        }
        arguments: dict[str, Any] = {"prompt": prompt}
        arguments |= {name: self._accepted(name, value) for name, value in asked.items() if value is not None}
        arguments |= self._negative(request.negative_prompt, guidance_scale)
        # Arrays, not PIL images: NaN is visible in them, and nothing is rounded twice.
        arguments |= {"output_type": "np"} if self.accepts("output_type") else {}
        steps = request.steps if request.steps is not None else int(self._default("num_inference_steps", int))
        return Plan(steps=steps, guidance_scale=guidance_scale, arguments=arguments)

    def size_multiple(self) -> int:
        """What width and height must be divisible by, in pixels.

        The latent grid (the VAE's factor), times the patches that a transformer cuts it into, and never below 8, which
        every U-Net pipeline asks for.
        """
        pipeline = self._pipeline
        latent = int(getattr(pipeline, "vae_scale_factor", 8))
        patch = _config_value(getattr(pipeline, "transformer", None), "patch_size")
        processor = _config_value(getattr(pipeline, "image_processor", None), "vae_scale_factor")
        return math.lcm(8, latent * patch, processor)

    def _accepted(self, name: str, value: Any) -> Any:
        if not self.accepts(name):
            raise OptionError(f"{type(self._pipeline).__name__} has no {name}", hint="leave it out of the request")
        return value

    def _default(self, name: str, kinds: type | tuple[type, ...]) -> Any:
        parameter = self._parameters.get(name)
        return parameter.default if parameter is not None and isinstance(parameter.default, kinds) else 0

    def _negative(self, negative_prompt: str, guidance_scale: float) -> dict[str, Any]:
        if not negative_prompt:
            return {}
        arguments = {"negative_prompt": self._accepted("negative_prompt", negative_prompt)}
        if self.accepts("true_cfg_scale"):
            scale = max(TRUE_CFG_SCALE, float(self._default("true_cfg_scale", (int, float))))
            return arguments | {"true_cfg_scale": scale}
        if guidance_scale <= 1.0:
            raise OptionError(
                f"a negative prompt does nothing at guidance scale {guidance_scale:g}",
                hint="use a guidance scale above 1 or leave the negative prompt out",
            )
        return arguments

    def _check_steps(self, steps: int | None) -> None:
        if steps is None:
            return
        trained = _config_value(getattr(self._pipeline, "scheduler", None), "num_train_timesteps", MAX_SAFE_INTEGER)
        if not 1 <= steps <= trained:
            raise OptionError(f"{steps} steps", hint=f"choose 1 to {trained}; 20 to 50 are common")

    def _check_size(self, width: int | None, height: int | None) -> None:
        # Stable Diffusion 1 and 2 replace both by the default when one is missing.
        if (width is None) != (height is None):
            raise OptionError("width and height must be given together", hint="give both or neither")
        multiple = self.size_multiple()
        for name, value in (("width", width), ("height", height)):
            if value is not None and (value < multiple or value % multiple):
                nearest = max(multiple, round(value / multiple) * multiple)
                raise OptionError(
                    f"{name} {value} is not a positive multiple of {multiple}", hint=f"the nearest is {nearest}"
                )


def _check_count_and_seed(request: PromptRequest) -> None:
    if request.count < 1:
        raise OptionError(f"count {request.count}", hint="ask for at least one picture")
    if request.seed is not None and not 0 <= request.seed <= MAX_SAFE_INTEGER - request.count:
        raise OptionError(f"seed {request.seed}", hint=f"choose 0 to {MAX_SAFE_INTEGER - request.count}")


def _check_guidance(guidance_scale: float | None) -> None:
    if guidance_scale is not None and not (math.isfinite(guidance_scale) and guidance_scale >= 0.0):
        raise OptionError(f"guidance scale {guidance_scale}", hint="choose 0 or more; 3 to 9 are common")


def _config_value(component: Any, name: str, default: int = 1) -> int:
    """An integer of a component's configuration, or `default` where the component or the entry is missing."""
    value = getattr(getattr(component, "config", None), name, default)
    return value if isinstance(value, int) else default
