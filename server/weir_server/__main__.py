# SPDX-License-Identifier: Apache-2.0
"""`python -m weir_server serve …`: the server's commands alone, without the SDK's; what a supervisor starts."""

import click

from weir_server.cli import register


@click.group()
def main() -> None:
    """Commands of a Weir server."""


register(main)

if __name__ == "__main__":
    main()
