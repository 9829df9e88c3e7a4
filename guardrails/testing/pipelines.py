"""Tiny diffusers pipelines with random weights: real classes, real code paths, no downloads.

They draw coloured noise in a fraction of a second on one core. What they draw depends on prompt, seed, steps, guidance
scale and size as with a trained model, so they serve to test a generator, a guard around it, or an application around
that::

    from guardrails.generation.diffusers_pipeline import DiffusersGenerator
    from guardrails.testing.pipelines import tiny_pipeline

    generator = DiffusersGenerator(tiny_pipeline("sdxl"), name="tiny sdxl")

Needs the extra `generate`.
"""

from __future__ import annotations

import string
from typing import Any, Literal, TypeAlias

from guardrails.errors import OptionError

Kind: TypeAlias = Literal["sd1", "sd2", "sdxl", "sd3", "flux"]

TEXT_WIDTH = 16
LATENT_CHANNELS = 4
# Latent pixels per side; the VAE enlarges them 8 times, as those of the real models do.
SAMPLE_SIZE = 8
# Random networks of the usual initialisation are nearly blind to their prompt and draw nearly grey pictures; these
# factors bring both to the order that trained models have.
PROMPT_GAIN = 25.0
CONTRAST_GAIN = 2.5


def tiny_pipeline(kind: Kind, seed: int = 0) -> Any:
    """A randomly initialised text-to-image pipeline on the CPU in float32, about 1 MB of weights or less.

    Draws 64 x 64 by default; Flux, whose default is fixed in its class, 1024 x 1024 (give it a size). Sizes are
    multiples of 8, or of 16 for "sd3" and "flux".

    Args:
        kind: "sd1" (Stable Diffusion 1: epsilon prediction), "sd2" (v-prediction), "sdxl" (two text encoders, size
            conditioning), "sd3" (flow matching, three text encoders) or "flux" (flow matching, distilled guidance).
        seed: of the weights. Equal seeds give equal weights; the global random state is left as it was.

    Raises:
        OptionError: an unknown kind.
    """
    import torch

    builders = {"sd1": _sd1, "sd2": _sd2, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux}
    if kind not in builders:
        raise OptionError(f"no tiny pipeline of kind {kind!r}", hint=f"choose one of: {', '.join(builders)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = builders[kind]()
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.weight *= CONTRAST_GAIN
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _sd1() -> Any:
    import diffusers

    # The settings that Stable Diffusion 1.5 ships with.
    scheduler = diffusers.PNDMScheduler(**_LATENT_NOISE, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    return _stable_diffusion(scheduler)


def _sd2() -> Any:
    import diffusers

    scheduler = diffusers.DDIMScheduler(
        **_LATENT_NOISE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    return _stable_diffusion(scheduler, use_linear_projection=True)


def _stable_diffusion(scheduler: Any, **unet_options: Any) -> Any:
    import diffusers

    return diffusers.StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_clip_encoder(),
        tokenizer=_clip_tokenizer(),
        unet=_unet(cross_attention_dim=TEXT_WIDTH, **unet_options),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> Any:
    import diffusers

    time_width = 8
    unet = _unet(
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_width,
        # Six numbers of size conditioning beside the pooled text.
        projection_class_embeddings_input_dim=6 * time_width + TEXT_WIDTH,
    )
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip_encoder(),
        text_encoder_2=_clip_encoder(projected=True),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(**_LATENT_NOISE, steps_offset=1),
        add_watermarker=False,
    )


def _sd3() -> Any:
    import diffusers

    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SAMPLE_SIZE,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=2 * TEXT_WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=64,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip_encoder(projected=True),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_clip_encoder(projected=True),
        tokenizer_2=_clip_tokenizer(),
        text_encoder_3=_t5_encoder(2 * TEXT_WIDTH),
        tokenizer_3=_t5_tokenizer(),
    )


def _flux() -> Any:
    import diffusers

    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        # The pipeline packs 2 x 2 latent pixels into one token.
        in_channels=4 * LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=2 * TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip_encoder(),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_t5_encoder(2 * TEXT_WIDTH),
        tokenizer_2=_t5_tokenizer(),
        transformer=transformer,
    )


_LATENT_NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _unet(**options: Any) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        sample_size=SAMPLE_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **options,
    )


def _vae(**options: Any) -> Any:
    import diffusers

    # Four levels: three doublings.
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=LATENT_CHANNELS,
        sample_size=8 * SAMPLE_SIZE,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **options,
    )


def _clip_encoder(*, projected: bool = False) -> Any:
    import transformers

    tokenizer = _clip_tokenizer()
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_factor=PROMPT_GAIN,
    )
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config).eval()


def _clip_tokenizer() -> Any:
    """Byte-level, without merges: one token a byte."""
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _t5_encoder(width: int) -> Any:
    import transformers

    config = transformers.T5Config(
        vocab_size=len(_t5_tokenizer()),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return transformers.T5EncoderModel(config).eval()


def _t5_tokenizer() -> Any:
    """One token a character; what is not printable ASCII becomes the unknown token."""
    import transformers

    printable = string.ascii_letters + string.digits + string.punctuation
    # Scores are log-probabilities; all characters alike.
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -2.0) for letter in printable)]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)
