# SPDX-License-Identifier: Apache-2.0
import inspect
import pkgutil
import subprocess
import sys

import pytest

import weir_client

PUBLIC = [
    "Answer",
    "Approval",
    "AuditReport",
    "Balance",
    "Case",
    "Client",
    "Column",
    "Contract",
    "ContractSignature",
    "Coverage",
    "Dataset",
    "Dimension",
    "Duty",
    "EncryptedAnswer",
    "Entry",
    "Estimate",
    "Exposure",
    "Identity",
    "InclusionProof",
    "Job",
    "KeyPair",
    "Measure",
    "Meter",
    "MeterTotal",
    "Noise",
    "PolicyChange",
    "PolicyDifference",
    "Quota",
    "RateCard",
    "Receipt",
    "Sandbox",
    "SealedTable",
    "SigningKey",
    "Snapshot",
    "Standing",
    "StandingTerms",
    "Suspension",
    "add_sealed",
    "aio",
    "connect",
    "errors",
    "generate_keypair",
    "load_identity",
    "receipt_from_json",
]


def test_the_public_surface_is_this_list():
    assert sorted(weir_client.__all__) == sorted(PUBLIC)
    assert sorted(weir_client.aio.__all__) == ["Client", "Job", "connect"]


def test_every_public_name_exists_has_a_docstring_and_shows_the_public_module():
    for name in weir_client.__all__:
        member = getattr(weir_client, name)
        assert inspect.getdoc(member), name
        if not inspect.ismodule(member):
            assert member.__module__ == "weir_client", name


def test_nothing_else_is_public():
    modules = {"aio", "cli", "demo", "errors", "testing"}
    extra = {name for name in vars(weir_client) if not name.startswith("_")} - set(weir_client.__all__)
    assert extra <= modules | {"annotations"}
    found = {module.name for module in pkgutil.iter_modules(weir_client.__path__)}
    assert {name for name in found if not name.startswith("_")} <= modules


@pytest.mark.parametrize("member", [weir_client.Client, weir_client.aio.Client, weir_client.Answer])
def test_every_public_method_has_a_docstring(member):
    for name, method in inspect.getmembers(member):
        if not name.startswith("_") and (callable(method) or isinstance(method, property)):
            assert inspect.getdoc(method), name


def test_the_sdk_imports_nothing_that_only_extras_bring():
    script = (
        "import sys, weir_client, weir_client.cli, weir_client.testing;"
        "heavy = {'pandas', 'duckdb', 'opendp', 'yaml', 'prometheus_client', 'weir_server', 'scipy', 'statsmodels'};"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
