"""Does the model withstand the attacks, or does it merely hide its gradients from them?

Sixteen checks on samples that are classified correctly: ``gradients`` asks whether gradients are
there and true, ``strength`` whether stronger attacks find more, ``behaviour`` whether the model
answers the same question the same way. ``verdict`` weighs them and puts them into words.
"""
