# SPDX-License-Identifier: Apache-2.0
"""A dataset's sandbox: find a dataset, try questions on synthetic rows, and see what would be refused. No contract."""

import json
from pathlib import Path

import weir_client
from weir_client import errors

STAGE = Path(".weir-demo")
ready = json.loads((STAGE / "ready.json").read_text(encoding="utf-8"))
EXACT = "SELECT plan, COUNT(*) AS people, AVG(visits) FROM rand_hie_visits GROUP BY plan"
DP = "SELECT year, SUM(drugs) AS usd FROM rand_hie_spending GROUP BY year"

with weir_client.connect(ready["public"], identity=STAGE / "people" / "alice.weir") as client:
    for card in client.datasets("保险 experiment"):
        print(f"{card.name}: {card.title} ({card.grade}; {', '.join(card.modes)})")

    # The same stages as a real query, on rows drawn from the card alone: nothing is charged, nothing is logged.
    visits = client.sandbox("rand_hie_visits")
    answer = visits.query(EXACT).result()
    print(answer)
    print(repr(answer), answer.to_pandas().attrs)

    # Noise is real, so an analysis learns what its epsilon buys before it is spent.
    spending = client.sandbox("rand_hie_spending")
    for epsilon in ("0.1", "1"):
        print(f"ε = {epsilon}: usd ± {spending.query(DP, epsilon=epsilon).result().noise['usd'].interval95}")

    for sql in ("SELECT SUM(income) FROM rand_hie_visits", "SELECT COUNT(*) FROM rand_hie_visits WHERE visits > 5"):
        try:
            visits.query(sql).result()
        except errors.WeirError as error:
            print(f"refused, as it would be for real: {error.message}")
    try:
        answer.verify()
    except errors.InvalidReceipt as error:
        print(error.message)
