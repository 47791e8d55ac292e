"""Replay one seed, or a range of them: `python -m tests.faults 17`, `python -m tests.faults 0 200 [--until-found]`."""

import sys

from tests.faults import judge
from tests.faults.world import World, quiet_log


def main() -> int:
    until_found = "--until-found" in sys.argv
    first, *last = (int(word) for word in sys.argv[1:] if not word.startswith("--"))
    failed = 0
    with quiet_log():
        for seed in range(first, last[0] if last else first + 1):
            world = World(seed)
            world.run()
            found = judge.findings(world)
            failed += bool(found)
            said = "; ".join(found[:100]) or "all is as it must be"
            sys.stdout.write(f"seed {seed}: {said}  [{world.summary()}]\n")
            sys.stdout.flush()
            if found and until_found:
                break
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
