"""Other samplers for U-Net models."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from guardrails.errors import OptionError

# name -> diffusers class and the settings that make it the sampler of that name.
# Latents are not confined to -1..1 as pixels are, so DDIM must not clip them; diffusers clips unless told otherwise.
SAMPLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "ddim": ("DDIMScheduler", {"clip_sample": False, "thresholding": False}),
        "dpm++ 2m": (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "dpmsolver++", "solver_order": 2, "thresholding": False},
        ),
        "euler": ("EulerDiscreteScheduler", {}),
    }
)


def use_sampler(pipeline: Any, name: str) -> None:
    """Replace the scheduler of an epsilon- or v-prediction model.

    The noise schedule and the kind of prediction are taken over from the scheduler that the model came with.
    Samplers: "ddim" (Song et al. 2021, arXiv:2010.02502), "dpm++ 2m" (Lu et al. 2022, arXiv:2211.01095) and "euler"
    (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn).

    Args:
        pipeline: changed in place.
        name: a key of `SAMPLERS`.

    Raises:
        OptionError: an unknown name, or a model that was trained for something else, such as flow matching
            (SD3, Flux): these samplers would draw noise.
    """
    import diffusers

    if name not in SAMPLERS:
        raise OptionError(f"no sampler is called {name!r}", hint=f"choose one of: {', '.join(SAMPLERS)}")
    class_name, settings = SAMPLERS[name]
    scheduler_class = getattr(diffusers, class_name)
    scheduler = pipeline.scheduler
    if _matches_flows(scheduler.config) or scheduler_class not in scheduler.compatibles:
        raise OptionError(
            f"{name} does not fit a model made for {type(scheduler).__name__}", hint="leave the sampler out"
        )
    pipeline.scheduler = scheduler_class.from_config(scheduler.config, **settings)


def _matches_flows(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_flow_sigmas")) or config.get("prediction_type") == "flow_prediction"
