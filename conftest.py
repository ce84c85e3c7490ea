"""Settings of every test run, made before torch is imported: one thread a process, no network."""

import os

# Tiny tensors gain nothing from threads, and on a busy machine every thread waits for the slowest. Processes that tests
# start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
