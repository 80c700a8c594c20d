"""Import name: embodied_mem.kernels. Triton kernels beside plain references that give the same numbers."""
