# SPDX-License-Identifier: Apache-2.0
"""Whether a process should be sent calls and its books written to, and what a machine lacks for it."""
