"""Where the evidence of the latent mark is lost on the embedded model: autoencoder, prompt, guidance, weighting.

Run: PYTHONPATH=benchmarks python benchmarks/latent_losses.py [--pictures 40] [--first 200]

For every picture the latent is inverted from what the sampler really ended with (`final`) and from the encoded pixels,
as they are and after JPEG 60; with the empty prompt, with the true caption, and with a wrong one. z is the correlation
with the true signs in standard deviations. `weighted` multiplies every channel and ring of frequencies by Wiener
weights that the other pictures give (six folds). Prints one line a way, and the denoising error of right and wrong
captions, by which a caption could be guessed without the key.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMInverseScheduler
from latent_mark import Bench, Drawing, prompt_of  # type: ignore[import-not-found]  # beside this script
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from guardrails.generation.inversion import CORRECTIONS, STEPS, _to_tensor
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline.embedded import POCKET_GUIDANCE, POCKET_STEPS

Latents = NDArray[np.float64]
FOLDS = 6
NEEDED = 7.8
LOSS_TIMES = (300, 600, 900)


class Losses:
    """Inverts pictures of the embedded model in ways that need what an auditor does not have."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._pipeline = bench.generator.pipeline
        self._alphas = self._pipeline.scheduler.alphas_cumprod

    def draw(self, number: int) -> tuple[Drawing, Any]:
        """A marked picture, and the latent that it was decoded from."""
        vae, kept = self._pipeline.vae, list[Any]()
        decode_latent = vae.decode

        def keep(latent: Any, *rest: Any, **options: Any) -> Any:
            kept.append(latent)
            return decode_latent(latent, *rest, **options)

        vae.decode = keep
        drawing = self._bench.draw(number)
        vae.decode = decode_latent
        return drawing, kept[0] * vae.config.scaling_factor

    def encoded(self, pixels: Any) -> Any:
        """The latent of a picture as the inverter sees it."""
        return self._bench.inverter._encode(_to_tensor(pixels, self._pipeline.vae), CORRECTIONS)

    def reversed(self, latent: Any, caption: str) -> Latents:
        """DDIM inversion as the inverter does it, with a caption and without guidance."""
        config = dict(self._pipeline.scheduler.config)
        scheduler = DDIMInverseScheduler.from_config(config, clip_sample=False, timestep_spacing="trailing")
        scheduler.set_timesteps(STEPS)
        states = self._states(caption)
        for time in scheduler.timesteps:
            latent = scheduler.step(self._pipeline.unet(latent, time, states).sample, time, latent).prev_sample
        return latent[0].double().numpy()

    def exact(self, latent: Any, caption: str, repetitions: int = 4) -> Latents:
        """Every guided step of the sampler undone by a fixed-point iteration (Hong et al. 2024, arXiv:2311.18387)."""
        scheduler = self._pipeline.scheduler
        scheduler.set_timesteps(POCKET_STEPS)
        states = torch.cat([self._states(""), self._states(caption)])
        later = 1.0
        for time in reversed(scheduler.timesteps):
            now = float(self._alphas[time])
            scale = (later * now) ** 0.5 + ((1 - later) * (1 - now)) ** 0.5
            slope = ((1 - later) * now) ** 0.5 - (later * (1 - now)) ** 0.5
            guess = latent
            for _ in range(repetitions):
                empty, wanted = self._pipeline.unet(torch.cat([guess, guess]), time, states).sample.chunk(2)
                guess = (latent - slope * (empty + POCKET_GUIDANCE * (wanted - empty))) / scale
            latent, later = guess, now
        return latent[0].double().numpy()

    def denoising_error(self, latent: Any, caption: str) -> float:
        """Mean squared error of the predicted velocity over a few times, with the same noise for every caption."""
        generator, states, errors = torch.Generator().manual_seed(0), self._states(caption), []
        for time in LOSS_TIMES:
            signal, level = self._alphas[time] ** 0.5, (1 - self._alphas[time]) ** 0.5
            noise = torch.randn(latent.shape, generator=generator)
            predicted = self._pipeline.unet(signal * latent + level * noise, time, states).sample
            errors.append(float(((predicted - (signal * noise - level * latent)) ** 2).mean()))
        return float(np.mean(errors))

    def _states(self, caption: str) -> Any:
        return self._pipeline.encode_prompt(caption, "cpu", 1, False)[0]


def weighted(latents: Latents, noise: Latents) -> Latents:
    """Latents of shape (n, channels, side, side), weighted for what the noise of the other folds kept."""
    side = latents.shape[-1]
    ring = np.minimum(np.hypot(*np.mgrid[:side, :side]).astype(int), side - 1)
    spectra, wanted = (dctn(values, axes=(2, 3), norm="ortho") for values in (latents, noise))
    result = np.empty_like(latents)
    for fold in range(FOLDS):
        tested = np.arange(len(latents)) % FOLDS == fold
        cross = (spectra[~tested] * wanted[~tested]).mean(axis=0)
        power = (spectra[~tested] ** 2).mean(axis=0)
        weights = np.empty_like(cross)
        for band in range(side):
            inside = ring == band
            share = cross[:, inside].mean(axis=1).clip(0) / power[:, inside].mean(axis=1)
            weights[:, inside] = share[:, None]
        result[tested] = idctn(spectra[tested] * weights, axes=(2, 3), norm="ortho")
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--first", type=int, default=200, help="number and seed of the first picture")
    options = parser.parse_args()
    bench = Bench(Path("unused.csv"))
    losses = Losses(bench)
    ways: dict[str, list[Latents]] = {}
    signs, errors = [], []
    with torch.no_grad():
        for number in range(options.first, options.first + options.pictures):
            print(f"\rpicture {number}", end="", file=sys.stderr)
            drawing, final = losses.draw(number)
            caption, wrong = prompt_of(number), prompt_of(number + 1)
            pixels = bench.pixel.embed(drawing.pixels, drawing.mark_id).pixels
            saved = decode(encode(pixels, ImageFormat.JPEG, quality=60)).pixels
            starts = {"final": final, "encoded": losses.encoded(pixels), "jpeg 60": losses.encoded(saved)}
            for name, start in starts.items():
                for prompt, words in {"empty prompt": "", "caption": caption, "wrong caption": wrong}.items():
                    ways.setdefault(f"{name}, {prompt}", []).append(losses.reversed(start, words))
                if name != "jpeg 60":
                    ways.setdefault(f"{name}, caption, guided, exact", []).append(losses.exact(start, caption))
            signs.append(drawing.signs)
            errors.append([losses.denoising_error(starts["encoded"], words) for words in (caption, "", wrong)])
    truth = np.stack(signs)
    print("\n| latent, prompt | mean z | weakest z | below what is needed | weighted: mean | weakest | below |")
    print("|---|---|---|---|---|---|---|")
    for way, latents in ways.items():
        cells = []
        for values in (np.stack(latents), weighted(np.stack(latents), truth)):
            z = (values * truth).sum(axis=(1, 2, 3)) / np.sqrt((values**2).sum(axis=(1, 2, 3)))
            cells.append(f"{z.mean():.1f} | {z.min():.1f} | {(z < NEEDED).sum()} of {len(z)}")
        print(f"| {way} | {' | '.join(cells)} |")
    table = np.array(errors)
    print(f"\ndenoising error: caption {table[:, 0].mean():.2f}, empty {table[:, 1].mean():.2f}, ", end="")
    print(f"wrong {table[:, 2].mean():.2f}; smallest for the true caption in {(table.argmin(axis=1) == 0).sum()}")


if __name__ == "__main__":
    main()
