"""What a head does: the texts that span it, the images that have most of it, and where in an image it reads."""

from headlens.errors import ExplainError
from headlens.explain.attribute import AttributeEncoding, Separation, among_selected, attribute_encoding
from headlens.explain.caption_shares import CaptionShares, caption_shares
from headlens.explain.explanation import Explanation, overview
from headlens.explain.heads import explain_heads, image_parts
from headlens.explain.label import NO_CLEAR_MEANING, LabelRule
from headlens.explain.logit_lens import LogitLens, logit_lens
from headlens.explain.poles import Faithfulness, Pole
from headlens.explain.segment import Segmentation, masks_as_seen, segment
from headlens.explain.textspan import textspan, textspan_heads
from headlens.explain.token_maps import as_seen, own_maps, token_maps
from headlens.explain.top_images import TopImages, top_images
from headlens.locate.textspan import TextSpan

__all__ = [
    "NO_CLEAR_MEANING",
    "AttributeEncoding",
    "CaptionShares",
    "ExplainError",
    "Explanation",
    "Faithfulness",
    "LabelRule",
    "LogitLens",
    "Pole",
    "Segmentation",
    "Separation",
    "TextSpan",
    "TopImages",
    "among_selected",
    "as_seen",
    "attribute_encoding",
    "caption_shares",
    "explain_heads",
    "image_parts",
    "logit_lens",
    "masks_as_seen",
    "overview",
    "own_maps",
    "segment",
    "textspan",
    "textspan_heads",
    "token_maps",
    "top_images",
]
