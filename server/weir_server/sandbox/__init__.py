# SPDX-License-Identifier: Apache-2.0
"""The sandbox: the same stages on synthetic rows, drawn from cards alone. None of it can reach data."""
