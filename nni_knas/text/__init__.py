"""Labelled texts, pre-trained encoders, and the training of classifiers over them."""
