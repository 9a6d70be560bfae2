"""Settings of the whole test suite."""

import os

# Before torch is imported: idle threads sleep, so that a busy machine does not stall the tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
