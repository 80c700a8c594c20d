"""Import name: embodied_mem.experiments. Presets, benches and the scripts that reproduce each published table."""
