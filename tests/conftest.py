"""What holds for all tests."""

from __future__ import annotations

import signal

# Processes that tests start inherit what is ignored; under `nohup` that would be hang-ups, which
# ours then leave alone on purpose.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
