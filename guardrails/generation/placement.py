"""Where a pipeline computes and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from guardrails.errors import OptionError

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A device and the precision of the arithmetic on it.

    Attributes:
        device: a torch device name, for example "cpu" or "cuda:1".
        dtype: of the arithmetic. On a CPU the weights stay in float32 and "bfloat16" is `torch.autocast`, because
            many CPU kernels exist in float32 alone.
    """

    device: str
    dtype: Precision

    @property
    def autocasts(self) -> bool:
        """True when the arithmetic is narrower than the weights."""
        return self.device.startswith("cpu") and self.dtype != "float32"

    @property
    def weights_dtype(self) -> Any:
        """The torch dtype that the weights are held in."""
        import torch

        return torch.float32 if self.autocasts else getattr(torch, self.dtype)

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context to compute in."""
        import torch

        context: AbstractContextManager[Any] = torch.autocast("cpu", torch.bfloat16, enabled=self.autocasts)
        return context


def choose_placement(device: str | None, dtype: str | None) -> Placement:
    """Fill in what the caller left open.

    Args:
        device: a torch device name; None takes the first CUDA device when there is one, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; None takes bfloat16 on CUDA devices that have it, float16 on older
            ones, and float32 elsewhere: on a CPU exact pixels are worth more than the speed of bfloat16, which a
            caller with a CPU made for it (AVX512-BF16, AMX) can ask for.

    Raises:
        OptionError: an unknown device or precision, or one that this machine does not have.
    """
    import torch

    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise OptionError(f"{name!r} is not a device", hint='for example "cpu", "cuda" or "cuda:1"') from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device {name!r}: this machine has no CUDA device", hint='use "cpu" or leave the device out')
    return Placement(device=name, dtype=_precision(kind, dtype))


def _precision(kind: str, dtype: str | None) -> Precision:
    import torch

    if dtype is None:
        if kind != "cuda":
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    for known in PRECISIONS:
        if dtype == known and (kind, dtype) != ("cpu", "float16"):
            return known
    raise OptionError(
        f"precision {dtype!r} on {kind}", hint="float32 and bfloat16 work everywhere, float16 on accelerators"
    )
