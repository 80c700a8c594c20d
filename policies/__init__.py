"""Import name: embodied_mem.policies. RLlib training, scripted experts and what is built on them."""
