# SPDX-License-Identifier: Apache-2.0
"""The console: what operators and auditors see in a browser, on an HTTPS listener of its own.

    browser ──TLS──► listener   certificate optional, by the domain's own authority
                     web        headers, host, size, rate; then session, role, CSRF, fresh proof; one table of screens
                     screens/   one module per screen: reads, calls, renders
                     gate       calls the services of the gRPC listeners in-process, by the same table of access
                     reads/     pages by key on the store, for what no call offers

Nothing is decided here: whatever changes something goes through the same service functions as gRPC, with the same keys,
reasons and log entries. Pages hold names, amounts and public declarations; there is no data to show.
"""
