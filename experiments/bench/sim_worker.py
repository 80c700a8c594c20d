"""One process of bench ``sim``'s ``frames_per_second``: a share of the rows, measured by the wall clock."""

from __future__ import annotations

import sys
import time


def main() -> None:
    """Print ``ready``, then answer every line holding seconds by frames per second and the share of a core it got."""
    from embodied_mem.experiments.bench.sim import Walk

    walk = Walk(int(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        rate = walk.rate(float(line), time.perf_counter)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        print(rate, share, flush=True)


if __name__ == "__main__":
    main()
