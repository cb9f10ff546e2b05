# SPDX-License-Identifier: Apache-2.0
"""A dataset that lies on a Spark cluster: published there, asked there, from nothing to an answer in one command.

    python examples/spark/run.py                             Sail, a server that speaks Spark Connect, on this machine
    SPARK_REMOTE=sc://host:15002 python examples/spark/run.py [DIRECTORY]

DIRECTORY is one that this machine and every executor reach under the same name; by default a temporary one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

import weir_client
from weir_server.demo.stage import Stage, weir_command

HERE = Path(__file__).parent
PEOPLE = (("operator", "olivia"), ("requester", "alice"))
EXACT = "SELECT district, COUNT(*), SUM(items) FROM shop_orders GROUP BY district"
NOISY = "SELECT district, month, COUNT(*), AVG(amount) FROM shop_orders WHERE amount >= 50 GROUP BY district, month"


def main(arguments: list[str]) -> int:
    """Everything, in order; 0 when both questions were answered and their receipts verify."""
    with tempfile.TemporaryDirectory(prefix="weir-example-") as folder, cluster() as remote:
        stage = Stage(Path(folder))
        shared = Path(arguments[0] if arguments else folder) / "cluster"
        shared.mkdir()
        prepare(stage, remote, shared)
        stage.start_server()
        try:
            publish(stage, shared)
            ask(stage)
        finally:
            stage.stop_server()
    return 0


@contextmanager
def cluster() -> Iterator[str]:
    """Where a Spark Connect server is: the one that is named, or Sail, in this process."""
    named = os.environ.get("SPARK_REMOTE")
    if named:
        yield named
        return
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    print(f"Sail is up on {host}:{port}", flush=True)
    try:
        yield f"sc://{host}:{port}"
    finally:
        server.stop()


def prepare(stage: Stage, remote: str, shared: Path) -> None:
    """Orders where the cluster reads them, and a domain that knows the cluster."""
    numbers = range(9000)
    orders = pa.table(
        {
            "shop": [f"s{n % 900}" for n in numbers],
            "district": [("east", "north", "west")[n % 900 % 3] for n in numbers],
            "month": [n // 900 % 3 + 1 for n in numbers],
            "items": [n * 7 % 11 for n in numbers],
            "amount": [f"{n * 13 % 199}.{n % 10}0" for n in numbers],
        }
    )
    pa.parquet.write_table(orders, shared / "orders.parquet")
    (stage.directory / "people").mkdir()
    weir, data = weir_command(), f"--data={stage.data_dir}"
    stage.run([*weir, "init", str(stage.data_dir), "--domain=market.example"], shown=1)
    settings = f'[spark]\nremote = "{remote}"\ndirectory = "{shared}"\n'
    (stage.data_dir / "weir.toml").write_text(settings, encoding="utf-8")
    for role, name in PEOPLE:
        identity = [*weir, "identity", data, f"--role={role}", f"--name={name}", f"--output={stage.identity(name)}"]
        stage.run(identity)


def publish(stage: Stage, shared: Path) -> None:
    """The dataset, worked on where it lies; then the contract under which it may be asked."""
    card = stage.directory / "card.yaml"
    text = (HERE / "card.yaml").read_text(encoding="utf-8")
    card.write_text(text.replace("ORDERS", str(shared / "orders.parquet")), encoding="utf-8")
    command = [*weir_command(), "publish", str(card), f"--data={stage.data_dir}"]
    stage.run([*command, f"--server={stage.addresses['admin']}", f"--identity={stage.identity('olivia')}"])
    stage.run([*weir_command(), "apply", str(HERE / "policy"), "--yes"], actor="olivia", listener="admin")


def ask(stage: Stage) -> None:
    """One question from the atoms, which lie here, and one that the cluster works out from its bounded rows."""
    with weir_client.connect(stage.addresses["public"], identity=stage.identity("alice")) as client:
        for sql, mode, epsilon in ((EXACT, "exact", None), (NOISY, "dp", "1")):
            answer = client.query(sql, contract="orders-1", mode=mode, epsilon=epsilon).result()
            print(f"\n{sql}\n{answer}\nentry {answer.verify().index} of the log", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
