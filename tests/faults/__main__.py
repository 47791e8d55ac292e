"""Replay one seed, or a range of them: `python -m tests.faults 17` or `python -m tests.faults 0 200`."""

import logging
import sys

from tests.faults import judge
from tests.faults.world import World


def main() -> int:
    first, *last = (int(word) for word in sys.argv[1:])
    logging.disable(logging.CRITICAL)
    failed = 0
    for seed in range(first, last[0] if last else first + 1):
        world = World(seed)
        world.run()
        found = judge.findings(world)
        failed += bool(found)
        print(f"seed {seed}: {'; '.join(found[:10]) or 'all is as it must be'}  [{world.summary()}]")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
