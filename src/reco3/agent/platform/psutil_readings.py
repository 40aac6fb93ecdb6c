"""What psutil tells of the whole PC, for systems that have no quicker way.

It knows no system by name, and computes nothing that the caller could.
"""

from collections.abc import Mapping

import psutil

from reco3.agent.platform.readings import DiskReading, InterfaceReading, MemoryReading, ProcessorReading


def read_memory() -> MemoryReading:
    """Return the physical memory. Raises: OSError."""
    memory = psutil.virtual_memory()
    return MemoryReading(memory.total, memory.available)


def read_disk(path: str) -> DiskReading:
    """Return the file system that holds a path. Raises: OSError."""
    disk = psutil.disk_usage(path)
    return DiskReading(disk.total, disk.used, disk.free)


def read_processor() -> ProcessorReading:
    """Return how long the processors have worked. Raises: OSError."""
    times = psutil.cpu_times()
    total_s = sum(times)
    return ProcessorReading(total_s - times.idle, total_s)


def read_interfaces() -> Mapping[str, InterfaceReading]:
    """Return every network interface. Raises: OSError."""
    counters = psutil.net_io_counters(pernic=True)
    return {name: InterfaceReading(one.bytes_sent, one.bytes_recv) for name, one in counters.items()}
