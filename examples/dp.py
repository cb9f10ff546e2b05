# SPDX-License-Identifier: Apache-2.0
"""Differential privacy: a stated loss, shared between two aggregates, and the noise that it buys."""

import json
from pathlib import Path

import weir_client

STAGE = Path(".weir-demo")
ready = json.loads((STAGE / "ready.json").read_text(encoding="utf-8"))
SQL = "SELECT plan, SUM(drugs) AS usd, COUNT(*) AS years FROM rand_hie_spending GROUP BY plan"

with weir_client.connect(ready["public"], identity=STAGE / "people" / "alice.weir") as client:
    # Sums need more of the budget than counts: three parts of four go to `usd`.
    answer = client.query(SQL, contract="spending-1", epsilon="0.2", shares={"usd": 3, "years": 1}).result()
    print(answer)
    for name, noise in answer.noise.items():
        print(f"{name}: {noise.distribution}, scale {noise.scale}, ± {noise.interval95} {noise.unit} at 95 %")
    again = client.query(SQL, contract="spending-1", epsilon="0.2", shares={"usd": 3, "years": 1}).result()
    print(f"asked again: the same numbers, no further loss: {again.sticky and again.rows() == answer.rows()}")
    for balance in client.balance("spending-1"):
        quota = balance.quota
        print(f"{quota.metric_name}: {quota.amount(balance.remaining)} of {quota.amount(quota.limit)} left")
