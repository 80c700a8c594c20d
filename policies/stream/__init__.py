"""Training of what a stream memory writes, by the reward of questions, with RLlib.

Import name: `embodied_mem.policies.stream`.

- `memorise`: `MemoriseEnv`, one frame per step, a reward wherever a question is asked; streams of painted houses.
- `writer`: `WriterModule`, the adapter of `stream.memories.task_mem` as an RLlib module, and `train_writer`.
"""
