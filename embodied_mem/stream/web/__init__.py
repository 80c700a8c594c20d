"""The web page of running sessions (extra ``web``): live video, what the memory keeps, questions and answers."""
