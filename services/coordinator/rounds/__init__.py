"""Trainings and their rounds: decisions (`lifecycle`), what is decided on (`situation`), what is done (`advance`).

    joining ── selecting ── training ── aggregating ── evaluating ── finished
                   ▲            │ ▲ deadline below     │    │
                   │            └─┘ the quorum         │    │ every few rounds
                   └────────────────────────────────────────┘

A training runs through these phases, each step one database transaction. Pausing it keeps the phase that it is in.
"""
