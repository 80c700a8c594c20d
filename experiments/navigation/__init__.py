"""When does a map pay? Agents with maps, with sequence memories and with none on House, by goals, house size, revisits.

- `plan`: agents, tasks and cells. `run`: trains and plays what is missing, writes the result (one command).
"""
