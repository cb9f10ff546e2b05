# SPDX-License-Identifier: Apache-2.0
"""Backup and restore that never give budget back.

A copy of the books is older than the books. Putting it in force as it is would hand out again what was spent since, and
fork the log. So a restore first brings the copy forward with the entries that the exported log still has, and refuses
where a checkpoint that anybody kept shows that it ends too early, unless every privacy budget is closed for good.
"""

from weir_server.backup.copying import back_up
from weir_server.backup.restoring import Restored, restore

__all__ = ["Restored", "back_up", "restore"]
