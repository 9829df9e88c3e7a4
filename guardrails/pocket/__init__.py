"""The embedded default model: its data set, its training, its evaluation.

::

    sources.py         the emoji packages: versions, digests, licences, drawings
      reference.py     one drawing at a time, when evidence needs its picture
    rendering.py       SVG to pixels
    dataset.py         every drawing rendered, and the manifest that says whose it is
    scenes.py          captioned scenes of one or two drawings on a coloured background
    training.py        what both trainings share
    autoencoder.py     pixels <-> latents
      thumbnail_start.py   weights that already show a blurred picture
    text.py            tokenizer and text encoder
    latents.py         scenes encoded once
    layout.py          the text encoder's first lesson: captions foretell latents
    diffusion.py       the denoiser
    export.py          everything as one diffusers folder
    evaluation.py      sample sheet, background obedience, recognition
"""
