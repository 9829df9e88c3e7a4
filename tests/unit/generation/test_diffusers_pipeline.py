from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from guardrails.errors import GenerationError, OptionError
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.protocol import Drawn
from guardrails.testing.pipelines import tiny_pipeline

KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")
UNREACHABLE_BYTES_SIDE = 2**26


def farthest(first: Drawn, second: Drawn) -> int:
    return int(np.abs(first.pixels.astype(int) - second.pixels.astype(int)).max())


class OnePictureACall:
    """Called like a pipeline, with the fewest arguments that are allowed."""

    vae_scale_factor = 8
    dtype = torch.float32

    def __init__(self, images: Any = None, **extra: Any) -> None:
        self.scheduler = SimpleNamespace(config=SimpleNamespace())
        self.images = images
        self.extra = extra
        self.calls: list[tuple[str, int]] = []

    def to(self, *_: Any) -> None: ...

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, prompt: str, generator: list[torch.Generator]) -> Any:
        self.calls.append((prompt, generator[0].initial_seed()))
        images = [np.full((8, 8, 3), 0.5)] if self.images is None else self.images
        return SimpleNamespace(images=images, **self.extra)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_same_pixels_whatever_the_batch_and_other_seeds_differ(kind, ask, shared_pipeline):
    one_by_one = DiffusersGenerator(shared_pipeline(kind), name="tiny", batch_size=1)
    together = DiffusersGenerator(shared_pipeline(kind), name="tiny", batch_size=3)
    drawn = together.draw(ask(count=2), "a red cube")
    again = together.draw(ask(count=2), "a red cube")
    single = one_by_one.draw(ask(count=1, seed=8), "a red cube")

    assert [picture.pixels.shape for picture in drawn] == [(64, 64, 3)] * 2
    assert all(picture.pixels.dtype == np.uint8 for picture in drawn)
    assert [farthest(*pair) for pair in zip(drawn, again, strict=True)] == [0, 0]
    assert farthest(drawn[1], single[0]) <= 1  # another batch size may round differently, by one level
    assert farthest(*drawn) > 32
    assert [picture.facts.seed for picture in drawn] == [7, 8]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_from_the_cleared_prompt_and_heeds_the_negative_prompt(kind, ask, shared_pipeline):
    generator = DiffusersGenerator(shared_pipeline(kind), name="tiny")
    plain, other_request, other_prompt, negative = (
        generator.draw(ask(count=1, **changes), prompt)[0]
        for changes, prompt in (
            ({}, "a red cube"),
            ({"prompt": "something that was not cleared"}, "a red cube"),
            ({}, "the sea at night"),
            ({"negative_prompt": "ugly noise"}, "a red cube"),
        )
    )
    assert farthest(plain, other_request) == 0
    assert farthest(plain, other_prompt) > 4
    assert farthest(plain, negative) > 4


@pytest.mark.parametrize("kind", KINDS)
def test_progress_counts_the_steps_of_all_batches(kind, ask, shared_pipeline):
    reports: list[tuple[int, int]] = []
    generator = DiffusersGenerator(shared_pipeline(kind), name="tiny", batch_size=1)
    generator.draw(ask(count=2), "a red cube", progress=lambda *report: reports.append(report))
    total = reports[0][1]
    assert total >= 4
    assert reports == [(done, total) for done in range(1, total + 1)]


def test_progress_can_stop_the_drawing(ask, shared_pipeline):
    class Cancelled(Exception): ...

    def stop(done: int, total: int) -> None:
        raise Cancelled

    generator = DiffusersGenerator(shared_pipeline("sd2"), name="tiny")
    with pytest.raises(Cancelled):
        generator.draw(ask(), "a red cube", progress=stop)
    assert len(generator.draw(ask(), "a red cube")) == 2


def test_facts_name_model_sampler_and_the_defaults_that_were_used(shared_pipeline, ask):
    generator = DiffusersGenerator(
        shared_pipeline("sd2"), name="org/tiny", revision="abc", weights_sha256="f" * 64, device="cpu"
    )
    facts = generator.draw(ask(count=1, steps=None, width=None, height=None, seed=3), "x")[0].facts
    assert (facts.model, facts.revision, facts.weights_sha256) == ("org/tiny", "abc", "f" * 64)
    assert (facts.pipeline, facts.sampler) == ("StableDiffusionPipeline", "DDIMScheduler")
    assert (facts.steps, facts.guidance_scale, facts.width, facts.height) == (50, 7.5, 64, 64)
    assert (facts.device, facts.dtype, facts.seed) == ("cpu", "float32", 3)


