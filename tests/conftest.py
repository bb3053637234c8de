"""One thread a worker: two workers on two cores otherwise wait for each other."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
