"""A driver for a pretend host: everything but the kernel is real. See `driver`."""

from orchestrator.drivers.simulated.driver import SimulatedDriver
from orchestrator.drivers.simulated.faults import Fault
from orchestrator.drivers.simulated.images import PretendImage, write_image

__all__ = ["Fault", "PretendImage", "SimulatedDriver", "write_image"]
