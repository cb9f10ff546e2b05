# SPDX-License-Identifier: Apache-2.0
"""Who calls: certificates and the domain's own authority, tokens beside them, what was issued, renewed and revoked."""
