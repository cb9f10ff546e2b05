# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.support.client import PLAN_HASH, SIGNER, FakeLog, identity_file
from weir import errors
from weir.v1 import answer_pb2, policy_service_pb2, query_service_pb2, quota_service_pb2
from weir_client import cli
from weir_client.cli import output

SQL = "SELECT region, COUNT(*) AS n FROM census GROUP BY region"


def test_a_query_prints_a_table_and_its_verified_entry(weir):
    code, out, err = weir("query", SQL, "-c", "c-1")
    assert (code, err) == (0, "")
    assert "north   100" in out
    assert "entry 1 of the log, verified · price 1.12" in out


def test_a_query_prints_json(weir):
    code, out, _ = weir("query", SQL, "-c", "c-1", "--json", "--no-verify", "--idempotency-key", "k" * 20)
    document = json.loads(out)
    assert code == 0
    assert document["rows"] == [["north", 100], ["south", 107]]
    assert document["columns"] == ["region", "n"]
    assert (document["verified"], document["log_index"]) == (False, 1)
    assert document["idempotency_key"] == "k" * 20


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidQuery("x"), 2),
        (errors.UnknownName("x"), 2),
        (errors.PolicyDenied("x"), 3),
        (errors.ApprovalRequired("x"), 3),
        (errors.QuotaExceeded("x"), 3),
        (errors.BudgetExhausted("x"), 3),
        (errors.Suspended("x"), 3),
        (errors.InvalidReceipt("x"), 4),
        (errors.LogInconsistent("x", older="", newer=""), 4),
        (errors.Unavailable("x"), 5),
        (errors.Overloaded("x"), 5),
        (errors.PermissionDenied("x"), 1),
        (errors.Unauthenticated("x"), 1),
        (errors.InternalError("x"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_exit_codes_say_what_kind_of_error_it_was(weir, domain, error, code):
    domain.refuse["GetBalance"] = [error] * 10
    found, out, err = weir("balance", "--timeout", 30)
    assert found == code
    assert out == ""
    assert err.startswith("weir: x")
    assert err.count("\n") == 1


def test_with_json_an_error_is_one_object_on_standard_error_and_the_exit_code_stays(weir, domain):
    hit = errors.LimitHit("q-1", "queries", 40, 40, 1, "2026-11-23T00:00:00Z")
    domain.refuse["RunQuery"] = [
        errors.QuotaExceeded("limit reached: q-1", limits=[hit], rule="quota.limit"),
        errors.ApprovalRequired("a person must approve", rule="contract.approval", metadata={"approval": "ap-7"}),
        errors.PolicyDenied("no\x1b[31m", reasons=[errors.DenialReason("contract.mode", "ask exactly")], field="mode"),
    ]
    found = [weir("query", SQL, "-c", "c-1", "--json") for _ in range(3)]
    assert [(code, out) for code, out, _ in found] == [(3, "")] * 3
    assert all(err.count("\n") == 1 and "\x1b" not in err for _, _, err in found)
    limit, approval, denied = (json.loads(err)["error"] for _, _, err in found)
    assert limit["limits"] == [
        {"quota": "q-1", "metric": "queries", "limit": 40, "used": 40, "requested": 1,
         "resets_at": "2026-11-23T00:00:00Z"}
    ]  # fmt: skip
    assert (limit["reason"], limit["rule"], limit["exit_code"]) == ("QUOTA_EXCEEDED", "quota.limit", 3)
    assert approval["metadata"] == {"approval": "ap-7"}
    assert "weir approvals resume ap-7" in approval["advice"]
    assert (denied["reasons"], denied["field"]) == ([{"code": "contract.mode", "sentence": "ask exactly"}], "mode")


def test_with_json_wrong_use_is_an_object_too(weir):
    code, out, err = weir("query", SQL, "--json")
    assert (code, out) == (2, "")
    told = json.loads(err)["error"]
    assert (told["reason"], told["exit_code"]) == ("USAGE", 2)
    assert "--contract" in told["message"]
    # Behind -- it is an argument like any other.
    assert weir("query", "--", "--json")[2].startswith("Usage:")


def test_an_error_is_one_line_with_rule_and_field(weir, domain):
    reason = errors.DenialReason("contract.mode", "ask in\nexact mode")
    domain.refuse["RunQuery"] = [
        errors.PolicyDenied("no\x1b[31m", reasons=[reason], rule="contract.mode", field="mode")
    ]
    _, _, err = weir("query", SQL, "-c", "c-1")
    assert err == "weir: no [31m; ask in exact mode (rule contract.mode, field mode)\n"


def test_a_query_that_needs_approval_says_how_to_go_on(weir, domain):
    domain.refuse["RunQuery"] = [errors.ApprovalRequired("a person must approve", metadata={"approval": "ap-7"})]
    code, _, err = weir("query", SQL, "-c", "c-1", "--idempotency-key", "k" * 20)
    assert code == 3
    first, advice = err.splitlines()
    assert first == "weir: a person must approve (approval ap-7)"
    assert advice == "once approved: weir approvals resume ap-7 (again, if need be: it is charged once)"


def test_a_query_whose_reply_may_be_lost_names_the_key_that_gives_it_again(weir, domain):
    domain.refuse["RunQuery"] = [errors.Unavailable("not reachable")] * 9
    code, _, err = weir("query", SQL, "-c", "c-1", "--idempotency-key", "k" * 20)
    assert code == 5
    assert err.splitlines()[1] == f"it may have been answered: ask again with --idempotency-key {'k' * 20}"


@pytest.mark.parametrize(
    "args",
    [
        ["query"],
        ["query", SQL],
        ["query", SQL, "-c", "c-1", "--mode", "fast"],
        ["query", SQL, "-c", "c-1", "--epsilon", "much"],
        ["query", "SELECT *", "-c", "c-1"],
        ["nonsense"],
        ["balance", "--timeout", "9999"],
        ["suspend", "all", "x", "--reason", "r"],
        ["suspend", "contract", "--reason", "r"],
        ["audit", "verify", "--offline"],
        ["datasets", "nowhere"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_with_2(weir, args):
    code, out, err = weir(*args)
    assert code == 2
    assert out == ""
    assert err


def test_a_missing_identity_is_wrong_use(weir, monkeypatch):
    monkeypatch.delenv("WEIR_IDENTITY")
    code, _, err = weir("balance")
    assert code == 2
    assert "WEIR_IDENTITY" in err


def test_an_unreachable_service_exits_with_5(weir):
    code, _, err = weir("balance", "--server", "127.0.0.1:1", "--timeout", 1)
    assert code == 5
    assert "cannot be reached" in err


def test_catalogue_and_books_are_shown(weir):
    weir("query", SQL, "-c", "c-1")
    assert "census_c" in weir("datasets")[1]
    assert "census_c" not in weir("datasets", "--search", "_b")[1]
    card = weir("datasets", "census")[1]
    assert "2024, 2025, null" in card
    assert "income" in card
    assert json.loads(weir("datasets", "census", "--json")[1])["measures"][0]["upper"] == "100.00"
    assert "would be refused" in weir("estimate", SQL, "-c", "c-1", "--epsilon", "0.5")[1]
    assert json.loads(weir("estimate", SQL, "-c", "c-1", "--json")[1])["verdict"] == "deny"
    assert "c-1" in weir("contracts")[1]
    assert "offered · hospital → alice" in weir("contracts", "show", "c-1")[1]
    assert weir("contracts", "show", "c-9")[0] == 2
    assert "q-1" in weir("balance", "c-1")[1]
    assert "weir.query.released" in weir("receipts")[1]


def test_an_estimate_says_what_a_limit_lacks_and_the_noise_in_the_query_s_words(weir, domain, monkeypatch):
    lack = query_service_pb2.DecisionReason(code="quota.limit", sentence="limit reached: q-1 has queries 0 left")
    verdict = query_service_pb2.VERDICT_NEEDS_APPROVAL
    noise = [
        answer_pb2.Noise(distribution="composite"),
        answer_pb2.Noise(distribution="discrete laplace", scale="2", interval95="650"),
    ]

    def estimate(request):
        decision = query_service_pb2.Decision(verdict=verdict, reasons=[lack])
        return query_service_pb2.EstimateQueryResponse(decision=decision, snapshot=1, noise=noise)

    monkeypatch.setattr(domain, "EstimateQuery", estimate)
    shown = weir("estimate", "SELECT SUM(income) AS s, AVG(income) FROM census", "-c", "c-1")[1].splitlines()
    assert shown[0] == "needs approval, and would be refused even then"
    assert shown[2:] == [
        "quota.limit: limit reached: q-1 has queries 0 left",
        "noise of avg(income): composite, no interval that holds for every cell",
        "noise of s: ± 6.50 CNY (95 %), discrete laplace",
    ]


def test_amounts_are_readable_in_tables_and_whole_numbers_in_json(weir, domain, monkeypatch):
    def balances():
        for metric, limit, used in (("epsilon_nano", 4 * 10**9, 750_000_000), ("price_micro", 2000 * 10**6, 1_120_000)):
            quota = quota_service_pb2.Quota(id=metric, metric=metric, contract="c-1", window="lifetime", limit=limit)
            yield quota_service_pb2.Balance(quota=quota, used=used)

    def contracts(request):
        rates = policy_service_pb2.RateCard(currency="CNY")
        return policy_service_pb2.ListContractsResponse(contracts=[policy_service_pb2.Contract(id="c-1", rates=rates)])

    monkeypatch.setattr(domain, "ListContracts", contracts, raising=False)
    for call, response in (("GetBalance", "GetBalanceResponse"), ("ListQuotas", "ListQuotasResponse")):
        made = getattr(quota_service_pb2, response)
        monkeypatch.setattr(domain, call, lambda request, made=made: made(balances=list(balances())), raising=False)
    for command in (("balance",), ("quota", "show")):
        lines = weir(*command)[1].splitlines()
        assert lines[2].split() == ["epsilon_nano", "epsilon", "0.75", "0", "4", "3.25", "lifetime", "–"]
        assert lines[3].split()[1:7] == ["price", "CNY", "1.12", "0", "2,000", "1,998.88"]
        document = json.loads(weir(*command, "--json")[1])
        assert (document[0]["used"], document[1]["quota"]["limit"]) == (750_000_000, 2_000_000_000)
        assert document[1]["quota"]["metric"] == "price_micro"


def test_receipts_are_saved_and_verify_offline_and_online(weir, tmp_path):
    weir("query", SQL, "-c", "c-1", "--save-receipt", tmp_path / "r" / "one.json")
    weir("receipts", "--save", tmp_path / "r")
    code, out, _ = weir("audit", "verify", tmp_path / "r", "--offline")
    assert code == 0
    assert out.count("entry 1, weir.query.released") == 2
    code, out, _ = weir("audit", "verify", "--offline", "--log-key", SIGNER.verifier.vkey, tmp_path / "r" / "one.json")
    assert code == 0
    code, out, _ = weir("audit", "verify", "--receipts", tmp_path / "r")
    assert code == 0
    assert "the meter agrees with the log" in out
    assert "one.json: entry 1" in out
    document = json.loads(weir("audit", "verify", "--json", "--receipts", tmp_path / "r")[1])
    assert (document["size"], len(document["receipts"])) == (2, 2)


def test_a_forged_receipt_exits_with_4(weir, tmp_path):
    path = tmp_path / "one.json"
    weir("query", SQL, "-c", "c-1", "--save-receipt", path)
    path.write_text(path.read_text().replace('"answer": "C', '"answer": "D'))
    code, _, err = weir("audit", "verify", "--offline", path)
    assert code == 4
    assert "receipt.answer" in err
    path.write_text("not json")
    assert weir("audit", "verify", "--offline", path)[0] == 4


def test_a_receipt_of_another_history_exits_with_4(weir, domain, tmp_path):
    path = tmp_path / "one.json"
    honest = domain.log
    domain.log = FakeLog()
    weir("query", SQL, "-c", "c-1", "--save-receipt", path, "--no-verify")
    domain.log = honest
    domain.metered = 0
    domain._charge(b"1")
    domain._charge(b"2")
    code, _, err = weir("audit", "verify", path)
    assert code == 4
    assert "log" in err


def test_a_meter_that_does_not_add_up_exits_with_4(weir, domain):
    weir("query", SQL, "-c", "c-1")
    domain.metered += 1
    code, _, err = weir("audit", "verify")
    assert code == 4
    assert "meter.total" in err


def test_the_log_s_end_is_shown(weir, domain):
    for number in range(3):
        domain._charge(bytes([number]))
    assert [line.split()[0] for line in weir("audit", "tail", "-n", 2)[1].splitlines()] == ["4", "5"]
    lines = weir("audit", "tail", "-n", 2, "--type", "weir.query.reserved", "--json")[1].splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["2", "4"]


def test_operators_act_from_afar(weir, domain):
    listed = weir("approvals")[1]
    for shown in ("ap-1", "research", "encrypted", "key sha256:abababababab…", "alice, carol", "weights of 16 bits"):
        assert shown in listed
    assert "ap-1" in weir("approvals", "list")[1]
    assert "ap-1: approved" in weir("approvals", "approve", "ap-1", "--reason", "fine")[1]
    assert "ap-1: rejected" in weir("approvals", "reject", "ap-1", "--reason", "no")[1]
    assert "q-1" in weir("quota", "show")[1]
    assert weir("quota", "set", "q-1", "--limit", 40, "--reason", "report due")[0] == 0
    request = next(request for name, request in reversed(domain.requests) if name == "SetQuota")
    assert (request.quota.limit, request.quota.metric, request.quota.window) == (40, "queries", "day")
    assert weir("quota", "set", "q-1", "--limit", 40, "--metric", "cells", "--reason", "r")[0] == 2
    assert weir("quota", "set", "q-9", "--limit", 40, "--reason", "r")[0] == 2
    assert (
        weir("quota", "set", "q-9", "--limit", 40, "--metric", "cells", "--requester", "bob", "--reason", "r")[0] == 0
    )
    assert "stopped: contract c-1" in weir("suspend", "contract", "c-1", "--reason", "misuse")[1]
    assert "resumed: contract c-1" in weir("suspend", "contract", "c-1", "--resume", "--reason", "over")[1]


def test_plan_marks_what_loosens_and_apply_refuses_what_moved(weir, domain, tmp_path):
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "b.yaml").write_text("# comment\n---\nkind: contract\ncontract: c-2\n---\nkind: quota\n---\n# nothing\n")
    (folder / "a.yml").write_text("kind: contract\ncontract: c-1\n")
    (folder / "notes.txt").write_text("not policy")
    code, out, _ = weir("plan", folder)
    assert code == 0
    assert "~ contract/c-1  LOOSENS" in out
    assert "k: 10 → 5" in out
    sent = next(request for name, request in reversed(domain.requests) if name == "ApplyPolicy")
    assert list(sent.documents) == [
        "kind: contract\ncontract: c-1\n",
        "kind: contract\ncontract: c-2\n",
        "kind: quota\n",
    ]
    plan_hash = out.rsplit(" ", 1)[1].strip()
    assert plan_hash == PLAN_HASH
    assert weir("apply", folder, "--plan-hash", "0" * 64)[0] == 2
    assert [request.dry_run for name, request in domain.requests if name == "ApplyPolicy"] == [True, True]
    code, out, _ = weir("apply", folder, "--plan-hash", plan_hash)
    assert code == 0
    assert out.endswith("applied\n")
    applied = next(request for name, request in reversed(domain.requests) if name == "ApplyPolicy")
    assert (applied.dry_run, applied.plan_hash) == (False, PLAN_HASH)
    assert weir("apply", folder, "--yes")[0] == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    assert weir("plan", empty)[0] == 2


def test_apply_asks_before_it_acts(weir, domain, tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    path.write_text("kind: contract\n")
    monkeypatch.setattr(click, "confirm", lambda *_, **options: (_ for _ in ()).throw(click.Abort()))
    code, out, _ = weir("apply", path)
    assert code == 130
    assert "LOOSENS" in out
    assert [request.dry_run for name, request in domain.requests if name == "ApplyPolicy"] == [True]


def test_an_encrypted_query_from_key_to_total(weir, tmp_path, keypair):
    key, weights = tmp_path / "k.json", tmp_path / "w.json"
    keypair.save(key, "secret")
    assert keypair.public.key_id in weir("keys", "show", key, "--passphrase", "secret")[1]
    assert weir("keys", "show", key, "--passphrase", "wrong")[0] == 2
    assert "registered" in weir("keys", "register", key, "--passphrase", "secret")[1]
    for text, total in (('{"north": 2}', 200), ("[0, 1]", 107), ('[{"key": ["south"], "weight": -1}]', -107)):
        weights.write_text(text)
        code, out, _ = weir(
            "encrypted", SQL, "-c", "c-1", "--weights", weights, "--key", key, "--passphrase", "secret", "--json"
        )
        assert code == 0
        assert json.loads(out)["totals"] == {"n": total}
    for text in ("[1.5, 2]", "3", "nonsense", '[{"key": 3}]'):
        weights.write_text(text)
        assert weir("encrypted", SQL, "-c", "c-1", "--weights", weights, "--key", key, "--passphrase", "secret")[0] == 2


def test_a_key_file_is_private_and_never_overwritten(weir, tmp_path, monkeypatch, keypair):
    monkeypatch.setattr("weir_client.cli.encrypted.generate_keypair", lambda bits, progress: keypair)
    path = tmp_path / "k.json"
    code, out, _ = weir("keys", "new", path, "--bits", "2048", "--json")
    assert code == 0
    assert json.loads(out)["bits"] == 2048
    assert path.stat().st_mode & 0o077 == 0
    assert weir("keys", "new", path)[0] == 2


def test_progress_is_drawn_on_a_terminal_only(monkeypatch):
    with output.progress("working") as update:
        assert update is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with output.progress("working") as update:
        assert update is not None
        update(1, 2)
        update(2, 2)


def test_without_the_server_extra_its_commands_name_it(weir, monkeypatch):
    class Broken:
        name = "server"

        def load(self):
            raise ImportError("No module named 'duckdb'", name="duckdb")

    monkeypatch.setattr(cli, "entry_points", lambda group: [Broken()])
    monkeypatch.setattr(cli.cli, "_loaded", False)
    monkeypatch.setattr(cli.cli, "commands", dict(cli.cli.commands))
    audit = cli.cli.get_command(click.Context(cli.cli), "audit")
    assert isinstance(audit, click.Group)
    monkeypatch.setattr(audit, "commands", dict(audit.commands))
    for name in cli.SERVER_COMMANDS:
        cli.cli.commands.pop(name, None)
    code, out, err = weir("serve", "--data", "x")
    assert code == 1
    assert out == ""
    assert "pip install 'dataweir[server]'" in err
    assert "dataweir[demo]" in weir("demo")[2]
    assert "serve" in weir("--help")[1]


def test_a_broken_server_is_not_taken_for_a_missing_extra(monkeypatch):
    class Broken:
        name = "server"

        def load(self):
            raise ImportError("No module named 'weir_server.app'", name="weir_server.app")

    monkeypatch.setattr(cli, "entry_points", lambda group: [Broken()])
    monkeypatch.setattr(cli.cli, "_loaded", False)
    monkeypatch.setattr(cli.cli, "commands", {})
    with pytest.raises(ImportError):
        cli.cli.get_command(click.Context(cli.cli), "serve")


def test_commands_of_other_plugins_are_listed_with_their_own_help(weir, monkeypatch):
    class Plugin:
        name = "other"

        def load(self):
            return lambda group: group.add_command(click.Command("census-tools", help="Count by hand."))

    monkeypatch.setattr(cli, "entry_points", lambda group: [Plugin()])
    monkeypatch.setattr(cli.cli, "_loaded", False)
    monkeypatch.setattr(cli.cli, "commands", {})
    assert "census-tools  Count by hand." in weir("--help")[1]


def commands(group: click.Group, path: tuple[str, ...] = ()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


WITHOUT_SERVICE = {
    ("keys", "new"), ("keys", "show"), ("keys", "public"), ("sealed", "add"), ("sealed", "open"),
    ("audit", "witness"), ("audit", "trace"), ("audit", "replay"), ("contracts", "key"),
    ("certify",),
}  # fmt: skip
OWN = [item for item in commands(cli.cli) if item[0][0] not in cli.SERVER_COMMANDS]


@pytest.mark.parametrize(("path", "command"), OWN, ids=[" ".join(path) for path, _ in OWN])
def test_every_command_explains_itself_and_has_the_common_options(path, command):
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    if path not in WITHOUT_SERVICE:
        assert {"--server", "--identity", "--timeout"} <= options
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.type.name == "choice", parameter.name


def test_the_shell_completes_commands(tmp_path):
    environment = {**os.environ, "_WEIR_COMPLETE": "bash_complete", "COMP_WORDS": "weir que", "COMP_CWORD": "1"}
    script = "from weir_client.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.split() == ["plain,query"]


def test_the_module_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "weir_client.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert "0." in done.stdout
    assert Path(sys.executable).exists()


def test_the_help_without_loading_is_the_commands_own():
    context = click.Context(cli.cli)
    known = {**{name: text for name, (_, text) in cli.OWN_COMMANDS.items()}, **cli.SERVER_HELP}
    assert set(cli.SERVER_HELP) == set(cli.SERVER_COMMANDS)
    for name, text in known.items():
        assert cli.cli.get_command(context, name).get_short_help_str(80) == text, name
    assert cli.cli.list_commands(context) == sorted(known)


@pytest.mark.parametrize(
    ("args", "unneeded"),
    [
        (["--help"], {"sqlglot", "phe", "pandas", "grpc", "google", "cryptography", "weir_server", "asyncio"}),
        (["balance", "--help"], {"sqlglot", "phe", "pandas", "weir_server"}),
        (["query", SQL, "-c", "c-1"], {"phe", "pandas", "duckdb", "opendp", "weir_server"}),
    ],
    ids=["help", "help of a command", "query"],
)
def test_a_command_loads_no_more_than_it_needs(domain, tmp_path, args, unneeded):
    environment = {
        **os.environ, "WEIR_IDENTITY": str(identity_file(domain, tmp_path)), "XDG_STATE_HOME": str(tmp_path)
    }  # fmt: skip
    script = (
        "import sys; from weir_client import cli; code = cli.run(sys.argv[1:]);"
        "print(code, *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args], env=environment, capture_output=True, text=True, check=True
    )
    code, *loaded = done.stderr.split()
    assert code == "0"
    assert unneeded & set(loaded) == set()
