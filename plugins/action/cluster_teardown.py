# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.confidential.containers.plugins.module_utils.actions import cluster_teardown as work
from ansible_collections.confidential.containers.plugins.plugin_utils.front import Front


class ActionModule(Front):
    work = work
