# SPDX-License-Identifier: Apache-2.0
"""The server of a data domain. Needs the extra `server`; the SDK does not."""

from importlib.util import find_spec

_NEEDED = ("duckdb", "grpc_health", "grpc_reflection", "opendp", "prometheus_client", "yaml")

if any(find_spec(name) is None for name in _NEEDED):
    raise ImportError("weir_server needs more than the SDK: pip install 'dataweir[server]'")
