"""How the testbed is asked: class templates, the attribute's prompts, and text pairs, in words that it knows."""

TEMPLATES = ("a photo of a {}",)

ATTRIBUTE = "background"
ATTRIBUTE_PROMPTS = {
    "land": ("a photo of the land", "a photo of dry land"),
    "water": ("a photo of the water", "a photo of open water"),
}

PAIRS = (
    ("a bird with webbed feet", "a bird with talons"),
    ("a bird with a long neck", "a bird with a short neck"),
)
"""True features of waterbirds and landbirds, for knowledge injection."""

SPURIOUS_PAIRS = (("a photo of the water", "a photo of the land"),)
"""What tells the backgrounds apart, for methods that reject a direction."""
