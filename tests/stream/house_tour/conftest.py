"""One walk of half an hour through five houses, drawn once for all tests here."""

import numpy as np
import pytest

from embodied_mem.perception.house_words import PAIRS, WIDTH
from embodied_mem.stream.house_tour.tours import TourStream, whole_log


@pytest.fixture(scope="session")
def tour_log():
    return whole_log([chunk.log for chunk in TourStream(2000, seed=3, split="test", houses=5).chunks()])


@pytest.fixture(scope="session")
def perfect_tokens(tour_log):
    """Tokens of an encoder that makes no mistakes."""
    tokens = np.zeros((len(tour_log), WIDTH), np.float32)
    tokens[:, :PAIRS] = tour_log.seen
    tokens[np.arange(len(tour_log)), PAIRS + tour_log.walls] = 1.0
    return tokens
