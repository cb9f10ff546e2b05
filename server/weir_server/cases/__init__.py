# SPDX-License-Identifier: Apache-2.0
"""Complaints, incidents and disputes: filed, accepted, handled, closed; each step a leaf, the whole evidence."""
