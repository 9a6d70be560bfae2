"""Training: a recipe becomes a checkpoint, and a stopped run continues bit for bit."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.training.catalogue import list_recipes as list_recipes
    from robustmix.training.loop import TrainResult as TrainResult
    from robustmix.training.loop import train as train
    from robustmix.training.recipe import Recipe as Recipe
    from robustmix.training.recipe_dict import write_recipe as write_recipe
    from robustmix.training.resolve import load_recipe as load_recipe
    from robustmix.training.resolve import resolve_recipe as resolve_recipe
    from robustmix.training.schedules import learning_rate as learning_rate

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
