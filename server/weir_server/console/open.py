# SPDX-License-Identifier: Apache-2.0
"""Opens the console of a running server: desk, application and listener, from what the server is made of."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509

from weir_server.config import ConsoleSettings
from weir_server.console.desk import Desk, environment, monotonic
from weir_server.console.figures import Figures
from weir_server.console.gate import Gate
from weir_server.console.listener import ConsoleListener
from weir_server.console.sessions import Sessions
from weir_server.console.web import build
from weir_server.identity.authentication import Authentication
from weir_server.identity.pki import Domain
from weir_server.services.admission import Admission
from weir_server.services.audit import AuditService
from weir_server.services.cases import CaseAdminService, CaseService
from weir_server.services.contracts import ContractService
from weir_server.services.policy import PolicyService
from weir_server.services.quota import QuotaAdminService
from weir_server.state import State
from weir_server.store import Store


def open_console(desk: Desk, *, host: str, port: int) -> ConsoleListener:
    """A bound listener that serves the desk once it is started.

    Raises:
        Unavailable: the address cannot be taken.
    """
    return ConsoleListener(build(desk), host=host, port=port, data_dir=desk.data_dir)


def make_desk(
    *,
    data_dir: Path,
    domain: Domain,
    log_key: str,
    witness_key: str,
    state: State,
    store: Store,
    settings: ConsoleSettings,
    admission: Admission,
    authentication: Authentication,
    healthy: Callable[[], bool],
    now: Callable[[], datetime],
) -> Desk:
    """A desk over the parts of a server."""
    return Desk(
        data_dir=data_dir,
        domain=domain.name,
        log_key=log_key,
        witness_key=witness_key,
        hosts=hosts_of(domain.server_certificate),
        revoked=authentication.revoked,
        authenticate=lambda pem: authentication.caller(pem, (), now=now()),
        state=state,
        store=store,
        gate=Gate(services(state, store), store, now=now),
        sessions=Sessions(settings, clock=monotonic, entropy=os.urandom),
        admission=admission,
        healthy=healthy,
        now=now,
        templates=environment(),
        figures=Figures(state, store, now=now, clock=monotonic),
    )


def services(state: State, store: Store) -> dict[str, object]:
    """The services that screens call, by full name: the very classes that the gRPC listeners serve."""
    return {
        "weir.v1.AuditService": AuditService(store),
        "weir.v1.CaseService": CaseService(state, store),
        "weir.v1.CaseAdminService": CaseAdminService(state),
        "weir.v1.ContractService": ContractService(state, store),
        "weir.v1.PolicyService": PolicyService(state),
        "weir.v1.QuotaAdminService": QuotaAdminService(state, store),
    }


def hosts_of(certificate: bytes) -> frozenset[str]:
    """Names and addresses that the server's certificate holds, in small letters."""
    names = (
        x509.load_pem_x509_certificate(certificate)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    found = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return frozenset(found | {str(address) for address in names.get_values_for_type(x509.IPAddress)})
