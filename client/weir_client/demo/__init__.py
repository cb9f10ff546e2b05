# SPDX-License-Identifier: Apache-2.0
"""The requester's part of `weir demo`: the SDK over gRPC, and nothing else."""
