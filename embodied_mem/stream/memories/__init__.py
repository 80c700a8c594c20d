"""Stream memories, one file each; see `embodied_mem.stream.memory` for the contract."""
