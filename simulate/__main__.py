"""Clusters in a test tube: ``python -m simulate cluster`` and ``python -m simulate crowd``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from simulate import hermetic

if TYPE_CHECKING:
    from simulate.story import Outcome

#: Runs of a story that may be spent on leaving out what does not matter.
TRIES = 60

#: Seeds within which everything that is broken on purpose must be noticed ...
MOST_UNNOTICED = 20

#: ... of stories with so many steps.
STEPS_BROKEN = 100


def main(arguments: list[str]) -> int:
    """Simulate; return 1 if something was broken that must not be."""
    parser = argparse.ArgumentParser(prog="python -m simulate", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    cluster = kinds.add_parser("cluster", help="whole nodes, seeded faults, invariants")
    cluster.add_argument("--seed", type=int, default=1, help="the first seed")
    cluster.add_argument("--seeds", type=int, default=1, help="how many, one after another")
    cluster.add_argument("--steps", type=int, default=200, help="steps of each story")
    cluster.add_argument("--jobs", type=int, default=1, help="stories at once")
    cluster.add_argument("--keep", default="", help="numbers of the steps that happen: 3,17,18")
    cluster.add_argument("--broken", default="", help="what is broken on purpose")
    cluster.add_argument("--until-broken", action="store_true", help="end with the first violation")
    cluster.add_argument("--trace", action="store_true", help="print the record of each story")
    cluster.add_argument("--whole", action="store_true", help="do not look for a smaller story")
    cluster.add_argument("--json", action="store_true", help="end with one line of JSON")
    cluster.add_argument("--without-liars", action="store_true", help="all peers are honest")
    absent = kinds.add_parser("absent", help="what a GET costs of a blob that nobody has")
    on_purpose = kinds.add_parser("broken", help="what is broken on purpose must be noticed")
    crowd = kinds.add_parser("crowd", help="N nodes want one file at once: the scaling table")
    crowd.add_argument("--nodes", default="10,100,1000", help="how many: 10,100,1000")
    crowd.add_argument("--digests", type=int, default=2, help="digests, each with its own tree")
    crowd.add_argument("--seed", type=int, default=1, help="of the first digest")
    for each in (absent, on_purpose, crowd):
        each.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(arguments)
    _let_sets_have_an_order()
    if options.kind == "crowd":
        return _crowd(options)
    hermetic.use_small_chunks()
    return {"cluster": _cluster, "absent": _absent, "broken": _broken}[options.kind](options)


def _let_sets_have_an_order() -> None:
    """Begin anew where the order of a set of strings would differ from run to run."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "simulate", *sys.argv[1:]])  # noqa: S606


