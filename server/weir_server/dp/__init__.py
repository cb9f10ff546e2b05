# SPDX-License-Identifier: Apache-2.0
"""The `dp` technique: user-level differential privacy from a snapshot's bounded store."""
