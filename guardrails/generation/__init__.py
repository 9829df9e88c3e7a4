"""Cleared prompt to pixels: an adapter over diffusers text-to-image pipelines.

    protocol.py             what a generator is: `Generator.draw` gives `Drawn`
    diffusers_pipeline.py   the adapter: seeds, batches, progress, what is recorded
    arguments.py            a request as the arguments that one pipeline accepts
    placement.py            device and precision
    pictures.py             what a pipeline returned as RGB uint8 arrays
    samplers.py             other samplers for U-Net models
    loading.py              a folder or hub id as a generator; no pickles, no code from the model
    weights.py              a digest over the weights, for the record

Importing these modules loads neither torch nor diffusers; calling them does.
"""
