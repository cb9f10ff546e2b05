# SPDX-License-Identifier: Apache-2.0
"""The screens: one module each, and the table of their routes in `table`."""