def test_a_drawn_seed_repeats_the_picture_and_differs_from_call_to_call(ask, shared_pipeline):
    generator = DiffusersGenerator(shared_pipeline("sd2"), name="tiny")
    first, second = (generator.draw(ask(seed=None, count=1), "x")[0] for _ in range(2))
    repeated = generator.draw(ask(seed=first.facts.seed, count=1), "x")[0]
    assert first.facts.seed != second.facts.seed
    assert farthest(first, repeated) == 0


def test_bfloat16_on_a_cpu_keeps_the_weights_and_comes_close_to_float32(ask):
    exact = DiffusersGenerator(tiny_pipeline("sd2"), name="tiny", device="cpu")
    narrow = DiffusersGenerator(tiny_pipeline("sd2"), name="tiny", device="cpu", dtype="bfloat16")
    wanted, got = (each.draw(ask(count=1), "x")[0] for each in (exact, narrow))
    difference = np.abs(wanted.pixels.astype(int) - got.pixels)
    assert narrow.pipeline.unet.dtype == torch.float32
    assert got.facts.dtype == "bfloat16"
    assert 0 < difference.mean() < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count 0"),
        ({"steps": 0}, "0 steps"),
        ({"steps": 1001}, "1001 steps"),
        ({"guidance_scale": -1.0}, "guidance scale"),
        ({"guidance_scale": float("nan")}, "guidance scale"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**53 - 1, "count": 2}, "seed"),
        ({"width": 72}, "width 72"),
        ({"height": 0}, "height 0"),
        ({"width": None}, "together"),
        ({"guidance_scale": 1.0, "negative_prompt": "ugly"}, "negative prompt does nothing"),
    ],
)
def test_impossible_requests_are_refused_before_the_model_runs(changes, message, ask, shared_pipeline, monkeypatch):
    generator = DiffusersGenerator(shared_pipeline("sd3"), name="tiny")
    monkeypatch.setattr(generator, "_draw_batch", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(OptionError, match=message) as caught:
        generator.draw(ask(**changes), "x")
    assert caught.value.hint


@pytest.mark.parametrize(("kind", "multiple"), [("sd1", 8), ("sdxl", 8), ("sd3", 16), ("flux", 16)])
def test_sizes_are_multiples_of_what_the_model_cuts_them_into(kind, multiple, ask, shared_pipeline):
    generator = DiffusersGenerator(shared_pipeline(kind), name="tiny")
    with pytest.raises(OptionError, match=f"multiple of {multiple}"):
        generator.draw(ask(width=64 + multiple // 2), "x")
    drawn = generator.draw(ask(width=64 + multiple, height=64, count=1), "x")
    assert drawn[0].pixels.shape == (64, 64 + multiple, 3)


@pytest.mark.parametrize(
    "changes", [{"negative_prompt": "ugly"}, {"guidance_scale": 5.0}, {"steps": 4}, {"width": 64, "height": 64}]
)
def test_what_a_pipeline_would_ignore_is_refused(changes, ask):
    nothing = {"steps": None, "width": None, "height": None}
    with pytest.raises(OptionError):
        DiffusersGenerator(OnePictureACall(), name="plain").draw(ask(**(nothing | changes)), "x")


def test_a_pipeline_of_one_picture_a_call_is_called_once_for_each(ask):
    pipeline = OnePictureACall()
    reports: list[tuple[int, int]] = []
    drawn = DiffusersGenerator(pipeline, name="plain", batch_size=4).draw(
        ask(count=3, steps=None, width=None, height=None), "x", progress=lambda *report: reports.append(report)
    )
    assert pipeline.calls == [("x", 7), ("x", 8), ("x", 9)]
    assert [picture.own_checker_fired for picture in drawn] == [None] * 3
    assert len(reports) == 3
    assert drawn[0].pixels[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.full((8, 8, 3), np.nan)], "not numbers"),
        ([np.full((8, 8, 4), 0.5)], "shape"),
        ([torch.zeros(3, 8, 8)], "Tensor"),
        ([], "0 pictures instead of 1"),
    ],
)
def test_unusable_output_is_an_error_and_no_picture(images, message, ask):
    generator = DiffusersGenerator(OnePictureACall(images), name="broken")
    with pytest.raises(GenerationError, match=message):
        generator.draw(ask(count=1, steps=None, width=None, height=None), "x")


def test_damaged_weights_are_reported_as_not_numbers(ask):
    pipeline = tiny_pipeline("sdxl")
    with torch.no_grad():
        pipeline.unet.conv_out.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(GenerationError, match="not numbers"):
        DiffusersGenerator(pipeline, name="damaged").draw(ask(count=1), "x")


