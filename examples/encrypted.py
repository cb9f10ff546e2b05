# SPDX-License-Identifier: Apache-2.0
"""Secret weights: the service adds up cells with weights it never sees, and cannot read the total."""

import json
from pathlib import Path

import weir_client

STAGE = Path(".weir-demo")
ready = json.loads((STAGE / "ready.json").read_text(encoding="utf-8"))
SQL = "SELECT plan, SUM(visits) AS visits FROM rand_hie_visits GROUP BY plan"
WEIGHTS = {"free": 3, "shared": 0, "high": -1}

keys = weir_client.generate_keypair(2048)  # the private half stays in this process; 3072 bits is the default
with weir_client.connect(ready["public"], identity=STAGE / "people" / "alice.weir") as client:
    encrypted = client.encrypted_query(SQL, weights=WEIGHTS, keypair=keys, contract="visits-1").result()
    encrypted.verify()
    total = encrypted.decrypt(keys)["visits"]
    plain = client.query(SQL, contract="visits-1").result()
    expected = sum(WEIGHTS[plan] * visits for plan, visits in plain.rows())
    print(f"decrypted here: {total}; from the plain answer: {expected}; equal: {total == expected}")
