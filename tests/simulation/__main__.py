"""`python -m tests.simulation --seed N` replays one seed; `--seeds A B` plays many."""

import argparse
import time

from tests.simulation.run import run_seed

ap = argparse.ArgumentParser()
ap.add_argument("--seed", type=int)
ap.add_argument("--seeds", type=int, nargs=2)
ap.add_argument("--about", default="")
ap.add_argument("--workflows", type=int, default=150)
ap.add_argument("--trace", action="store_true")
a = ap.parse_args()
if a.seed is not None:
    v = run_seed(a.seed, workflows=a.workflows)
    if a.trace or a.about:
        for line in v.journal.trace(a.about):
            print(line)
    print(v.description)
    for x in v.violations:
        print(x)
    print(v.deliveries, v.workflows, v.crashes, v.journal.fingerprint())
else:
    n = 0
    t = time.time()
    bad = 0
    for s in range(*a.seeds):
        v = run_seed(s, workflows=a.workflows)
        n += v.deliveries
        if v.violations:
            bad += 1
            print(s, v.violations[:3])
    d = time.time() - t
    print(f"{n} deliveries in {d:.1f}s, {n / d:.0f}/s, {bad} bad")
