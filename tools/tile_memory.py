"""What the tiles of a large image need: ``python -m tools.tile_memory``.

It prints the memory that the process had at most, torch and the weights included, before the tiles
and with them, and the processor's seconds. ``--whole`` also runs a smaller image as a whole and says
by how much its logits differ.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings

import torch

from td_transform import tiled, to_topdown
from td_transform.cli.model_names import load_model


def main() -> None:
    """Print the figures of one network and one image."""
    options = _options()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        td = to_topdown(load_model(options.model), input_size=(3, 64, 64)).eval()
    network = tiled(td, budget=options.budget * 2**20)
    print(f"{options.model}, {options.side} px, budget {options.budget} MiB, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if options.whole:
        image = torch.rand(1, 3, options.whole, options.whole)
        with torch.no_grad():
            whole = td(image)
        error = (network(image) - whole).abs().max() / whole.abs().max()
        print(f"at {options.whole} px the logits differ by {error:.1e} of the largest")
    print(f"before: {_most():.3f} GiB at most")
    image = torch.rand(1, 3, options.side, options.side)
    start = time.process_time()
    network(image)
    print(f"tiles: {_most():.3f} GiB at most, {time.process_time() - start:.0f} s")


def _most() -> float:
    """GiB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--side", type=int, default=4096, help="pixels")
    parser.add_argument("--budget", type=int, default=906, help="MiB")
    parser.add_argument(
        "--whole", type=int, default=0, help="pixels of an image run as a whole, too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
