"""A zero-shot task: classes and the templates that their names are put into."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from headlens.errors import TaskError
from headlens.prompts.encode import EncodeText, check_prompts, directions


class ZeroShotTask:
    """Classes to choose between, by name.

    The embedding of class c is the mean over templates of the text embeddings of template(c), not normalised one by
    one, then brought to unit norm.

    Args:
        classes: the names, in the order in which labels count them.
        templates: one or more texts with {} where the name goes.

    Raises:
        TaskError: for fewer than two classes, an empty or repeated name, no template, or one without exactly one {}.
    """

    def __init__(self, classes: Sequence[str], templates: str | Sequence[str] = "a photo of a {}"):
        if isinstance(classes, str) or len(classes) < 2:
            raise TaskError("two classes or more", f"{classes!r}", "Name what an image is to be told apart from.")
        self.classes = tuple(classes)
        for name in self.classes:
            check_prompts("a class", [name])
        repeated = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if repeated:
            raise TaskError("each class once", f"{repeated[0]!r} more than once", "Remove the repetition.")
        self.templates = check_prompts("the templates", [templates] if isinstance(templates, str) else templates)
        for template in self.templates:
            if template.count("{}") != 1 or "{" in template.replace("{}", "") or "}" in template.replace("{}", ""):
                raise TaskError(
                    "templates with one {} where the class name goes", repr(template), "Write 'a photo of a {}', say."
                )

    def __repr__(self) -> str:
        return f"ZeroShotTask({list(self.classes)}, {list(self.templates)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZeroShotTask) and (self.classes, self.templates) == (other.classes, other.templates)

    def __hash__(self) -> int:
        return hash((self.classes, self.templates))

    def prompts(self) -> tuple[str, ...]:
        """One text a class, from the first template."""
        return tuple(self.prompts_of(name)[0] for name in self.classes)

    def prompts_of(self, name: str) -> tuple[str, ...]:
        """The texts of one class, one a template."""
        return tuple(template.format(name) for template in self.templates)

    def classifier(self, encode_text: EncodeText) -> Float[Tensor, "class embed"]:
        """The class embeddings, rows of norm one. `encode_text` is `clip.encode_text`.

        Raises:
            TaskError: for two classes whose embeddings coincide, or embeddings that are not finite.
        """
        return directions([(name, self.prompts_of(name)) for name in self.classes], encode_text, "classes")

    def index(self, labels: Sequence[str]) -> list[int]:
        """The numbers of labels given by name. Raises `TaskError` for one that is not among the classes."""
        number = {name: i for i, name in enumerate(self.classes)}
        for label in labels:
            if label not in number:
                raise TaskError(
                    f"labels among the classes {', '.join(self.classes)}",
                    repr(label),
                    "Correct the label, or add the class.",
                )
        return [number[label] for label in labels]

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values for JSON; `ZeroShotTask(**plain)` reads them back."""
        return {"classes": list(self.classes), "templates": list(self.templates)}
