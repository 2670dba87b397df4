"""The prompts of `FiveTasks`, each of the three parts of the paper: what to do, what is known of the user, how to answer.

Whatever stands in braces is put in once, and texts of others come quoted, so a title with braces stays a title.
"""

from __future__ import annotations

from dataclasses import dataclass

from tongtu.llm.tasks import Task


@dataclass(frozen=True)
class Template:
    """The prompt of one task.

    Attributes:
        version: Changes with every word of it.
        description: What to do.
        behaviour: What is known: the history and the subject of the question.
        example: One example out of the user's own past; `examples` is the line above them.
        form: How to answer, so that the answer can be read.
    """

    version: str
    description: str
    behaviour: str
    examples: str
    example: str
    form: str


TEMPLATES: dict[Task, Template] = {
    "rating": Template(
        "rating-1",
        "A person gives {items} from {low} star (the worst) to {high} stars (the best).",
        "The {item} to rate now:\n{subject}",
        "Other {items} that this person rated:",
        "{subject}\nStars: {output}",
        "How many stars will this person give it? Write only the number.",
    ),
    "sequential": Template(
        "sequential-1",
        "Predict which {items} a person turns to next. Name {k}, and begin with the likeliest.",
        "So far this person {event}, one after another, the newest last:\n{history}",
        "What this person {event} after others:",
        "{history} -> {output}",
        "Write the titles of {k} other {items}, one on each line, and nothing else.",
    ),
    "direct": Template(
        "direct-1",
        "Choose the {k} candidates that suit a person best, and put them in order, the best first.",
        "In no particular order, this person {event}:\n{history}\nCandidates:\n{candidates}",
        "What this person chose after others:",
        "{history} -> {output}",
        "Write the labels of {k} candidates, such as [{label}], one on each line, and nothing else.",
    ),
    "explanation": Template(
        "explanation-1",
        "A person gave {stars} of {high} stars to one {item}. Explain why, in that person's own words.",
        "Before, this person {event}:\n{history}\nThe {item}: {subject}\nStars: {stars}",
        "How this person explained stars before:",
        "{subject}, {stars} stars -> {output}",
        "Write one sentence of about {words} words and nothing else.",
    ),
    "summary": Template(
        "summary-1",
        "Put a headline over a review, as the person who wrote the review would.",
        "The review: {subject}",
        "Headlines of this person over earlier reviews:",
        "{subject} -> {output}",
        "Write about {words} words and nothing else.",
    ),
}
