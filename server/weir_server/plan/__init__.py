# SPDX-License-Identifier: Apache-2.0
"""From a submission to a plan: binding, analysis and pricing. Pure: nothing here touches data."""
