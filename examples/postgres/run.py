# SPDX-License-Identifier: Apache-2.0
"""Two server processes that share one ledger in PostgreSQL, from nothing to the audit, in one command.

python examples/postgres/run.py                          a PostgreSQL of its own, gone afterwards
python examples/postgres/run.py "host=… dbname=weir"     one that is there; without a password (docs/operate.md)
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import weir_client
from weir.errors import QuotaExceeded
from weir_server.demo.stage import Stage, weir_command

HERE = Path(__file__).parent
QUESTIONS = 45
PEOPLE = (("operator", "olivia"), ("requester", "alice"))
SQL = ("SELECT district, COUNT(*), SUM(items) FROM shop_orders GROUP BY district", "SELECT AVG(items) FROM shop_orders")


def main(arguments: list[str]) -> int:
    """Everything, in order; 0 when the books are in order at the end."""
    with tempfile.TemporaryDirectory(prefix="weir-example-") as folder, database(arguments) as conninfo:
        stage = Stage(Path(folder))
        prepare(stage, conninfo)
        stage.start_server("--workers=2")
        try:
            publish(stage)
            answered, refused = ask(stage)
            say(f"two processes, one quota of 40: {answered} answered, {refused} refused")
        finally:
            stage.stop_server()
        say("the books, rebuilt from the log's entries:")
        stage.run([*weir_command(), "fsck", f"--data={stage.data_dir}"])
    return 0 if (answered, refused) == (40, QUESTIONS - 40) else 1


@contextmanager
def database(arguments: list[str]) -> Iterator[str]:
    """Connection string of the named PostgreSQL, or of one that is made for this run."""
    if arguments:
        yield arguments[0]
        return
    programs = next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    found = shutil.which("initdb")
    if programs is None and found is None:
        sys.exit("PostgreSQL is not installed here: name one, as in run.py 'host=… user=… dbname=…'")
    directory = Path(tempfile.mkdtemp(prefix="weir-pg-"))  # a short path, since it holds a socket
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(directory, account.pw_uid, account.pw_gid)

    def run(program: str, *options: str) -> None:
        path = (programs or Path(str(found)).parent) / program
        command = [str(path), "-D", str(directory / "data"), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd=directory)

    try:
        run("initdb", "-U", "weir", "--auth=trust")
        run("pg_ctl", "-w", "-o", f"-c listen_addresses='' -k {directory}", "-l", str(directory / "log"), "start")
        say("a PostgreSQL of our own is up")
        try:
            yield f"host={directory} user=weir dbname=postgres"
        finally:
            run("pg_ctl", "-w", "-m", "fast", "stop")
    finally:
        shutil.rmtree(directory)


def prepare(stage: Stage, conninfo: str) -> None:
    """A domain whose books are in PostgreSQL, and who may call it."""
    (stage.directory / "people").mkdir()
    weir, data = weir_command(), f"--data={stage.data_dir}"
    stage.run([*weir, "init", str(stage.data_dir), "--domain=market.example"])
    (stage.data_dir / "weir.toml").write_text(f'[ledger]\npostgres = "{conninfo}"\n', encoding="utf-8")
    for role, name in PEOPLE:
        identity = [*weir, "identity", data, f"--role={role}", f"--name={name}", f"--output={stage.identity(name)}"]
        stage.run(identity)


def publish(stage: Stage) -> None:
    """The orders, and the contract under which they may be asked for."""
    orders = stage.directory / "orders.csv"
    lines = [f"s{n % 900},{('east', 'north', 'west')[n % 900 % 3]},{n * 7 % 11}" for n in range(9000)]
    orders.write_text("\n".join(["shop,district,items", *lines]) + "\n", encoding="utf-8")
    command = [*weir_command(), "publish", str(HERE / "card.yaml"), f"--data={stage.data_dir}", f"--source={orders}"]
    stage.run([*command, f"--server={stage.addresses['admin']}", f"--identity={stage.identity('olivia')}"])
    stage.run([*weir_command(), "apply", str(HERE / "policy"), "--yes"], actor="olivia", listener="admin")


def ask(stage: Stage) -> tuple[int, int]:
    """Asks over many connections at once, which the machine spreads over both processes; answered, refused."""

    def one(number: int) -> bool:
        with weir_client.connect(stage.addresses["public"], identity=stage.identity("alice")) as client:
            try:
                answer = client.query(SQL[number % 2], contract="orders-1").result()
            except QuotaExceeded:
                return False
            if number == 0:
                print(answer, flush=True)
            answer.verify()
            return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(QUESTIONS)))
    return sum(results), len(results) - sum(results)


def say(sentence: str) -> None:
    """One line for whoever watches."""
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