def _cluster(options: argparse.Namespace) -> int:
    # Only now: their numbers come from the size of a chunk.
    from simulate.seeds import run_many  # noqa: PLC0415
    from simulate.story import Telling  # noqa: PLC0415 -- the same

    keep = [int(number) for number in options.keep.split(",") if number] or None
    telling = Telling(options.steps, keep, options.trace, not options.without_liars)
    begun = time.perf_counter()
    done = broken = events = 0
    counts: Counter[str] = Counter()
    history = ""
    print(f"from seed {options.seed} on, {options.steps} steps each", flush=True)
    for outcome in run_many(
        range(options.seed, options.seed + options.seeds),
        telling,
        options.broken,
        options.jobs,
    ):
        done += 1
        events += outcome.events
        counts.update(outcome.counts)
        history = outcome.history
        for line in outcome.lines:
            print(line)
        if options.seeds <= 10:
            print(f"seed {outcome.seed}: history {history}, {outcome.seconds:.0f} s of false time")
        if outcome.violations:
            broken += 1
            _report(outcome.seed, outcome.violations, options)
            if options.until_broken:
                break
    took = time.perf_counter() - begun
    print(", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))
    step = 1000 * took / max(1, done * options.steps)
    print(
        f"{done} seeds, {broken} with violations; {events} events; "
        f"{took:.1f} s, {done / took:.2f} seeds/s, {step:.2f} ms a step"
    )
    if options.json:
        figures = {"seeds": done, "broken": broken, "events": events, "seconds": took}
        print(json.dumps({**figures, "history": history, "counts": counts}))
    return 1 if broken else 0


def _crowd(options: argparse.Namespace) -> int:
    from simulate.crowd import MOST_COPIES, Terms, table  # noqa: PLC0415 -- with chunks of a MiB

    begun = time.perf_counter()
    sizes = [int(size) for size in options.nodes.split(",")]
    terms = Terms(sizes[0])
    print(
        f"{terms.chunks} chunks of a MiB over links of {terms.rate * 8 / 1e9:g} Gbit/s each way, "
        f"{1000 * terms.latency:g} ms; times in files over one link ({terms.file_seconds:.3f} s), "
        f"the worst of {options.digests} digests (from seed {options.seed} on)"
    )
    lines, kept = table(sizes, range(options.seed, options.seed + options.digests))
    print("\n".join(lines))
    verdict = "kept" if kept else "NOT KEPT"
    print(f"at most {MOST_COPIES} copies from the source, and no longer than allowed: {verdict}")
    print(f"{time.perf_counter() - begun:.1f} s")
    if options.json:
        print(json.dumps({"kept": kept, "table": lines}))
    return 0 if kept else 1


def _absent(options: argparse.Namespace) -> int:
    from simulate.absent import cost_of, mesh, ring  # noqa: PLC0415 -- as above
    from simulate.seeds import place_for_stores  # noqa: PLC0415 -- the same

    costs = {}
    for name, lists in (("ring", ring(5)), ("mesh", mesh(5))):
        with tempfile.TemporaryDirectory(dir=place_for_stores()) as folder:
            costs[name] = asdict(cost_of(folder, lists))
        print(f"{name} of 5: {costs[name]}")
    if options.json:
        print(json.dumps(costs))
    wrong = [
        cost
        for cost in costs.values()
        if cost["status"] != 404 or cost["requests"] > 4 or cost["by_others"]
    ]
    return 1 if wrong else 0


def _broken(options: argparse.Namespace) -> int:
    from simulate.breaking import WAYS  # noqa: PLC0415 -- as above
    from simulate.seeds import run_many, run_one  # noqa: PLC0415 -- the same
    from simulate.story import Telling  # noqa: PLC0415 -- the same

    telling = Telling(STEPS_BROKEN)
    noticed: dict[str, int] = {}
    for way in WAYS:
        seeds = range(1, MOST_UNNOTICED + 1)
        for number, outcome in enumerate(run_many(seeds, telling, way), start=1):
            # It must be this that was noticed, and nothing else.
            if outcome.violations and not run_one(number, telling).violations:
                noticed[way] = number
                break
        print(f"{way}: {f'noticed by seed {noticed[way]}' if way in noticed else 'NOT NOTICED'}")
    if options.json:
        print(json.dumps({"noticed": noticed}))
    return 0 if len(noticed) == len(WAYS) else 1


def _report(seed: int, violations: list[str], options: argparse.Namespace) -> None:
    from simulate.seeds import run_one  # noqa: PLC0415 -- as above
    from simulate.shrinking import shrunk  # noqa: PLC0415 -- the same
    from simulate.story import Telling  # noqa: PLC0415 -- the same

    print(f"SEED {seed} BROKE {len(violations)} PROMISES")
    for violation in violations[:5]:
        print(f"    {violation[:3000]}")
    command = f"python -m simulate cluster --seed {seed} --steps {options.steps}"
    if options.without_liars:
        command += " --without-liars"
    if options.broken:
        command += f" --broken {options.broken}"

    def some(steps: Sequence[int], *, lines: bool = False) -> Outcome:
        telling = Telling(options.steps, set(steps), lines, not options.without_liars)
        return run_one(seed, telling, options.broken)

    if not (options.whole or options.keep):
        found = shrunk(range(options.steps), lambda steps: bool(some(steps).violations), TRIES)
        again = some(found, lines=True)
        if again.violations:
            print(f"  {len(found)} steps do it, too:")
            for line in again.lines:
                print(f"    {line[:400]}")
            command += f" --keep {','.join(map(str, found))}"
    print(f"  again: {command} --trace", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
