"""The HTTP surfaces: OpenAI's shapes, with our evidence in one object named `guardrails`.

::

    errors.py       one envelope for every error; problem+json where a client asks for it
    middleware.py   request ids, body limits while streaming, security headers, log and metrics
    context.py      what all handlers share
    auth.py         who calls, and whether they may
    requests.py     request bodies, and what a job keeps of them
    answers.py      finished jobs as responses
    waiting.py      until a job is over
    ...             one file for each surface
"""
