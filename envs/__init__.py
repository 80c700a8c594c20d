"""Import name: embodied_mem.envs. Importing it registers every built-in environment with Gymnasium (strings only)."""

from embodied_mem.envs.registration import ENVIRONMENTS, register_all

register_all()

__all__ = ["ENVIRONMENTS"]
