# SPDX-License-Identifier: Apache-2.0
"""Alice's part of `weir demo`: she has the SDK, her certificate, the server's address, and nothing else.

    python -m weir_client.demo.requester ask --receipts DIR
    python -m weir_client.demo.requester again --receipts DIR

Where to reach the server, and who she is, stand in WEIR_SERVER and WEIR_IDENTITY. Exits with 1 when anything is not as
promised: every scene checks what it shows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

import weir_client
from weir import errors

VISITS = "SELECT plan, female, COUNT(*) AS people, AVG(visits) AS visits FROM rand_hie_visits GROUP BY plan, female"
SPENDING = "SELECT plan, COUNT(*) AS years, AVG(outpatient) AS usd FROM rand_hie_spending GROUP BY plan"
WEIGHTED = "SELECT site, SUM(outpatient) AS usd FROM rand_hie_spending GROUP BY site"
SECRET_WEIGHTS = {(1,): 3, (2,): -1, (3,): 0, (4,): 7, (5,): 2, (6,): -4}


class NotAsPromised(Exception):
    """A scene showed something else than promised."""


@click.command()
@click.argument("part", type=click.Choice(["ask", "again"]))
@click.option("--receipts", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(part: str, receipts: Path) -> None:
    """Play one part of Alice's."""
    receipts.mkdir(parents=True, exist_ok=True)
    with weir_client.connect(os.environ.get("WEIR_SERVER"), identity=os.environ["WEIR_IDENTITY"]) as client:
        try:
            (ask if part == "ask" else again)(client)
        except (errors.WeirError, NotAsPromised) as failure:
            say(f"✗ {type(failure).__name__}: {failure}")
            sys.exit(1)
        finally:
            keep_receipts(client, receipts)


def ask(client: weir_client.Client) -> None:
    """Catalogue, estimate, a query in each mode, refusals, and the end of the quota."""
    scenes: Sequence[Callable[[weir_client.Client], None]] = (
        look_around,
        ask_exactly,
        ask_with_noise,
        ask_with_secret_weights,
        be_refused,
        use_up_the_quota,
    )
    for scene in scenes:
        scene(client)


def look_around(client: weir_client.Client) -> None:
    """The catalogue holds cards, no data."""
    say("· What is there?  client.datasets()")
    for dataset in client.datasets():
        modes = ", ".join(dataset.modes)
        say(f"    {dataset.name:<20} {dataset.grade:<10} {modes:<18} {dataset.title}")
        dimensions = ", ".join(dimension.name for dimension in dataset.dimensions)
        measures = ", ".join(measure.name for measure in dataset.measures)
        say(f"    {'':<20} by {dimensions}; of {measures}")
    check(len(client.datasets()) == 2, "two datasets are published")


def ask_exactly(client: weir_client.Client) -> None:
    """Exact over atoms of at least ten people."""
    say(f"\n· Exactly, from atoms of at least ten people:  {VISITS}")
    estimate = client.estimate(VISITS, contract="visits-1")
    say(f"    estimated beforehand: {estimate.cells} cells, CNY {estimate.price}, privacy loss {estimate.epsilon}")
    answer = client.query(VISITS, contract="visits-1").result()
    show(answer)
    check(answer.price == estimate.price, "it cost what was estimated")
    check(answer.verify() is not None, "the receipt verifies against the log's signed checkpoint")
    people = sum(int(row[2] or 0) for row in answer.rows())
    check(5000 < people <= 5912, f"it covers {people} of 5,912 people; the rest are in atoms it would have to cut")


def ask_with_noise(client: weir_client.Client) -> None:
    """Differential privacy; the same question again costs nothing and shows the same numbers."""
    say(f"\n· With differential privacy, epsilon 0.5:  {SPENDING}")
    answer = client.query(SPENDING, contract="spending-1", epsilon="0.5").result()
    show(answer)
    noise = answer.noise["years"]
    say(f"    counts carry {noise.distribution} noise of scale {noise.scale}: ± {noise.interval95} at 95 %")
    check(str(answer.epsilon) == "0.5", "it lost epsilon 0.5, for good, over all requesters together")
    again = client.query(SPENDING, contract="spending-1", epsilon="0.5").result()
    check(again.rows() == answer.rows() and again.sticky, "asked again: the same numbers, at no further loss")
    check(answer.price is not None and again.price is not None and again.price < answer.price, "and cheaper")


