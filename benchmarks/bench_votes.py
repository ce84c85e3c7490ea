"""How many votes the search of ``freeu tune --objective votes`` takes, on simulated raters with a known preference.

    python benchmarks/bench_votes.py

For each seed an optimum is planted somewhere in the range of the five factors. In "35 raters" so many raters, whose
own optima lie around it, take turns; in "one rater" a single one votes; in "none" plain sampling is the optimum of 35.
The planted optimum's neighbourhood is where it would be chosen over the settings found in at most 65 % of votes.
Writes benchmarks/results/votes.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from common import conditions, save

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from simulated_voters import Voters, voted

SEEDS = {"35 raters": range(8), "one rater": range(4), "none": range(4)}
VOTES = 120
NEAR = 0.65


def main() -> None:
    kinds = {
        "35 raters": lambda seed: Voters.of(seed),
        "one rater": lambda seed: Voters.of(seed, raters=1),
        "none": Voters.of_none,
    }
    results = {}
    for name, kind in kinds.items():
        rows = []
        for seed in SEEDS[name]:
            voters = kind(seed)
            began = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                _, result, found = voted(Path(folder) / "votes.sqlite", voters, seed, VOTES)
            row = {
                "seed": seed,
                "verdict": result.best,
                "share": result.share.share,
                "interval": result.share.clustered,
                "optimum over found": {count: round(voters.regret(one), 3) for count, one in found.items()},
                "distance": {count: round(voters.distance(one), 3) for count, one in found.items()},
                "near from": next((count for count, one in found.items() if voters.regret(one) <= NEAR), None),
                "seconds a vote": round((time.process_time() - began) / VOTES, 3),
            }
            rows.append(row)
            print(name, seed, row["verdict"], "near from", row["near from"], "vote", flush=True)
        summary = {
            "searches": len(rows),
            "near at the end": sum(row["optimum over found"][VOTES] <= NEAR for row in rows),
            "near after 60": sum(row["optimum over found"][60] <= NEAR for row in rows),
            "median optimum over found": {
                count: statistics.median(row["optimum over found"][count] for row in rows)
                for count in (30, 60, 90, 120)
            },
            "verdicts": {word: sum(row["verdict"] == word for row in rows) for word in ("freeu", "none")},
        }
        results[name] = {"summary": summary, "searches": rows}
        print(name, json.dumps(summary), flush=True)
    libraries = {name: version(name) for name in ("scikit-learn", "scipy", "numpy")}
    save("votes", {"conditions": conditions() | libraries, "votes": VOTES, "near": NEAR, "results": results})


if __name__ == "__main__":
    main()
