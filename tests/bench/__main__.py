"""`make bench`: counts and ratios of generated fleets, written to docs/performance.md. Never a test."""

from __future__ import annotations

import argparse
import cProfile
import io
import logging
import pstats
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.bench import cold, copies, deletion, memory, plans, proc, report, rest, restores
from tests.bench.fleets import Size

from snapkeep_local import emulators

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "performance.md"
PARTS: Final = ("plans", "deletion", "copies", "restores", "memory", "rest", "cold")

NIGHTS: Final = 2
STARTS: Final = 3
PLANS_S: Final = 10.0
PROFILE_LINES: Final = 25


def main() -> int:
    options = _options()
    logging.getLogger("snapkeep").setLevel(logging.ERROR)
    began = time.monotonic()
    if options.profile:
        _profile(Size(*options.profile))
        return 0
    try:
        results = _measure(options)
    except emulators.EmulatorsMissing as missing:
        sys.stderr.write(f"bench: {missing}; --parts plans deletion copies restores memory needs none\n")
        return 1
    page = report.page(results)
    sys.stdout.write(page)
    _say(f"took {time.monotonic() - began:.0f} s")
    whole = set(options.parts) == set(PARTS) and not options.quick
    out = options.out or (PAGE if whole else None)
    if out:
        out.write_text(page, encoding="utf-8")
        _say(f"written to {out}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small fleets; written nowhere unless --out says so")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="measure these only")
    parser.add_argument("--out", type=Path, help=f"write the page here (a whole run: {PAGE.relative_to(ROOT)})")
    parser.add_argument("--date", default=f"{datetime.now(UTC):%Y-%m-%d}", help="the date that the page bears")
    parser.add_argument(
        "--profile",
        nargs=2,
        metavar=("LAYOUT", "INSTANCES"),
        help="instead: where the CPU goes in memory (shared|apart, a number)",
    )
    options = parser.parse_args()
    if options.profile:
        layout, instances = options.profile
        if layout not in report.LAYOUTS or not instances.isdecimal() or not 1 <= int(instances) <= 10_000:
            parser.error(f"--profile: {layout} {instances}: expected shared or apart, and 1 to 10000")
        options.profile = (layout, int(instances))
    return options


def _measure(options: argparse.Namespace) -> report.Results:
    """The parts that were asked for, one after the other: two at once would disturb one another."""
    if "rest" in options.parts or "cold" in options.parts:
        emulators.installed()  # said before an hour is spent
    in_memory = [100, 1000] if options.quick else [100, 1000, 10_000]
    over_rest = [100] if options.quick else [100, 1000]
    found_plans, found_deletion, found_copies, found_memory, found_rest, found_cold = [], [], [], [], [], []
    found_restores: list[restores.Measured] = []
    for points in plans.SIZES if "plans" in options.parts else ():
        _say(f"plans: {points:,} points")
        found_plans.append(plans.measure(points, PLANS_S / 10 if options.quick else PLANS_S))
    for layout in report.LAYOUTS:
        for instances in deletion.SIZES[:1] if options.quick else deletion.SIZES:
            if "deletion" in options.parts:
                _say(f"deletion: {instances:,} instances, {report.LAYOUTS[layout]}")
                found_deletion.append(deletion.measure(Size(layout, instances)))
    for layout in report.LAYOUTS:
        for instances in copies.SIZES[:1] if options.quick else copies.SIZES:
            for way in report.WAYS if "copies" in options.parts else ():
                _say(f"copies: {instances:,} instances, {report.LAYOUTS[layout]}, {report.WAYS[way]}")
                found_copies.append(copies.measure(Size(layout, instances), way))
    if "restores" in options.parts:
        found_restores = list(_restores(restores.DISKS[:2] if options.quick else restores.DISKS))
    for layout in report.LAYOUTS:
        for instances in in_memory if "memory" in options.parts else ():
            _say(f"memory: {instances:,} instances, {report.LAYOUTS[layout]}")
            found_memory.append(memory.measure(Size(layout, instances), NIGHTS))
    for layout in report.LAYOUTS:
        for instances in over_rest if "rest" in options.parts else ():
            _say(f"rest: {instances:,} instances, {report.LAYOUTS[layout]}")
            found_rest.append(rest.measure(Size(layout, instances)))
    if "cold" in options.parts:
        _say("cold starts")
        found_cold = cold.measure(1 if options.quick else STARTS)
    return report.Results(
        proc.machine(),
        _commit(),
        options.date,
        memory=found_memory,
        rest=found_rest,
        cold=found_cold,
        plans=found_plans,
        deletion=found_deletion,
        copies=found_copies,
        restores=found_restores,
    )


def _restores(numbers: Sequence[int]) -> Iterator[restores.Measured]:
    for mode in restores.MODES:
        for disks in numbers:
            _say(f"restores: {mode}, disks: {disks}")
            yield restores.measure(mode, disks)
    for size_gb in restores.SIZES_GB:
        if size_gb != restores.SIZE_GB:
            _say(f"restores: in_place, disks of {size_gb:,} GB")
            yield restores.measure("in_place", restores.DISKS_WAITED_FOR, size_gb)


def _profile(size: Size) -> None:
    """Where the CPU goes in memory: the simulated cloud and database too, which is what the demo waits for."""
    profile = cProfile.Profile()
    profile.runcall(memory.measure, size, NIGHTS)
    said = io.StringIO()
    pstats.Stats(profile, stream=said).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
    sys.stdout.write(said.getvalue())


def _commit() -> str:
    """The commit that was measured; with a plus where files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],  # noqa: S607 - whichever git the developer has
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def _say(what: str) -> None:
    sys.stderr.write(f"bench: {what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
