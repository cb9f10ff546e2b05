# SPDX-License-Identifier: Apache-2.0
"""One dot product by HEU (PyPI `sf-heu`), run by the interpreter of an environment that has it and nothing of Weir.

Reads {"bits", "weights", "scalars", "rounds"} from stdin, writes {"milliseconds", "result"} to stdout, on one core.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time


def main() -> None:
    """Time the product; set-up, key generation and encryption are outside the clock."""
    request = json.load(sys.stdin)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    # By name: neither package need be present where this file is only checked.
    np, hnp, phe = (importlib.import_module(name) for name in ("numpy", "heu.numpy", "heu.phe"))
    kit = hnp.setup(phe.SchemaType.ZPaillier, request["bits"])
    encoder = phe.BigintEncoder(phe.SchemaType.ZPaillier)
    # Object arrays: HEU rounds lists that mix integers above and below 2**63.
    weights = hnp.array(np.array(request["weights"], dtype=object).reshape(-1, 1), encoder)
    scalars = hnp.array(np.array(request["scalars"], dtype=object).reshape(1, -1), encoder)
    encrypted, evaluator = kit.encryptor().encrypt(weights), kit.evaluator()
    milliseconds = []
    for _ in range(request["rounds"]):
        started = time.process_time()
        product = evaluator.matmul(scalars, encrypted)
        milliseconds.append(1000 * (time.process_time() - started))
    result = int(str(kit.decryptor().decrypt(product).to_numpy(encoder)[0][0]))
    json.dump({"milliseconds": milliseconds, "result": result}, sys.stdout)


if __name__ == "__main__":
    main()
