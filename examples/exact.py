# SPDX-License-Identifier: Apache-2.0
"""Exact answers: true numbers over groups of at least ten people, with a receipt that anybody can check."""

import json
from pathlib import Path

import weir_client

STAGE = Path(".weir-demo")
ready = json.loads((STAGE / "ready.json").read_text(encoding="utf-8"))
SQL = "SELECT plan, COUNT(*) AS people, AVG(visits) AS visits FROM rand_hie_visits GROUP BY plan ORDER BY visits DESC"

with weir_client.connect(ready["public"], identity=STAGE / "people" / "alice.weir") as client:
    estimate = client.estimate(SQL, contract="visits-1")
    print(f"{estimate.verdict}: {estimate.cells} cells, price {estimate.price}")
    answer = client.query(SQL, contract="visits-1").result()
    print(answer)
    for plan, ratio in zip(answer.column("plan").values, answer.column("visits").exact, strict=True):
        print(f"{plan}: exactly {ratio}")
    print(f"entry {answer.verify().index} of the log, under a checkpoint that extends every one seen before")
