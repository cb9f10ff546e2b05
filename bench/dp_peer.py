# SPDX-License-Identifier: Apache-2.0
"""One user-level dp query by a peer, run by the interpreter of an environment that has it and nothing of Weir.

Argument: `smartnoise` (PyPI `smartnoise-sql` and `duckdb`) or `opendp_polars` (PyPI `opendp[polars]`). Reads
{"parquet", "rows", "regions", "rows_per_unit", "upper", "rounds"} from stdin, writes {"seconds"} to stdout.
The question is ours:
COUNT(*) and SUM(amount) by region at epsilon 1, a unit being a person. Reading the file is outside the clock for
SmartNoise, which works on a data frame.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

_EPSILON = 1.0


def smartnoise(request: dict[str, Any]) -> Callable[[], object]:
    """SmartNoise SQL over a pandas data frame."""
    snsql, duckdb = importlib.import_module("snsql"), importlib.import_module("duckdb")
    frame = duckdb.read_parquet(request["parquet"]).df()
    columns = {
        "row_privacy": False,
        "max_ids": request["rows_per_unit"],
        "rows": len(frame),
        "person": {"type": "int", "private_id": True},
        "region": {"type": "int"},
        "amount": {"type": "int", "lower": 0, "upper": request["upper"]},
    }
    metadata = {"": {"bench": {"facts": columns}}}
    statement = "SELECT region, COUNT(*) AS n, SUM(amount) AS s FROM bench.facts GROUP BY region"

    def run() -> object:
        privacy = snsql.Privacy(epsilon=_EPSILON, delta=1e-9)
        return snsql.from_df(frame, privacy=privacy, metadata=metadata).execute(statement)

    return run


def opendp_polars(request: dict[str, Any]) -> Callable[[], object]:
    """OpenDP's Polars context over the file."""
    dp, pl = importlib.import_module("opendp.prelude"), importlib.import_module("polars")
    dp.enable_features("contrib")

    def run() -> object:
        context = dp.Context.compositor(
            data=pl.scan_parquet(request["parquet"]),
            privacy_unit=dp.unit_of(contributions=1, identifier=pl.col("person")),
            privacy_loss=dp.loss_of(epsilon=_EPSILON),
            split_evenly_over=1,
            margins=[dp.polars.Margin(max_length=request["rows"])],
        )
        bounded = context.query().truncate_per_group(request["rows_per_unit"])
        amounts = pl.col("amount").fill_null(0).dp.sum((0, request["upper"]))
        keys = pl.LazyFrame({"region": list(range(request["regions"]))})
        return bounded.group_by("region").agg(dp.len(), amounts).with_keys(keys).release().collect()

    return run


def main() -> None:
    """Time the peer."""
    request = json.load(sys.stdin)
    run = {"smartnoise": smartnoise, "opendp_polars": opendp_polars}[sys.argv[1]](request)
    seconds = []
    for _ in range(request["rounds"]):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    json.dump({"seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
