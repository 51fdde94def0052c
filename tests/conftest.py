"""What holds for all tests."""

from __future__ import annotations

import signal

# Processes that tests start inherit what is ignored: hang-ups under `nohup`, which ours then leave
# alone on purpose, and interrupts in the background of a script.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
