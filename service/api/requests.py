"""Request bodies in OpenAI's shapes, and what a job keeps of them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationInfo, field_validator

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_MULTIPLE = 16
_LARGEST = (3840, 2160)
_MOST_RATIO = 3
_MOST_IGNORED = 50
_LOSSY = ("jpeg", "webp")


def _checked_size(size: str) -> str:
    """OpenAI's rules for sizes: multiples of 16, a ratio from 1:3 to 3:1, no more than 3840x2160."""
    if size == "auto":
        return size
    match = _SIZE.fullmatch(size)
    if match is None:
        raise ValueError("write auto or WIDTHxHEIGHT")
    width, height = int(match[1]), int(match[2])
    if width % _MULTIPLE or height % _MULTIPLE:
        raise ValueError(f"width and height must be multiples of {_MULTIPLE}")
    if max(width, height) > _MOST_RATIO * min(width, height):
        raise ValueError("the ratio must lie between 1:3 and 3:1")
    if width * height > _LARGEST[0] * _LARGEST[1] or max(width, height) > _LARGEST[0]:
        raise ValueError(f"at most {_LARGEST[0]}x{_LARGEST[1]}")
    return size


Size = Annotated[str, AfterValidator(_checked_size)]


class DecisionOptions(BaseModel):
    """Our own options, in the member `guardrails` of a request: by whose rules a text is decided."""

    model_config = ConfigDict(extra="allow")

    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    jurisdiction: Annotated[str, Field(pattern=r"^([A-Z]{2}(-[A-Z0-9]{1,3})?)?$")] = ""
    policy: Annotated[str, Field(max_length=200)] = ""


class GuardrailsOptions(DecisionOptions):
    """How a picture is drawn, besides."""

    seed: Annotated[int, Field(strict=True, ge=0, le=2**32 - 16)] | None = None
    steps: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    guidance: Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)] | None = None
    negative_prompt: Annotated[str, Field(max_length=32_000)] = ""
    strength: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] = 0.6
    labels: Annotated[list[Annotated[str, Field(max_length=32)]], Field(max_length=8)] = []
    respond_async: StrictBool = False


class PictureOptions(BaseModel):
    """What generations and edits have in common."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    model: Annotated[str, Field(max_length=200)] | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=10)] | None = 1
    size: Size | None = "auto"
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = "auto"
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    background: Literal["auto", "opaque"] | None = "auto"
    moderation: Literal["auto", "low"] | None = "auto"
    stream: StrictBool | None = False
    partial_images: Annotated[int, Field(strict=True, ge=0, le=3)] | None = 0
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    guardrails: GuardrailsOptions = Field(default_factory=GuardrailsOptions)

    @field_validator("output_compression")
    @classmethod
    def _has_a_meaning(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value not in (None, 100) and info.data.get("output_format") not in _LOSSY:
            raise ValueError(f"only for {' and '.join(_LOSSY)}; png is lossless")
        return value

    def ignored(self, model: str, policy: str) -> list[str]:
        """Fields that were understood and change nothing here, and those that are unknown.

        Args:
            model, policy: names of what draws and of the pack that decides.
        """
        known = {
            "model": self.model not in (None, model),
            "quality": self.quality not in (None, "auto"),
            # No request makes the tenant's policy milder.
            "moderation": self.moderation == "low",
            # A partial picture shows pixels that nobody has screened or marked.
            "partial_images": bool(self.partial_images),
            "input_fidelity": getattr(self, "input_fidelity", None) is not None,
            "guardrails.policy": self.guardrails.policy not in ("", policy),
        }
        own = {f"guardrails.{name}" for name in self.guardrails.model_extra or {}}
        names = sorted({name for name, holds in known.items() if holds} | set(self.model_extra or {}) | own)
        # Names of unknown fields are the client's words: any characters, any number.
        return [name.encode("ascii", "backslashreplace").decode()[:64] for name in names[:_MOST_IGNORED]]

    def to_job(self) -> dict[str, Any]:
        """What a worker needs."""
        width, height = (None, None) if self.size in (None, "auto") else map(int, str(self.size).split("x"))
        options = self.guardrails
        return {
            "prompt": self.prompt,
            "negative_prompt": options.negative_prompt,
            "seed": options.seed,
            "steps": options.steps,
            "guidance_scale": options.guidance,
            "width": width,
            "height": height,
            "language": options.language,
            "format": self.output_format or "png",
            # Encoders count from 1.
            "file_quality": None if self.output_compression is None else max(1, self.output_compression),
            "answer": {
                "size": self.size or "auto",
                "quality": self.quality or "auto",
                "background": "opaque",
                "output_format": self.output_format or "png",
                "response_format": self.response_format or "b64_json",
            },
        }


class GenerationRequest(PictureOptions):
    """`POST /v1/images/generations`."""


class ImageReference(BaseModel):
    """A picture inside the request: a `data:` URL. Nothing is ever fetched."""

    model_config = ConfigDict(extra="allow")

    image_url: str | None = None
    file_id: str | None = None


class EditRequest(PictureOptions):
    """`POST /v1/images/edits` as JSON."""

    images: Annotated[list[ImageReference], Field(min_length=1, max_length=16)]
    mask: ImageReference | None = None
    input_fidelity: Literal["high", "low"] | None = None


class ImageUrl(BaseModel):
    """A `data:` URL."""

    model_config = ConfigDict(extra="allow")

    url: str


class ModerationPart(BaseModel):
    """One piece of a multimodal input."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "image_url"]
    text: Annotated[str, Field(max_length=100_000)] | None = None
    image_url: ImageUrl | None = None


class ModerationOptions(DecisionOptions):
    """`depth`: "rules" leaves out what takes a model."""

    depth: Annotated[str, Field(max_length=32)] = ""


ModerationText = Annotated[str, Field(max_length=100_000)]


class ModerationRequest(BaseModel):
    """`POST /v1/moderations`."""

    model_config = ConfigDict(extra="allow")

    input: (
        ModerationText
        | Annotated[list[ModerationText], Field(min_length=1, max_length=100)]
        | Annotated[list[ModerationPart], Field(min_length=1, max_length=32)]
    )
    model: Annotated[str, Field(max_length=200)] | None = None
    guardrails: ModerationOptions = Field(default_factory=ModerationOptions)
