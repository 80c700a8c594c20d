"""AI2-THOR: Gymnasium environments over the client `ai2thor`, and a stand-in player for machines without Unity."""
