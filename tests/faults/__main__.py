"""Replay one seed, or a range of them: `python -m tests.faults 17`, `python -m tests.faults 0 200 [--until-found]`.

Or restores, all or those of a name, with one event, at one effect:
`python -m tests.faults restores [NAME [EVENT [NUMBER]]] [--until-found]`.
"""

import sys

from tests.faults import judge, restored, sweep
from tests.faults.restoring import Once
from tests.faults.world import World, quiet_log


def main() -> int:
    until_found = "--until-found" in sys.argv
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    with quiet_log():
        if words[0] == "restores":
            return _restores(words[1:], until_found=until_found)
        return _seeds([int(word) for word in words], until_found=until_found)


def _restores(words: list[str], *, until_found: bool) -> int:
    failed = 0
    for name in words[:1] or sweep.SCENARIOS:
        found = restored.findings(sweep.history(name).scene)
        failed += bool(found)
        for finding in found:
            sys.stdout.write(f"{name}, undisturbed: {finding}\n")
        if found and until_found:
            return 1
        for event in sweep.EVENTS:
            if words[1:2] not in ([], [event]):
                continue
            for number in [int(word) for word in words[2:]] or range(sweep.history(name).effects):
                found = sweep.findings(name, number, Once(number, event))
                failed += bool(found)
                for finding in found:
                    sys.stdout.write(f"{name}, {event} at {number}: {finding}\n")
                if found and until_found:
                    return 1
    return 1 if failed else 0


def _seeds(seeds: list[int], *, until_found: bool) -> int:
    first, *last = seeds
    failed = 0
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
