"""Durable work: a table of jobs, the workers that claim them, and the signer that alone holds the key.

::

    model.py      a job, its states and stages
    table.py      submit, claim, heartbeat, advance, finish; every transition is one transaction
    guards.py     the guarded pipeline of an installation, by policy
    worker.py     claims jobs and runs them; a crash at any point loses nothing and releases nothing twice
    ray_workers.py  the same workers on the machines of a Ray cluster
    outcomes.py   what became of each picture, as the API tells it
    claims.py     what a C2PA claim must hold before it is signed
    signer.py     the process that holds the key, and how others ask it
    webhooks.py   signed notices to the hosts that the operator allows
"""
