"""Pixels to matches in a rights-bearing index.

`building` hashes a collection into a folder, `search.SimilarityIndex` opens it and finds what a picture resembles,
`judge` turns matches into findings, `evidence` draws what was compared. Stage 1 is an exact Hamming-radius search over
perceptual hashes; stage 2 compares pixels tile by tile, or, where only hashes are at hand, demands that several
hashes agree at once. A match is evidence for a review, not a legal finding of copying.
"""