def ask_with_secret_weights(client: weir_client.Client) -> None:
    """The server combines what it may release with weights it cannot read."""
    say(f"\n· Encrypted, with secret weights:  {WEIGHTED}")
    keys = weir_client.generate_keypair(bits=3072)
    client.register_key(keys)
    say(
        f"    a phe-compatible key of 3072 bits is made here and registered with a proof; {len(SECRET_WEIGHTS)} weights"
    )
    encrypted = client.encrypted_query(
        WEIGHTED, weights=SECRET_WEIGHTS, keypair=keys, contract="spending-1", epsilon="0.5"
    ).result()
    found = encrypted.decrypt(keys)["usd"]
    plain = client.query(WEIGHTED, contract="spending-1", epsilon="0.5").result()
    expected = sum(SECRET_WEIGHTS[(site,)] * usd for site, usd in plain.rows())  # type: ignore[index, operator, misc]
    say(f"    decrypted here: {found}; from the plain release of the same table: {expected}")
    check(found == expected, "the encrypted result is exact")
    check(plain.sticky, "the plain release underneath was charged once")
    encrypted.verify()


def be_refused(client: weir_client.Client) -> None:
    """What the contract does not allow is refused, with the reason and what would be allowed."""
    say("\n· What the contracts do not allow")
    refused(
        lambda: client.query(
            "SELECT site, AVG(mental_health) FROM rand_hie_spending GROUP BY site", contract="spending-1", epsilon="0.5"
        ).result(),
        errors.PolicyDenied,
    )
    refused(
        lambda: client.query("SELECT COUNT(*) FROM rand_hie_spending", contract="spending-1", mode="exact").result(),
        errors.PolicyDenied,
    )
    refused(
        lambda: client.query(SPENDING, contract="spending-1", epsilon="0.5", purpose="marketing").result(),
        errors.PolicyDenied,
    )
    refused(lambda: client.query("SELECT zper FROM rand_hie_visits", contract="visits-1").result(), errors.InvalidQuery)


def use_up_the_quota(client: weir_client.Client) -> None:
    """Six queries a day, then no more."""
    say("\n· Six exact queries a day; how many are left?")
    for balance in client.balance("visits-1"):
        say(f"    {balance.quota.id}: {used(balance)}")
    for site in range(1, 7):
        try:
            client.query(by_age(site), contract="visits-1").result()
        except errors.QuotaExceeded as refusal:
            hit = refusal.limits[0]
            say(
                f"    {site}th further query refused: {hit.quota}, {hit.used} of {hit.limit} used, "
                f"resets {hit.resets_at}"
            )
            check(site == 6, "exactly the sixth further query did not fit")
            return
    raise NotAsPromised("the quota of six queries a day was not enforced")


def again(client: weir_client.Client) -> None:
    """What the quota refused is answered now."""
    say("· Alice asks the refused question again")
    answer = client.query(by_age(6), contract="visits-1").result()
    show(answer)
    answer.verify()
    for balance in client.balance():
        say(f"    {balance.quota.id}: {used(balance)}")


def used(balance: weir_client.Balance) -> str:
    """What is used of a limit, as people write it."""
    quota = balance.quota
    return f"{quota.amount(balance.used):,} of {quota.amount(quota.limit):,} {quota.metric_name} used"


def by_age(site: int) -> str:
    """One of the questions with which Alice uses up her day."""
    columns = "age, COUNT(*) AS people, SUM(visits) AS visits"
    return f"SELECT {columns} FROM rand_hie_visits WHERE site = {site} GROUP BY age"  # noqa: S608 - parsed here


def refused(attempt: Callable[[], object], expected: type[errors.WeirError]) -> None:
    """Show a refusal, and insist on it."""
    try:
        attempt()
    except expected as refusal:
        say(f"    refused as {type(refusal).__name__}: {refusal.message}")
        return
    raise NotAsPromised(f"{expected.__name__} was promised, an answer came")


def keep_receipts(client: weir_client.Client, directory: Path) -> None:
    """Keep every receipt as a file, for whoever audits."""
    for receipt in client.receipts():
        receipt.save(directory / f"{receipt.index:08d}.json")


def show(answer: weir_client.Answer) -> None:
    """An answer as a table, indented."""
    say("\n".join(f"    {line}" for line in str(answer).splitlines()))


def check(held: bool, promise: str) -> None:
    """Say that a promise held, or stop."""
    if not held:
        raise NotAsPromised(promise)
    say(f"    ✓ {promise}")


def say(text: str) -> None:
    """One line of the story."""
    click.echo(text)


if __name__ == "__main__":
    main()
