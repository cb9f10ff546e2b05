# SPDX-License-Identifier: Apache-2.0
"""`python -m weir_client.cli`: the `weir` command of this very interpreter."""

from weir_client.cli import main

if __name__ == "__main__":
    main()
