# SPDX-License-Identifier: Apache-2.0
"""The sandbox and the exports of a real server, through the SDK, by somebody without any contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import weir_client
from tests.support.sample import write_sources
from tests.support.server import running_server
from weir import errors
from weir_server.publication import publish_to_server


@pytest.mark.slow
def test_somebody_without_a_contract_plays_exports_and_leaves_no_trace(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        olga = server.identity("operator", "olga")
        for card in write_sources(tmp_path / "sources"):
            publish_to_server(
                card,
                data_dir=server.data_dir,
                source=None,
                server=server.admin,
                identity_file=olga,
                progress=lambda line: None,
            )
        alice = server.identity("requester", "alice")
        with weir_client.connect(server.public, identity=alice, state_dir=tmp_path / "state") as client:
            cards = client.datasets()
            assert client.contracts() == []
            before = client.checkpoint()
            for card in cards:
                measure = card.measures[0]
                sql = f"SELECT {card.dimensions[0].name}, SUM({measure.name}) FROM {card.name} GROUP BY 1"
                sql = sql.replace("GROUP BY 1", f"GROUP BY {card.dimensions[0].name}")
                epsilon = "1" if measure.mode == "dp" else None
                answer = client.sandbox(card.name).query(sql, epsilon=epsilon).result(60)
                assert answer.sandbox
                assert len(answer) == len(card.dimensions[0].cells)
                with pytest.raises(errors.UnknownName):
                    client.query(sql, contract="none", epsilon=epsilon).result(60)
                with pytest.raises(errors.UnknownName):
                    client.sandbox(card.name).query(f"SELECT SUM(nothing) FROM {card.name}").result(60)
            assert client.receipts() != []  # the refusals of the real queries; the sandbox left none
            assert len(client.receipts()) == len(cards)
            assert client.checkpoint() != before
            catalogue = json.loads(client.export_catalogue("dcat"))
            assert {item["dcterms:identifier"] for item in catalogue["dcat:dataset"]} == {card.name for card in cards}
            assert client.export_catalogue("odcs", cards[0].name).startswith("apiVersion: v3")
        kept = list((server.data_dir / "sandbox" / "0").iterdir())
        assert len(kept) == len(cards)
        server.stop()
        assert [path.name for path in (server.data_dir / "sandbox").iterdir() if path.is_dir()] == []
