"""TIDEE (Sarch et al. 2022): tidy a house with an associative memory of tidy ones.

- `scene`      objects of a house as arrays, their spatial relations, and how a mess is made.
- `rgcn`       relational graph convolution.
- `placement`  the memory network: which receptacle an object belongs to.
- `misplaced`  which objects are out of place.
- `search`     where on the map a receptacle is likely to be.
- `training`   trains the three on House or ProcTHOR plans with displaced objects.
- `tidy`       the tidy task, its metrics and ablations.
"""
