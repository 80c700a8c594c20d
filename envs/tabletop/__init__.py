"""Tabletop: a Franka Panda under MuJoCo physics and tasks that it can only do by remembering. Needs ``envs-mujoco``."""
