"""A start for the autoencoder that already works: latents begin as a thumbnail and learn the rest.

From random weights a normalised convolutional autoencoder spends its first thousand steps finding out that flat
areas have a colour. Here the residual branches start at zero and the straight path carries the means of the
picture's 16 x 16 cells (latents 0-2) and their three Haar details (latents 3-11), so that training starts at a
blurred picture instead of at noise. One channel holds a large constant: normalisation over all channels then
divides by a known number and keeps brightness.
"""

from __future__ import annotations

from typing import Any

CONSTANT = 20.0
COLOURS = 3
DETAILS = 9
CARRIED = COLOURS + 1 + DETAILS
# SiLU is close to linear around this offset.
OFFSET = 2.0
OFFSET_SILU = 1.7616
# What both normalisations take from contrast and brightness, measured on the start itself.
GAIN = 4.0
LEVEL = 1.2


def start_as_thumbnail(model: Any) -> None:
    """Set the weights of a fresh pocket `AutoencoderKL` in place."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__ == "ResnetBlock2D":
                module.conv2.weight.zero_()
                module.conv2.bias.zero_()
        _identity(model.quant_conv)
        _identity(model.post_quant_conv)
        _start_encoder(model.encoder)
        _start_decoder(model.decoder)


def _start_encoder(encoder: Any) -> None:
    import torch

    _pass_through(encoder.conv_in, COLOURS)
    _hold_constant(encoder.conv_in, COLOURS)
    carried = COLOURS + 1
    haar = 0.5 * torch.tensor([[[1.0, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]])
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _pass_through(resnet.conv_shortcut, carried)
        if not block.downsamplers:
            continue
        convolution = block.downsamplers[0].conv
        _clear(convolution, slice(0, COLOURS + 1))
        for channel in range(COLOURS + 1):
            convolution.weight[channel, channel, :2, :2] = 0.25
        if block is encoder.down_blocks[-2]:
            carried = CARRIED
            _clear(convolution, slice(COLOURS + 1, CARRIED))
            for detail in range(DETAILS):
                convolution.weight[COLOURS + 1 + detail, detail % COLOURS, :2, :2] = haar[detail // COLOURS]
    encoder.conv_norm_out.bias[:CARRIED] = OFFSET
    _clear(encoder.conv_out, slice(None))
    sources = [*range(COLOURS), *range(COLOURS + 1, CARRIED)]
    for latent, channel in enumerate(sources):
        encoder.conv_out.weight[latent, channel, 1, 1] = 3.0
        encoder.conv_out.bias[latent] = -3.0 * OFFSET_SILU
    encoder.conv_out.bias[len(sources) :] = -6.0  # log-variance: little noise


def _start_decoder(decoder: Any) -> None:
    import torch

    latents = COLOURS + DETAILS
    _pass_through(decoder.conv_in, latents)
    _hold_constant(decoder.conv_in, latents)
    blur = torch.tensor([0.25, 0.5, 0.25])
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _pass_through(resnet.conv_shortcut, latents + 1)
        if block.upsamplers:
            convolution = block.upsamplers[0].conv
            _clear(convolution, slice(0, latents))
            for channel in range(latents):
                convolution.weight[channel, channel] = blur[:, None] * blur[None, :]
            _hold_constant(convolution, latents)
    decoder.conv_norm_out.bias[:] = OFFSET
    decoder.conv_out.weight *= 0.1
    for colour in range(COLOURS):
        _clear(decoder.conv_out, slice(colour, colour + 1))
        decoder.conv_out.weight[colour, colour, 1, 1] = GAIN
        decoder.conv_out.bias[colour] = LEVEL - GAIN * OFFSET_SILU


def _pass_through(convolution: Any, channels: int) -> None:
    """The first `channels` outputs copy the inputs of the same number."""
    _clear(convolution, slice(0, channels))
    middle = convolution.weight.shape[-1] // 2
    for channel in range(channels):
        convolution.weight[channel, channel, middle, middle] = 1.0


def _hold_constant(convolution: Any, channel: int) -> None:
    _clear(convolution, slice(channel, channel + 1))
    convolution.bias[channel] = CONSTANT


def _identity(convolution: Any) -> None:
    _clear(convolution, slice(None))
    _pass_through(convolution, convolution.weight.shape[0])


def _clear(convolution: Any, rows: slice) -> None:
    convolution.weight[rows] = 0.0
    convolution.bias[rows] = 0.0
