# SPDX-License-Identifier: Apache-2.0
"""Who may ask what: contracts, decisions, approvals, suspensions, and how operators change them."""
