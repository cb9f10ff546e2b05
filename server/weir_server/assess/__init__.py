# SPDX-License-Identifier: Apache-2.0
"""Assessment of a source: how far its units can be told apart by what others may know of them."""
