"""The transformer of MiniLM as an ONNX graph with integer matrices, made from its tensors.

Onnxruntime's own operators (domain ``com.microsoft``) do what several standard ones would: one matrix product with
integers scaled on the fly, one attention, one addition with layer norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import ModelUnavailable

LAYERS = 6
HEADS = 12
WIDTH = 384
LARGEST_WEIGHT = 63
_DOMAIN = "com.microsoft"
_LAYER_NORM_EPSILON = 1e-12
_LINEAR_LAYERS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def linear_keys() -> Iterator[str]:
    """The keys of all linear layers, without ".weight"."""
    for layer in range(LAYERS):
        for name in _LINEAR_LAYERS:
            yield f"encoder.layer.{layer}.{name}"


def quantise(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers and one scale per output, so that ``weight`` is about ``(integers * scales).T``.

    Args:
        weight: shape (outputs, inputs).

    Returns:
        int8 of shape (inputs, outputs) within -63..63, float32 of shape (outputs,).
    """
    columns = weight.T
    scales = np.maximum(np.abs(columns).max(axis=0), np.finfo(np.float32).tiny) / LARGEST_WEIGHT
    return np.rint(columns / scales).astype(np.int8), scales.astype(np.float32)


def build_graph(state: Mapping[str, NDArray[np.float32]]) -> bytes:
    """A serialised model: "embeddings", float32 (texts, tokens, 384), to hidden states of the same shape.

    Raises:
        ModelUnavailable: the package `onnx` is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            "the text encoder needs onnx, which is not installed", hint="pip install 'latent-guardrails[semantics]'"
        ) from error
    return _Builder(onnx, state).model()


class _Builder:
    """Collects nodes and constants."""

    def __init__(self, onnx: Any, state: Mapping[str, NDArray[np.float32]]) -> None:
        self._onnx = onnx
        self._state = state
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self) -> bytes:
        helper, shape = self._onnx.helper, ["texts", "tokens", WIDTH]
        last = "embeddings"
        for layer in range(LAYERS):
            last = self._layer(last, f"encoder.layer.{layer}.")
        kind = self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "minilm",
            [helper.make_tensor_value_info("embeddings", kind, shape)],
            [helper.make_tensor_value_info(last, kind, shape)],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_DOMAIN, 1)]
        serialised: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
        return serialised

    def _layer(self, given: str, prefix: str) -> str:
        query, key, value = (
            self._linear(given, f"{prefix}attention.self.{part}") for part in ("query", "key", "value")
        )
        context = self._node("MultiHeadAttention", [query, key, value], f"{prefix}context", num_heads=HEADS)
        attended = self._linear(context, f"{prefix}attention.output.dense")
        middle = self._add_and_norm(attended, given, f"{prefix}attention.output.LayerNorm")
        grown = self._node("Gelu", [self._linear(middle, f"{prefix}intermediate.dense")], f"{prefix}gelu")
        return self._add_and_norm(self._linear(grown, f"{prefix}output.dense"), middle, f"{prefix}output.LayerNorm")

    def _linear(self, given: str, key: str) -> str:
        integers, scales = quantise(self._state[f"{key}.weight"])
        matrix = self._constant(f"{key}.integers", integers)
        scale = self._constant(f"{key}.scales", scales)
        bias = self._constant(f"{key}.bias", self._state[f"{key}.bias"])
        return self._node("DynamicQuantizeMatMul", [given, matrix, scale, "", bias], key)

    def _add_and_norm(self, given: str, skipped: str, key: str) -> str:
        gain = self._constant(f"{key}.weight", self._state[f"{key}.weight"])
        shift = self._constant(f"{key}.bias", self._state[f"{key}.bias"])
        inputs = [given, skipped, gain, shift]
        return self._node("SkipLayerNormalization", inputs, key, epsilon=_LAYER_NORM_EPSILON)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [output], domain=_DOMAIN, **attributes))
        return output

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name
