"""Questions about walks through painted houses: tours with an exact log, questions, and the head that answers."""
