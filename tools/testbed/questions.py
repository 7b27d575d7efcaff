"""How the testbed is asked: class templates, the attribute's prompts, and text pairs, in words that it knows."""

TEMPLATES = ("a photo of a {}",)

ATTRIBUTE = "background"
ATTRIBUTE_PROMPTS = {
    "land": ("a photo of the land", "a photo of dry land"),
    "water": ("a photo of the water", "a photo of open water"),
}

PAIRS = (
    ("a duck", "a sparrow"),
    ("a swan", "a crow"),
    ("a heron", "a robin"),
    ("a gull", "a finch"),
    ("a flamingo", "a parrot"),
    ("a gallinule", "an oriole"),
)
"""What tells waterbirds from landbirds wherever they are, for knowledge injection: their kinds."""

SPURIOUS_PAIRS = (("a photo of the water", "a photo of the land"),)
"""What tells the backgrounds apart, for methods that reject a direction."""