def test_too_little_memory_is_an_error_with_a_next_step(ask, shared_pipeline):
    generator = DiffusersGenerator(shared_pipeline("sd2"), name="tiny", device="cpu")
    huge = ask(count=1, width=UNREACHABLE_BYTES_SIDE, height=UNREACHABLE_BYTES_SIDE)
    with pytest.raises(GenerationError, match="not enough memory") as caught:
        generator.draw(huge, "x")
    assert "fewer pixels" in caught.value.hint


def test_other_runtime_errors_are_not_taken_for_a_lack_of_memory(ask, monkeypatch):
    pipeline = tiny_pipeline("sd2")
    monkeypatch.setattr(pipeline, "decode_latents", None)
    monkeypatch.setattr(pipeline.vae, "decode", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        DiffusersGenerator(pipeline, name="tiny").draw(ask(), "x")


def test_the_verdict_of_the_models_own_safety_checker_is_kept(ask):
    pipeline = tiny_pipeline("sd2")

    def blacken_second(images: np.ndarray, clip_input: torch.Tensor) -> tuple[np.ndarray, list[bool]]:
        images[1] = 0.0
        return images, [False, True]

    pipeline.safety_checker = blacken_second
    pipeline.feature_extractor = lambda images, return_tensors: SimpleNamespace(
        to=lambda device: SimpleNamespace(pixel_values=torch.zeros(1))
    )
    drawn = DiffusersGenerator(pipeline, name="tiny", batch_size=2).draw(ask(), "x")
    assert [picture.own_checker_fired for picture in drawn] == [False, True]
    assert drawn[0].pixels.any()
    assert not drawn[1].pixels.any()


def test_the_watermarker_of_sdxl_is_removed(ask):
    pipeline = tiny_pipeline("sdxl")
    pipeline.watermark = SimpleNamespace(apply_watermark=lambda images: pytest.fail("a second mark was embedded"))
    assert len(DiffusersGenerator(pipeline, name="tiny").draw(ask(), "x")) == 2


@pytest.mark.parametrize(("kind", "denoiser"), [("sd2", "unet"), ("flux", "transformer")])
def test_compile_compiles_the_denoiser_alone(kind, denoiser, monkeypatch):
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, *_, **__: compiled.append(module))
    pipeline = tiny_pipeline(kind)
    DiffusersGenerator(pipeline, name="tiny", compile=True)
    assert compiled == [getattr(pipeline, denoiser)]


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"device": "abacus"}, {"device": "cpu", "dtype": "float16"}, {"dtype": "int8"}],
)
def test_senseless_options_are_refused(options, shared_pipeline):
    with pytest.raises(OptionError):
        DiffusersGenerator(shared_pipeline("sd2"), name="tiny", **options)


def test_compile_needs_a_denoiser():
    with pytest.raises(OptionError, match="neither"):
        DiffusersGenerator(OnePictureACall(), name="plain", compile=True)


def test_a_pipeline_whose_seed_cannot_be_set_is_refused():
    class WithoutGenerator(OnePictureACall):
        def __call__(self, prompt: str) -> Any: ...

    with pytest.raises(OptionError, match="generator"):
        DiffusersGenerator(WithoutGenerator(), name="plain")


def test_concurrent_requests_do_not_disturb_each_other(ask, shared_pipeline):
    generator = DiffusersGenerator(shared_pipeline("sd1"), name="tiny")
    alone = generator.draw(ask(steps=4), "x")
    results: dict[int, list[Drawn]] = {}

    def work(worker: int) -> None:
        results[worker] = generator.draw(ask(steps=4), "x")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [farthest(*pair) for worker in range(3) for pair in zip(alone, results[worker], strict=True)] == [0] * 6


def test_a_tiny_pipeline_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    tiny_pipeline("sd2")
    assert torch.equal(torch.rand(3), wanted)


if torch.cuda.is_available():

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [None, "float16", "float32"])
    def test_cuda_starts_from_the_same_noise_as_a_cpu(kind: Any, dtype: str | None, ask: Callable[..., Any]) -> None:
        on_cpu = DiffusersGenerator(tiny_pipeline(kind), name="tiny", device="cpu").draw(ask(), "a red cube")
        on_cuda = DiffusersGenerator(tiny_pipeline(kind), name="tiny", dtype=dtype, batch_size=2)
        drawn = on_cuda.draw(ask(), "a red cube")
        assert drawn[0].facts.device == "cuda"
        for cpu, cuda in zip(on_cpu, drawn, strict=True):
            assert np.abs(cpu.pixels.astype(int) - cuda.pixels).mean() < 16
