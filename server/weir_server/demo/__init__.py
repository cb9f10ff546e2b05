# SPDX-License-Identifier: Apache-2.0
"""`weir demo`: the main job from publication to audit, on real public data, with real processes.

Every actor is a process of its own and holds only its own identity: the server, the operator (`weir publish`, `weir
apply`, `weir quota`), the requester (`weir_client.demo.requester`, the SDK over gRPC and nothing else) and the auditor
(`weir audit verify`). The demo ends with an error if any step is not as promised.
"""
