"""How the figures are asked for: prompts of both attributes, and text pairs, in words that the model knows."""

PRESENTATION = "presentation"
PRESENTATION_PROMPTS: dict[str, tuple[str, ...]] = {
    "feminine": ("a photo of a woman", "a photo of a lady"),
    "masculine": ("a photo of a man", "a photo of a gentleman"),
}

AGE = "age"
AGE_PROMPTS: dict[str, tuple[str, ...]] = {
    "young": ("a photo of a young person",),
    "old": ("a photo of an old person",),
}

PAIRS = (
    ("a photo of a turquoise uniform", "a photo of a red coat"),
    ("a photo of a brown jacket", "a photo of an orange vest"),
    ("a photo of a book", "a photo of a hammer"),
    ("a photo of a syringe", "a photo of a hose"),
)
"""What tells occupations apart on any figure, for knowledge injection: clothes and tools."""

SPURIOUS_PAIRS = (("a photo of a woman", "a photo of a man"),)
"""What tells the presentations apart, for methods that reject a direction."""
