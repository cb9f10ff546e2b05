# SPDX-License-Identifier: Apache-2.0
"""What is published: dataset cards, snapshots on disk, and the catalogue a query is bound against."""
