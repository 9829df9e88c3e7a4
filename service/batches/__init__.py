"""Batches: a file of requests, worked through within a day, and the files that hold the answers.

::

    files.py     uploaded and finished files of a tenant, until they expire
    lines.py     the lines of an input file, checked before anything is run
    table.py     batches and their lines; every transition is one transaction

What a line asks for is run by `service.api.batching`: pictures become jobs, moderations are answered at once.
"""
