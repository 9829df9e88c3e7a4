"""Pixels to matches in a rights-bearing index.

Candidates: `fingerprints` hashes a picture in all orientations, `store` keeps the hashes of a collection and finds all
within a radius (`segments`, `journal` and `pointer` are its files, `plan`, `kernels` and `vectorised` its search),
`banks` says what a match means, `sources`, `ingest` and `interchange` bring collections and hash lists in and out,
`distributed`, `postgresql` and `lance_table` lead past one machine.

Findings, for a guard: `building` hashes a collection into one segment, `search.SimilarityIndex` opens it and finds what
a picture resembles, `judge` turns matches into findings, `evidence` draws what was compared. Stage 1 is an exact
Hamming-radius search over perceptual hashes; stage 2 compares pixels tile by tile, or, where only hashes are at hand,
demands that several hashes agree at once. A match is evidence for a review, not a legal finding of copying.
"""
