"""Training: a recipe becomes a checkpoint, and a stopped run continues bit for bit."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports

if TYPE_CHECKING:
    from robustmix.training.loop import TrainResult as TrainResult
    from robustmix.training.loop import train as train
    from robustmix.training.recipe import Recipe as Recipe
    from robustmix.training.recipe import list_recipes as list_recipes
    from robustmix.training.recipe import load_recipe as load_recipe
    from robustmix.training.recipe import resolve_recipe as resolve_recipe
    from robustmix.training.recipe import write_recipe as write_recipe
    from robustmix.training.schedules import learning_rate as learning_rate

_EXPORTS = {
    "Recipe": "robustmix.training.recipe",
    "TrainResult": "robustmix.training.loop",
    "learning_rate": "robustmix.training.schedules",
    "list_recipes": "robustmix.training.recipe",
    "load_recipe": "robustmix.training.recipe",
    "resolve_recipe": "robustmix.training.recipe",
    "train": "robustmix.training.loop",
    "write_recipe": "robustmix.training.recipe",
}

__all__ = [
    "Recipe",
    "TrainResult",
    "learning_rate",
    "list_recipes",
    "load_recipe",
    "resolve_recipe",
    "train",
    "write_recipe",
]

__getattr__ = lazy_exports(__name__, _EXPORTS)
