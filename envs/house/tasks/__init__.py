"""House tasks, one file each; `envs/registration.py` names them."""
