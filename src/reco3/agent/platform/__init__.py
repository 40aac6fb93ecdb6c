"""What differs between operating systems, behind one name each, chosen here once.

Callers import from here and never branch on the system; nothing here decides anything.
"""

import sys

if sys.platform == "win32":
    from reco3.agent.platform.windows import (
        NAME,
        boot_id,
        created_at_ms,
        fold_name,
        host_name,
        is_physical_interface,
        list_children,
        list_processes,
        open_shared,
        read_command_line,
        read_service_state,
        read_status,
        service_state_argv,
        service_steps,
        system_disk_path,
    )
elif sys.platform == "darwin":
    from reco3.agent.platform.macos import (
        NAME,
        boot_id,
        created_at_ms,
        fold_name,
        host_name,
        is_physical_interface,
        list_children,
        list_processes,
        open_shared,
        read_command_line,
        read_service_state,
        read_status,
        service_state_argv,
        service_steps,
        system_disk_path,
    )
else:
    from reco3.agent.platform.linux import (
        NAME,
        boot_id,
        created_at_ms,
        fold_name,
        host_name,
        is_physical_interface,
        list_children,
        list_processes,
        open_shared,
        read_command_line,
        read_service_state,
        read_status,
        service_state_argv,
        service_steps,
        system_disk_path,
    )

__all__ = [
    "NAME",
    "boot_id",
    "created_at_ms",
    "fold_name",
    "host_name",
    "is_physical_interface",
    "list_children",
    "list_processes",
    "open_shared",
    "read_command_line",
    "read_service_state",
    "read_status",
    "service_state_argv",
    "service_steps",
    "system_disk_path",
]
