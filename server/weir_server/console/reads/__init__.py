# SPDX-License-Identifier: Apache-2.0
"""What pages read of the books beyond any call: by key, a bounded number of rows each."""
