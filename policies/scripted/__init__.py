"""Scripted agents: oracles, experts and random play, found by the registry kind `agent`."""
