"""The rules of the copies' life, each with a scope of `model_copies` in which it is missed when it is left out."""

from __future__ import annotations

RULES = {  # name: (what it says, a scope in which it is missed)
    "wait for who is filled": (
        "from the last chunk of a fill on its owner commits nothing without the copy, before any table says so",
        "a copy joins",
    ),
    "refuse the deposed": (
        "who knows a later reign does not acknowledge packs of an earlier one",
        "a deposed owner that is late",
    ),
    "one lane": (
        "chunks of a fill and packs arrive in the order in which they were sent",
        "a copy joins",
    ),
    "marks in the lane": (
        "the mark that seals a hand-over arrives after all packs",
        "a hand-over has begun",
    ),
    "all claims": (
        "a hand-over is ACTIVE when all copies have the mark, not just its new owner",
        "a hand-over has begun",
    ),
    "donor stops": (
        "who knows that it is the donor applies nothing",
        "a hand-over has begun",
    ),
    "claims of this term": (
        "a claim counts at its own term only",
        "a copy joins",
    ),
    "fills of this term": (
        "a fill belongs to one term, and starts again at another",
        "a copy joins",
    ),
    "promote members": (
        "only a member of the last ACTIVE configuration is promoted, not who is joining",
        "a copy joins",
    ),
    "promote alone": (
        "who is promoted starts alone, and fills the others again",
        "three copies and a change of owner",
    ),
    "ask the promoted": (
        "a promotion counts when the promoted itself says that it is there",
        "two copies",
    ),
    "say that it knows": (
        "where fewer copies than wanted stay, a copy is left out once the owner has said that it knows",
        "two copies",
    ),
    "keep while PENDING": (
        "a copy is deleted when a configuration is ACTIVE without it, not before",
        "two copies",
    ),
    "name all": (
        "a PENDING configuration names all members of the last ACTIVE one",
        "three copies",
    ),
    "returned rest": (
        "who returns with its disk goes on with nothing at the term at which it ended",
        "two copies, and somebody returns",
    ),
    "mark when durable": (
        "a donor's marks wait until all that it has applied is on its own disk",
        "two copies, and somebody returns",
    ),
    "another process": (
        "who starts again with an empty memory is another process",
        "two copies",
    ),
}
