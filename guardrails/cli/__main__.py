"""`python -m guardrails.cli`."""

from __future__ import annotations

import sys

from guardrails.cli.main import main

sys.exit(main())
